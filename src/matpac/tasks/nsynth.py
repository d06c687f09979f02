"""NSynth (Engel et al. 2017): 305,979 notes of 4 s, instrument family of 11, official train/valid/test."""

import json
from pathlib import Path

import numpy as np

from matpac.tasks.metadata import metadata_file
from matpac.tasks.splits import Split
from matpac.tasks.task import Task, TaskError, make_task

UNIT_SECONDS = 4.0
FAMILIES = [
    *("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string"),
    *("synth_lead", "vocal"),
]  # in the order of `instrument_family`; synth_lead is in train alone
LABEL = "instrument_family_str"


def read_nsynth(root: Path) -> Task:
    """`nsynth-{train,valid,test}/examples.json` and `audio/*.wav`. Raises TaskError."""
    paths: list[str] = []
    numbers: list[int] = []
    parts = []
    for part in ("train", "valid", "test"):
        file = metadata_file("nsynth", root, f"nsynth-{part}/examples.json")
        notes = _read_notes(file)
        parts.append(np.arange(len(paths), len(paths) + len(notes)))
        folder = str(file.parent / "audio")
        paths += [f"{folder}/{note}.wav" for note in notes]
        numbers += notes.values()
    labels = np.array(numbers, np.int64)
    return make_task(
        "nsynth", "single", FAMILIES, paths, labels, [Split(*parts)],
        unit_seconds=UNIT_SECONDS, fold_names=["official"],
    )  # fmt: skip


def _read_notes(file: Path) -> dict[str, int]:
    """Note → number of its family. Records are dropped while the file is read: 289 k of them are gigabytes."""
    numbers = {family: number for number, family in enumerate(FAMILIES)}

    def only_family(record: dict[str, object]) -> object:
        if LABEL not in record:
            return record  # the outermost, note → record
        family = record[LABEL]
        if not isinstance(family, str) or family not in numbers:
            raise TaskError(f"nsynth: {file}: {LABEL} {family!r} is none of the 11 families; download it again")
        return numbers[family]

    try:
        notes = json.loads(file.read_bytes(), object_hook=only_family)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"nsynth: {file}: not valid JSON ({error}); download it again") from error
    if not isinstance(notes, dict) or not notes:
        raise TaskError(f"nsynth: {file}: holds no notes; download it again")
    for note, number in notes.items():
        if not isinstance(number, int):
            raise TaskError(f"nsynth: {file}: note {note!r} has no {LABEL}; download it again")
    return notes
