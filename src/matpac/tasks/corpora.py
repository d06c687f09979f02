"""Public corpora of sounds and notes: where their metadata lies, and which columns say clip, label and split."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from matpac.data.tables import TableError, TextLayout
from matpac.tasks.metadata import (
    label_matrix,
    metadata_file,
    numbers,
    official_fold,
    read_metadata,
    require_among,
)
from matpac.tasks.splits import hold_out, split_by_fold
from matpac.tasks.task import Fold, Task

FAMILIES = [
    *("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string"),
    *("synth_lead", "vocal"),
]
"""NSynth's, in the order of `instrument_family`; synth_lead is in train alone."""
FAMILY = "instrument_family_str"
FSD50K_SECONDS = 7.6358
"""The clips' mean length, as EVAR takes it."""
RELEVANT = 0.5
"""OpenMIC's relevance from which an instrument counts as heard; no row means that nobody was asked."""


def read_esc50(root: Path) -> Task:
    """ESC-50 (Piczak 2015): 2,000 clips of 5 s, 50 classes, 5 official folds.

    `meta/esc50.csv` and `audio/*.wav`; classes in the order of `target`.
    """
    columns = ("filename", "fold", "target", "category")
    return _with_folds("esc50", root, "meta/esc50.csv", columns, "audio/{file}", 5.0)


def read_us8k(root: Path) -> Task:
    """UrbanSound8K (Salamon, Jacoby and Bello 2014): 8,732 clips of up to 4 s, 10 classes, 10 official folds.

    `metadata/UrbanSound8K.csv` and `audio/fold1 … fold10/*.wav`; classes in the order of `classID`.
    """
    columns = ("slice_file_name", "fold", "classID", "class")
    return _with_folds("us8k", root, "metadata/UrbanSound8K.csv", columns, "audio/fold{fold}/{file}", 4.0)


def _with_folds(name: str, root: Path, place: str, columns: tuple[str, ...], path: str, seconds: float) -> Task:
    table = read_metadata(root, [place], columns)
    files, folds = table.texts(columns[0]), np.array(numbers(table, columns[1]))
    names = dict(zip(numbers(table, columns[2]), table.texts(columns[3]), strict=True))
    present, labels = np.unique(numbers(table, columns[2]), return_inverse=True)
    paths = [str(root / path.format(file=file, fold=fold)) for file, fold in zip(files, folds, strict=True)]
    classes = [names[number] for number in present.tolist()]
    return Task(name, "single", classes, paths, labels, split_by_fold(labels, folds), seconds)


def read_nsynth(root: Path) -> Task:
    """NSynth (Engel et al. 2017): 305,979 notes of 4 s, instrument family of 11, official train/valid/test.

    `nsynth-{train,valid,test}/examples.json` and `audio/*.wav`.
    """
    parts = {part: _read_notes(root, part) for part in ("train", "valid", "test")}
    paths = [f"{root}/nsynth-{part}/audio/{note}.wav" for part, notes in parts.items() for note in notes]
    labels = np.array([number for notes in parts.values() for number in notes.values()], np.int64)
    fold = official_fold([len(notes) for notes in parts.values()])
    return Task("nsynth", "single", FAMILIES, paths, labels, [fold], 4.0)


def _read_notes(root: Path, part: str) -> dict[str, int]:
    """Note → number of its family. Records are dropped while the file is read: 289 k of them are gigabytes."""
    file = metadata_file(root, f"nsynth-{part}/examples.json")

    def only_family(record: dict[str, Any]) -> Any:
        # the outermost is note → record
        return FAMILIES.index(record[FAMILY]) if FAMILY in record else record

    try:
        notes = json.loads(file.read_bytes(), object_hook=only_family)
    except ValueError as error:  # of JSON, UTF-8, or the list of families
        raise TableError(f"{file}: not NSynth's JSON of notes ({error}); download it again") from error
    if not isinstance(notes, dict) or not notes or not all(isinstance(number, int) for number in notes.values()):
        raise TableError(f"{file}: not one note after the other with its {FAMILY}; download it again")
    return notes


def read_fsd50k(root: Path) -> Task:
    """FSD50K (Fonseca et al. 2022): 51,197 clips of 0.3 to 30 s, 200 classes of the AudioSet ontology.

    `FSD50K.ground_truth/{dev,eval,vocabulary}.csv`, `FSD50K.dev_audio/`, `FSD50K.eval_audio/`. Train, validation:
    the column `split` of dev.csv (train, val); test: eval.csv.
    """
    place = "FSD50K.ground_truth/{}.csv".format
    header = ("number", "name", "mid")
    classes = read_metadata(root, [place("vocabulary")], header, TextLayout(header=header)).texts("name")
    dev = read_metadata(root, [place("dev")], ["fname", "labels", "split"])
    test = read_metadata(root, [place("eval")], ["fname", "labels"])
    labels = label_matrix([dev, test], lambda table: (cell.split(",") for cell in table.texts("labels")), classes)
    parts = np.array(dev.texts("split"))
    require_among(dev, "split", parts.tolist(), ["train", "val"])
    train, valid = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "val")
    fold = Fold(train, valid, np.arange(len(dev), len(labels)), name="official")
    paths = [
        str(root / folder / f"{name}.wav")
        for folder, table in (("FSD50K.dev_audio", dev), ("FSD50K.eval_audio", test))
        for name in table.texts("fname")
    ]
    return Task("fsd50k", "multi", classes, paths, labels, [fold], FSD50K_SECONDS)


def read_openmic(root: Path) -> Task:
    """OpenMIC-2018 (Humphrey, Durand and McFee 2018): 20,000 clips of 10 s, 20 instruments, partial labels.

    `openmic-2018-aggregated-labels.csv`, `partitions/split01_{train,test}.csv`, `audio/000/*.ogg`. A tenth of the
    training part is held out as validation, all clips of one track together (the part of the sample key before
    `_` is the track).
    """
    columns = ("sample_key", "instrument", "relevance")
    table = read_metadata(root, ["openmic-2018-aggregated-labels.csv"], columns)
    train_keys, test_keys = (
        read_metadata(root, [f"partitions/split01_{part}.csv"], ["key"], TextLayout(header=("key",))).texts("key")
        for part in ("train", "test")
    )
    keys = train_keys + test_keys
    answered = table.texts("sample_key")
    classes = sorted(set(table.texts("instrument")))
    asked = zip(answered, table.texts("instrument"), strict=True)
    relevance = dict(zip(asked, numbers(table, "relevance", float), strict=True))
    known_keys = set(answered)
    if unlabelled := [key for key in keys if key not in known_keys]:
        raise TableError(
            f"{table.file}: clip {unlabelled[0]} of the partitions has no label; download the file again"
        )
    found = np.array([[relevance.get((key, name), np.nan) for name in classes] for key in keys])
    known, labels = ~np.isnan(found), (found >= RELEVANT).astype(np.uint8)
    tracks = np.array([key.split("_")[0] for key in keys])
    train, valid = hold_out(labels, np.arange(len(train_keys)), groups=tracks)
    fold = Fold(train, valid, np.arange(len(train_keys), len(keys)), name="split01")
    outside = len(known_keys - set(keys))
    notes = [f"{outside} labelled clips are in no partition and are not used."] if outside else []
    paths = [str(root / "audio" / key[:3] / f"{key}.ogg") for key in keys]
    return Task("openmic", "multi", classes, paths, labels, [fold], 10.0, known, notes)
