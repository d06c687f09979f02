"""One's own sounds, in a table: path, one label, several or partial ones, and perhaps split, fold, group."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from matpac.tasks.columns import Columns, read_columns, require_cells
from matpac.tasks.folder import PART_NAMES, carved_all, split_of_parts
from matpac.tasks.label_columns import Labels, read_labels
from matpac.tasks.split import split_by_fold, three_parts
from matpac.tasks.splits import Split
from matpac.tasks.task import Task, TaskError, make_task


def read_table(table: Path) -> Task:
    """A CSV, TSV or Parquet file; relative paths count from its folder.

    Columns: `path`; and `label` (one), `labels` (several, joined by ;, or a list in Parquet), or one
    `label:<class>` a class with 1, 0, or empty where nobody knows; and, if wanted, `split` (train, valid, test) or
    `fold`, and `group`: clips of one group (a speaker, a recording) never lie on both sides. Classes are sorted by
    name, `label:` columns stay in their order. Without `split` and `fold`: about 80/10/10 by chance; with a split
    without `valid`, and with folds, about a tenth of the training part is held out as validation.

    Raises:
        TaskError: the table or a column is not there, a cell is not usable, a clip stands there twice, a group is
            on both sides, or a class is too small.
    """
    columns = read_columns(table)
    found = read_labels(table, columns)
    notes: list[str] = []
    splits, fold_names = _splits(table, columns, found, notes)
    paths = [os.path.join(table.parent, path) for path in columns["path"]]  # noqa: PTH118
    return make_task(
        table.stem, found.kind, found.classes, paths, found.labels, splits,
        unit_seconds=None, fold_names=fold_names, known=found.known, notes=notes,
    )  # fmt: skip


def _splits(table: Path, columns: Columns, found: Labels, notes: list[str]) -> tuple[list[Split], list[str]]:
    if "split" in columns and "fold" in columns:
        raise TaskError(f"{table}: has a column split and a column fold; remove one")
    require_cells(table, columns, [name for name in ("split", "fold", "group") if name in columns])
    groups = np.array(columns["group"]) if "group" in columns else None
    if "split" in columns:
        parts = _parts(table, columns)
        if groups is not None:
            _require_apart(table, parts, groups, "split")
        return [split_of_parts(found.labels, parts, notes, groups)], ["table"]
    if "fold" in columns:
        names = columns["fold"]
        folds = np.array([int(name) for name in names] if all(n.isdecimal() for n in names) else names)
        if len(np.unique(folds)) < 2:
            raise TaskError(f"{table}: column fold has one fold alone, {names[0]!r}; two or more are needed")
        if groups is not None:
            _require_apart(table, folds, groups, "fold")
        notes.append("Validation: about a tenth of each fold's training part, drawn by chance (seed 0).")
        return split_by_fold(found.labels, folds, groups)
    try:
        split = three_parts(found.labels, found.classes, groups)
    except TaskError as error:
        raise TaskError(f"{table}: {error}") from error
    notes.append(carved_all(split))
    return [split], ["random"]


def _parts(table: Path, columns: Columns) -> Shaped[np.ndarray, " clip"]:
    for row, part in enumerate(columns["split"]):
        if part.lower() not in PART_NAMES:
            raise TaskError(
                f"{table}: row {row + 1} ({columns['path'][row]}): split {part!r} is none of train, valid, test"
            )
    return np.array([PART_NAMES[part.lower()] for part in columns["split"]])


def _require_apart(
    table: Path, parts: Shaped[np.ndarray, " clip"], groups: Shaped[np.ndarray, " clip"], column: str
) -> None:
    """No group is in two parts."""
    names, first = np.unique(groups, return_index=True)
    home = parts[first][np.searchsorted(names, groups)]
    away = np.flatnonzero(home != parts)
    if away.size:
        row = int(away[0])
        raise TaskError(
            f"{table}: group {str(groups[row])!r} is in {column} {home[row]} and {parts[row]}; keep a group "
            "on one side, or remove the column group"
        )
