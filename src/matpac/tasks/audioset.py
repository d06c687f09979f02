"""AudioSet (Gemmeke et al. 2017): 2.1 million clips of 10 s from YouTube, 527 classes, several per clip.

About a tenth of the clips is always missing, since videos disappear; which ones differs between copies, so that
scores of two copies differ a little.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from matpac.audio import find_audio
from matpac.data.tables import Table, TableError, TextLayout
from matpac.files.hub import cache_folder
from matpac.files.label_files import read_audioset_labels
from matpac.tasks.metadata import label_matrix, metadata_file, read_metadata
from matpac.tasks.splits import hold_out
from matpac.tasks.task import Fold, Task

BALANCED, UNBALANCED, EVALUATION = "balanced_train", "unbalanced_train", "eval"
FOLDERS = ("", "metadata/", "csv/")
"""Below the root, where the tables may lie; the clips may lie anywhere."""
CLASS_FILE = "class_labels_indices.csv"
LAYOUT = TextLayout(header=("YTID", "start_seconds", "end_seconds", "positive_labels"), comment="#")
ID_LENGTH = 11
"""Of YouTube's names of videos."""
TIMES = re.compile(r"(_[\d.]+){0,2}")
"""What may follow the name: the start, or start and end, in any unit."""
NOTES = (
    "Validation: a tenth of the balanced training set, stratified (seed 0); eval_segments.csv is the test set and "
    "chooses nothing.",
    "Classes in the order of their mids, which is that of the published tagger's head.",
)


def read_audioset(name: str, balanced_alone: bool, root: Path) -> Task:
    """`balanced_train_segments.csv`, `unbalanced_train_segments.csv` (not needed), `eval_segments.csv` and
    `class_labels_indices.csv` in `root`, its `metadata/` or `csv/`; the clips in any folders below `root`.

    A clip's file is called by its YTID, perhaps with a Y before it and `_start` or `_start_end` behind, in any
    format. Train: balanced and unbalanced set; a tenth of the balanced one, in which every class has clips, is
    held out as validation; test: eval.
    """
    labels_of = read_audioset_labels(_class_file(root))
    notes: list[str] = [*NOTES]
    parts = [BALANCED, UNBALANCED, EVALUATION]
    if balanced_alone or not any((root / place).is_file() for place in _places(f"{UNBALANCED}_segments.csv")):
        parts.remove(UNBALANCED)
        if not balanced_alone:
            notes.append(f"{UNBALANCED}_segments.csv is not there: the balanced set alone is trained on.")
    columns = ("YTID", "positive_labels")
    tables = [read_metadata(root, _places(f"{part}_segments.csv"), columns, LAYOUT) for part in parts]
    clips: dict[str, int] = {}
    for table in tables:
        for row, clip in enumerate(table.texts("YTID")):
            if len(clip) != ID_LENGTH:
                raise TableError(f'{table.place(row)} is not YTID, start, end, "labels"; download it again')
            if clip in clips:
                raise TableError(f"{table.place(row)}: clip {clip} is there twice, or in another set; remove one")
            clips[clip] = len(clips)
    labels = label_matrix(tables, _mids, list(labels_of))
    balanced, evaluation = len(tables[0]), len(clips) - len(tables[-1])
    train, valid = hold_out(labels, np.arange(balanced))
    train = np.concatenate([train, np.arange(balanced, evaluation)])
    fold = Fold(train, valid, np.arange(evaluation, len(clips)), name="official")
    paths = _paths(root, clips, notes)
    return Task(name, "multi", list(labels_of.values()), paths, labels, [fold], 10.0, notes=notes)


def _places(file: str) -> list[str]:
    return [folder + file for folder in FOLDERS]


def _mids(table: Table) -> Iterator[list[str]]:
    return (cell.split(",") for cell in table.texts("positive_labels"))


def _class_file(root: Path) -> Path:
    """The file in the corpus, or the cached one that names the published tagger's classes."""
    cached = cache_folder() / CLASS_FILE
    here = any((root / place).is_file() for place in _places(CLASS_FILE))
    return cached if cached.is_file() and not here else metadata_file(root, *_places(CLASS_FILE))


def _paths(root: Path, clips: dict[str, int], notes: list[str]) -> list[str]:
    """Where each clip lies; of those that are nowhere, where they could."""
    found: dict[int, str] = {}
    twice = 0
    for sound in find_audio([root]):
        row = clip_row(sound.stem, clips)
        if row is not None:
            twice += row in found
            found.setdefault(row, str(sound))
    if twice:
        notes.append(f"{twice} sounds are further files of a clip and are not used (the first by name is).")
    return [found.get(row, f"{root}{os.sep}{clip}") for clip, row in clips.items()]


def clip_row(stem: str, clips: dict[str, int]) -> int | None:
    """The clip that a file name means."""
    for begin in (0, 1) if stem.startswith("Y") else (0,):
        row = clips.get(stem[begin : begin + ID_LENGTH])
        if row is not None and TIMES.fullmatch(stem, begin + ID_LENGTH):
            return row
    return None
