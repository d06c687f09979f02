"""Metadata files of corpora: found where they should lie, and read as columns, labels and folds."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from matpac.data.tables import Table, TableError, TextLayout, read_table
from matpac.tasks.task import Fold


def metadata_file(root: Path, *places: str) -> Path:
    """The first of the places below `root` where the file is.

    Raises:
        TableError: it is at none; the message says where it should be, and whether another folder nearby has it.
    """
    for place in places:
        if (root / place).is_file():
            return root / place
    looked = f"{root / places[0]}" + "".join(f" (or {place})" for place in places[1:])
    if not root.is_dir():
        raise TableError(f"{root} is no folder, so there is no {looked}")
    # one folder up, two up (the folder of the metadata was given), or one down
    near = (*root.parents[:2], *sorted(folder for folder in root.iterdir() if folder.is_dir()))
    right = next((folder for folder in near if any((folder / place).is_file() for place in places)), None)
    hint = "" if right is None else f": {right} does"
    raise TableError(f"no file {looked}; give the folder that holds {places[0]}{hint}")


def read_metadata(
    root: Path, places: Iterable[str], columns: Sequence[str], layout: TextLayout | None = None
) -> Table:
    """These columns of a metadata file. Raises TableError."""
    return read_table(metadata_file(root, *places), columns, layout=layout)


def numbers(table: Table, column: str, kind: type[int] | type[float] = int) -> list[float]:
    """A column of numbers. Raises TableError."""
    found = []
    for row, cell in enumerate(table.texts(column)):
        try:
            found.append(kind(cell))
        except ValueError as error:
            raise TableError(
                f"{table.place(row)}: {column} is {cell!r}, not a number; download the file again"
            ) from error
    return found


def require_among(table: Table, column: str, names: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise TableError for the first of a column's names that is not allowed."""
    for row, name in enumerate(names):
        if name not in allowed:
            raise TableError(f"{table.place(row)}: {column} {name!r} is none of {', '.join(allowed)}; correct it")


def first_folder(root: Path, names: Sequence[str], inside: str) -> Path:
    """The first of the folders `names` below `root` ("" is root itself) that has `inside`; else the first."""
    return next((root / name for name in names if (root / name / inside).exists()), root / names[0])


def label_matrix(
    tables: Sequence[Table], names: Callable[[Table], Iterable[Sequence[str]]], classes: Sequence[str]
) -> UInt8[np.ndarray, "clip class"]:
    """0 and 1 for the rows of all tables, from the names of each row's labels.

    Raises:
        TableError: a row has no label, or one that is no class.
    """
    column = {name: number for number, name in enumerate(classes)}
    labels = np.zeros((sum(map(len, tables)), len(classes)), np.uint8)
    unfilled = iter(labels)
    for table in tables:
        for row, named in enumerate(names(table)):
            if not named:
                raise TableError(f"{table.place(row)} has no label; fill it in, or remove the row")
            if wrong := [name for name in named if name not in column]:
                has = f"is none of the {len(classes)} classes"
                raise TableError(f"{table.place(row)}: label {wrong[0]!r} {has}; check the file")
            next(unfilled)[[column[name] for name in named]] = 1
    return labels


def official_fold(sizes: Sequence[int], name: str = "official") -> Fold:
    """The split of clips that lie one part after the other: train, validation, test."""
    return Fold(*np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]), name=name)
