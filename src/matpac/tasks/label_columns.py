"""The labels of a table of clips: one a clip (`label`), several (`labels`), or partial (`label:<class>` …)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer

from matpac.tasks.columns import SEPARATOR, Columns, require_cells
from matpac.tasks.splits import Kind
from matpac.tasks.task import TaskError

PARTIAL = "label:"
"""Begins the column of a class whose labels are 1, 0 or unknown (empty)."""
ANSWERS = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "true": 1, "false": 0}


class Labels(NamedTuple):
    """What the label columns say."""

    kind: Kind
    classes: list[str]
    labels: Integer[np.ndarray, "..."]
    known: Bool[np.ndarray, "clip class"] | None


def read_labels(table: Path, columns: Columns) -> Labels:
    """Labels of the one kind of label column that the table has. Raises TaskError naming the row."""
    partial = [name for name in columns if name.startswith(PARTIAL)]
    given = [name for name in ("label", "labels") if name in columns] + partial[:1]
    if len(given) != 1:
        has = ", ".join(given) or f"none of them; it has {', '.join(columns)}"
        raise TaskError(f"{table}: one of the columns label, labels or {PARTIAL}<class> … is needed, not {has}")
    if partial:
        return _partial(table, columns, partial)
    require_cells(table, columns, given)
    several = given == ["labels"]
    named = [[name.strip() for name in c.split(SEPARATOR)] if several else [c] for c in columns[given[0]]]
    classes = sorted({name for names in named for name in names})
    if "" in classes or (len(classes) < 2 and not several):
        why = "has an empty name between two ;" if "" in classes else f"has one label alone, {classes[0]!r}"
        raise TaskError(f"{table}: column {given[0]} {why}; correct it")
    numbers = {name: number for number, name in enumerate(classes)}
    if not several:
        return Labels("single", classes, np.array([numbers[names[0]] for names in named], np.int64), None)
    labels = np.zeros((len(named), len(classes)), np.uint8)
    for row, names in enumerate(named):
        labels[row, [numbers[name] for name in names]] = 1
    return Labels("multi", classes, labels, None)


def _partial(table: Path, columns: Columns, partial: Sequence[str]) -> Labels:
    labels = np.zeros((len(columns["path"]), len(partial)), np.uint8)
    known = np.zeros(labels.shape, bool)
    for number, name in enumerate(partial):
        for row, cell in enumerate(columns[name]):
            if cell and cell.lower() not in ANSWERS:
                raise TaskError(
                    f"{table}: row {row + 1} ({columns['path'][row]}): {name} is {cell!r}; "
                    "1, 0 or nothing is needed"
                )
            known[row, number] = cell != ""
            labels[row, number] = ANSWERS.get(cell.lower(), 0)
    classes = [name.removeprefix(PARTIAL) for name in partial]
    return Labels("multi", classes, labels, None if known.all() else known)
