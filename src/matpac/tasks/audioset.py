"""AudioSet (Gemmeke et al. 2017): 2.1 million clips of 10 s from YouTube, 527 classes, several a clip.

About a tenth of the clips is always missing, since videos go; which ones is another matter in every copy, so that
scores of two copies differ a little.
"""

import csv
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from matpac.audio import AUDIO_SUFFIXES
from matpac.files.hub import cache_folder
from matpac.files.label_files import LabelFileError, read_audioset_labels
from matpac.tasks.metadata import metadata_file, opened_table
from matpac.tasks.split import hold_out
from matpac.tasks.splits import Split
from matpac.tasks.task import Task, TaskError, make_task

UNIT_SECONDS = 10.0
BALANCED, UNBALANCED, EVALUATION = "balanced_train", "unbalanced_train", "eval"
FOLDERS = ("", "metadata/", "csv/")
"""Below the root, where the tables may lie; the clips may lie anywhere."""
CLASS_FILE = "class_labels_indices.csv"
COLUMNS = 4
"""YTID, start_seconds, end_seconds, "positive_labels"."""
ID_LENGTH = 11
"""Of YouTube's names of videos."""
TIMES = re.compile(r"(_[\d.]+){0,2}")
"""What may follow the name: the start, or start and end, in any unit."""
VALIDATION = (
    "Validation: a tenth of the balanced training set, stratified (seed 0); eval_segments.csv is the test set and "
    "chooses nothing."
)
ORDER = "Classes in the order of their mids, which is that of the published tagger's head."


def read_audioset(name: str, balanced_alone: bool, root: Path) -> Task:
    """`balanced_train_segments.csv`, `unbalanced_train_segments.csv` (not needed), `eval_segments.csv` and
    `class_labels_indices.csv` in `root`, its `metadata/` or `csv/`; the clips in any folders below `root`.

    A clip's file is called by its YTID, perhaps with a Y before it and `_start` or `_start_end` behind, in any
    format. Train: balanced and unbalanced set; a tenth of the balanced one, in which every class has clips, is
    held out as validation; test: eval.

    Raises:
        TaskError: a table is not there or damaged, has a label that is no class, or a clip twice.
    """
    labels_of = _classes(name, root)
    notes = [VALIDATION, ORDER]
    files = {BALANCED: metadata_file(name, root, *_places(f"{BALANCED}_segments.csv"))}
    if not balanced_alone:
        places = [root / place for place in _places(f"{UNBALANCED}_segments.csv")]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            notes.append(f"{UNBALANCED}_segments.csv is not there: the balanced set alone is trained on.")
        else:
            files[UNBALANCED] = found
    files[EVALUATION] = metadata_file(name, root, *_places(f"{EVALUATION}_segments.csv"))

    clips: dict[str, int] = {}
    ends, rows, columns = [], array("q"), array("q")
    numbers = {mid: number for number, mid in enumerate(labels_of)}
    for file in files.values():
        _read_segments(name, file, numbers, clips, rows, columns)
        ends.append(len(clips))
    labels = np.zeros((len(clips), len(labels_of)), np.uint8)
    labels[np.frombuffer(rows, np.int64), np.frombuffer(columns, np.int64)] = 1
    return make_task(
        name, "multi", list(labels_of.values()), _paths(root, clips, notes), labels, [_split(labels, ends)],
        unit_seconds=UNIT_SECONDS, fold_names=["official"], notes=notes,
    )  # fmt: skip


read_audioset_2m = partial(read_audioset, "audioset", False)
read_audioset_20k = partial(read_audioset, "audioset20k", True)
"""The balanced training set alone."""


def _places(file: str) -> list[str]:
    return [folder + file for folder in FOLDERS]


def _classes(name: str, root: Path) -> dict[str, str]:
    """mid → display name, by mid; the file that names the published tagger's classes serves too."""
    cached = cache_folder() / CLASS_FILE
    if cached.is_file() and not any((root / place).is_file() for place in _places(CLASS_FILE)):
        file = cached
    else:
        file = metadata_file(name, root, *_places(CLASS_FILE))
    try:
        return read_audioset_labels(file)
    except LabelFileError as error:
        raise TaskError(f"{name}: {error}") from error


def _read_segments(
    name: str,
    file: Path,
    numbers: dict[str, int],
    clips: dict[str, int],
    rows: "array[int]",
    columns: "array[int]",
) -> None:
    """Add a table's clips, and the places of their labels: (row, column) of the matrix of all labels."""
    before = len(clips)
    with opened_table(f"{name}: {file}", file) as text:
        reader = csv.reader(text, skipinitialspace=True)
        for cells in reader:
            if not cells or cells[0].startswith("#") or cells[0] == "YTID":
                continue
            if len(cells) != COLUMNS or len(cells[0]) != ID_LENGTH:
                raise TaskError(
                    f'{name}: {file}: line {reader.line_num} is not YTID, start, end, "labels"; download it again'
                )
            clip = cells[0]
            if clip in clips:
                raise TaskError(f"{name}: {file}: clip {clip} is there twice, or in another set; remove one")
            for mid in cells[3].split(","):
                if mid not in numbers:
                    raise TaskError(
                        f"{name}: {file}: label {mid!r} of clip {clip} is none of the {len(numbers)} classes of "
                        f"{CLASS_FILE}; check both files"
                    )
                rows.append(len(clips))
                columns.append(numbers[mid])
            clips[clip] = len(clips)
    if len(clips) == before:
        raise TaskError(f"{name}: {file}: has no clips; download it again")


def _split(labels: UInt8[np.ndarray, "clip class"], ends: Sequence[int]) -> Split:
    """Of clips in the order balanced, (unbalanced,) eval, whose ends are given."""
    train, valid = hold_out(labels, np.arange(ends[0]))
    return Split(np.concatenate([train, np.arange(ends[0], ends[-2])]), valid, np.arange(ends[-2], ends[-1]))


def _paths(root: Path, clips: dict[str, int], notes: list[str]) -> list[str]:
    """Where each clip lies; of those that are nowhere, where they could."""
    found: list[str | None] = [None] * len(clips)
    twice = 0
    for folder, file in _sounds(root):
        row = _row(file[: file.rindex(".")], clips)
        if row is None:
            continue
        if found[row] is None:
            found[row] = f"{folder}{os.sep}{file}"
        else:
            twice += 1
    if twice:
        notes.append(f"{twice} sounds are further files of a clip and are not used (the first by name is).")
    return [f"{root}{os.sep}{clip}" if path is None else path for clip, path in zip(clips, found, strict=True)]


def _row(stem: str, clips: dict[str, int]) -> int | None:
    """The clip that a file name means."""
    for begin in (0, 1) if stem.startswith("Y") else (0,):
        row = clips.get(stem[begin : begin + ID_LENGTH])
        if row is not None and TIMES.fullmatch(stem, begin + ID_LENGTH):
            return row
    return None


def _sounds(root: Path) -> Iterator[tuple[str, str]]:
    """(folder, name) of the sounds below, in order; each folder is listed once, and no file is looked at."""

    def unreadable(error: OSError) -> None:
        raise TaskError(f"{error.filename}: can't be listed ({error.strerror}); check its permissions") from error

    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True, onerror=unreadable):
        real = os.path.realpath(folder)
        below[:] = sorted(name for name in below if not name.startswith(".")) if real not in seen else []
        if real in seen:  # a link back up would be walked for ever
            continue
        seen.add(real)
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:  # noqa: PTH122
                yield folder, name
