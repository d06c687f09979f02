"""Labelled clips in a CSV table: path, label or labels (joined by ;), split."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from matpac.downstream.splits import Kind, Split
from matpac.errors import MatpacError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class LabelledClips:
    """Clips of one task.

    Args:
        name: of the task.
        kind: one label a clip, or several.
        paths: of the sound files.
        classes: names, sorted.
        labels: class number a clip, or 0 and 1 for clip and class.
        split: the table's.
    """

    name: str
    kind: Kind
    paths: list[Path]
    classes: list[str]
    labels: Int[np.ndarray, "clip"] | Int[np.ndarray, "clip class"]
    split: Split


def read_table(table: Path) -> LabelledClips:
    """Read a table of labelled clips; relative paths count from the table's folder.

    Raises:
        MatpacError: the table or a column is not there, a row has no label, or a split is unknown.
    """
    if not table.is_file():
        raise MatpacError(f"{table}: no such table")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = set(rows[0]) if rows else set()
    several = "labels" in columns
    for column in ("path", "split", "labels" if several else "label"):
        if column not in columns:
            has = ", ".join(sorted(columns)) or "no rows"
            raise MatpacError(f"{table}: has no column {column!r} (it has {has})")
    named = [row["labels"].split(";") if several else [row["label"]] for row in rows]
    for number, (row, names) in enumerate(zip(rows, named, strict=True), start=2):
        if not all(names):
            raise MatpacError(f"{table}: line {number} ({row['path']}) has no label")
        if row["split"] not in SPLITS:
            raise MatpacError(f"{table}: line {number}: split {row['split']!r} is none of {', '.join(SPLITS)}")
    classes = sorted({name for names in named for name in names})
    numbers = {name: number for number, name in enumerate(classes)}
    if several:
        labels = np.zeros((len(rows), len(classes)), np.int64)
        for row, names in enumerate(named):
            labels[row, [numbers[name] for name in names]] = 1
    else:
        labels = np.array([numbers[names[0]] for names in named], np.int64)
    parts = [np.array([n for n, row in enumerate(rows) if row["split"] == part], np.int64) for part in SPLITS]
    return LabelledClips(
        table.stem,
        "multi" if several else "single",
        [table.parent / row["path"] for row in rows],
        classes,
        labels,
        Split(*parts),
    )
