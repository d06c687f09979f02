"""Metadata files of corpora: found where they should lie, or told where they were looked for; read as rows."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from jaxtyping import Int

from matpac.tasks.task import TaskError


def metadata_file(task: str, root: Path, *places: str) -> Path:
    """The first of the places below `root` where the file is.

    Raises:
        TaskError: it is at none; the message says where it was looked for, and whether another folder nearby
            would do.
    """
    for place in places:
        if (root / place).is_file():
            return root / place
    looked = f"{root / places[0]}" + "".join(f" (or {place})" for place in places[1:])
    if not root.is_dir():
        raise TaskError(f"{task}: {root} is no folder; looked for {looked} in it")
    raise TaskError(f"{task}: no file {looked}; give the folder that holds {places[0]}{_hint(root, places)}")


def _hint(root: Path, places: Sequence[str]) -> str:
    """One folder up, two up (the folder of the metadata was given) or one down is often right."""
    below = sorted(folder for folder in root.iterdir() if folder.is_dir())
    for folder in (*root.parents[:2], *below):
        if any((folder / place).is_file() for place in places):
            return f": {folder} does"
    return ""


@contextmanager
def opened_table(told: str, file: Path) -> Iterator[TextIO]:
    """The open text of a table. What can't be read of it is a TaskError that begins with `told`."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield text
    except UnicodeDecodeError as error:
        raise TaskError(f"{told}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise TaskError(f"{told}: not a table ({error}); look for a quote that is not closed") from error


def read_rows(task: str, file: Path, columns: Sequence[str], delimiter: str = ",") -> list[dict[str, str]]:
    """Rows of a table with a header as dicts.

    Raises:
        TaskError: a column is not there, there is no row, or the text is no table in UTF-8.
    """
    with opened_table(f"{task}: {file}", file) as text:
        reader = csv.DictReader(text, delimiter=delimiter)
        require_columns(task, file, columns, list(reader.fieldnames or []))
        rows = [row for row in reader if any(row.values())]
    if not rows:
        raise TaskError(f"{task}: {file}: has no rows; download it again")
    for row in rows:
        if None in row.values():
            raise TaskError(f"{task}: {file}: the row of {row[columns[0]]!r} is cut short; download it again")
    return rows


def read_lines(task: str, file: Path, delimiter: str = ",") -> list[list[str]]:
    """Rows of a table without a header; empty lines are none.

    Raises:
        TaskError: there is no row, or the text is no table in UTF-8.
    """
    with opened_table(f"{task}: {file}", file) as text:
        rows = [row for row in csv.reader(text, delimiter=delimiter) if any(row)]
    if not rows:
        raise TaskError(f"{task}: {file}: is empty; download it again")
    return rows


def require_cells(task: str, file: Path, rows: Sequence[Sequence[str]], least: int) -> None:
    """Raise a TaskError where there is no row, or one has fewer cells than `least`."""
    if not rows:
        raise TaskError(f"{task}: {file}: has no rows; download it again")
    for row in rows:
        if len(row) < least:
            raise TaskError(
                f"{task}: {file}: the row of {row[0]!r} has {len(row)} cells, not {least}; download it again"
            )


def integers(task: str, file: Path, rows: Sequence[dict[str, str]], column: str) -> Int[np.ndarray, " row"]:
    """A column of numbers. Raises TaskError for a cell that is none."""
    for row in rows:
        if not row[column].strip().isdecimal():
            raise TaskError(f"{task}: {file}: {column} is {row[column]!r}, not a number; download it again")
    return np.array([int(row[column]) for row in rows], np.int64)


def require_columns(task: str, file: Path, columns: Sequence[str], has: Sequence[str]) -> None:
    """Raise a TaskError that names the first column that is not there."""
    for column in columns:
        if column not in has:
            raise TaskError(f"{task}: {file}: has no column {column!r}; it has {', '.join(has) or 'none'}")


def first_folder(root: Path, names: Sequence[str], inside: str) -> Path:
    """The first of the folders `names` below `root` ('' is root itself) that has `inside`; else the first."""
    return next((root / name for name in names if (root / name / inside).exists()), root / names[0])


def class_numbers(task: str, file: Path, names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The place of every name among the classes. Raises TaskError for another name."""
    numbers = {name: number for number, name in enumerate(classes)}
    for name in names:
        if name not in numbers:
            raise TaskError(
                f"{task}: {file}: label {name!r} is none of the {len(classes)} classes; check the file"
            )
    return [numbers[name] for name in names]
