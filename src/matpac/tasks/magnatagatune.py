"""MagnaTagATune (Law et al. 2009): 25,863 clips of 29 s, the 50 most frequent of 188 tags."""

import os
from pathlib import Path

import numpy as np

from matpac.tasks.metadata import (
    first_folder,
    metadata_file,
    read_lines,
    require_cells,
    require_columns,
)
from matpac.tasks.splits import Split
from matpac.tasks.task import Task, TaskError, make_task

UNIT_SECONDS = 29.0
TOP = 50
PARTS = ("0123456789ab", "c", "def")
"""Folders of train, valid and test."""
FOLDERS = ("", "mp3", "audio")


def read_magnatagatune(root: Path) -> Task:
    """`annotations_final.csv` (tab-separated) and mp3 in `0/ … f/`, in `root` or in its `mp3/` or `audio/`.

    The 50 tags with the most clips of the whole corpus (of equal counts the first name), most frequent first.
    Synonyms ("female voice", "female vocal") are not merged, clips without any of the 50 are kept.

    Raises:
        TaskError: the file is not there or cut short, or a path is outside the folders 0 to f.
    """
    file = metadata_file("mtt", root, "annotations_final.csv")
    head, *rows = read_lines("mtt", file, delimiter="\t")
    require_columns("mtt", file, ["clip_id", "mp3_path"], head)
    require_cells("mtt", file, rows, len(head))
    tags = sorted(set(head) - {"clip_id", "mp3_path"})
    places = [head.index(tag) for tag in tags]
    mp3 = [row[head.index("mp3_path")] for row in rows]
    labels = np.array([[row[place] == "1" for place in places] for row in rows], np.uint8)
    top = np.argsort(-labels.sum(axis=0, dtype=np.int64), kind="stable")[:TOP]
    split = _split(file, mp3)
    base = first_folder(root, FOLDERS, mp3[0].split("/")[0])
    return make_task(
        "mtt", "multi", [tags[tag] for tag in top],
        [os.path.join(base, path) for path in mp3],  # noqa: PTH118
        np.ascontiguousarray(labels[:, top]), [split],
        unit_seconds=UNIT_SECONDS, fold_names=["folders"],
        notes=[
            f"The {TOP} most frequent of {len(tags)} tags, synonyms not merged; clips without any of them are "
            "kept (some papers drop them)."
        ],
    )  # fmt: skip


def _split(file: Path, mp3: list[str]) -> Split:
    folders = np.array([path.split("/")[0] for path in mp3])
    outside = np.flatnonzero(~np.isin(folders, list("".join(PARTS))))
    if outside.size:
        raise TaskError(f"mtt: {file}: {mp3[outside[0]]} is in none of the folders 0 to f; download it again")
    return Split(*(np.flatnonzero(np.isin(folders, list(part))) for part in PARTS))
