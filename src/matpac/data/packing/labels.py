"""The labels that a table gives its clips: columns `label`, `labels`, or `label:<class>`."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from matpac.data.files import TABLE_SUFFIXES

SEPARATOR = ";"
"""Between several labels in one cell."""

PARTIAL = "label:"
"""Begins the column of a class, with 1 where a clip has it."""
YES = frozenset({"1", "1.0", "true"})


def read_labels(source: Path) -> dict[str, list[str]]:
    """Absolute path → labels, for the rows of a table that have some; nothing for a folder or a sound file.

    The table has been read by `matpac.data.files.list_clips` before, which tells what is wrong with it. A path
    that stands there twice has the labels of both rows.
    """
    if not source.is_file() or source.suffix.lower() not in TABLE_SUFFIXES:
        return {}
    labels: dict[str, list[str]] = {}
    for row in _rows(source):
        path = os.path.abspath(os.path.join(source.parent, str(row["path"])))  # noqa: PTH100, PTH118 (millions)
        named = [name for column, cell in row.items() for name in _labels(column, cell)]
        if named:
            labels[path] = list(dict.fromkeys([*labels.get(path, []), *named]))
    return labels


def _labels(column: str, cell: object) -> list[str]:
    if cell is None:
        return []
    if column == "labels":
        names = cell if isinstance(cell, list) else str(cell).split(SEPARATOR)
        return [name for name in (str(name).strip() for name in names) if name]
    text = str(cell).strip()
    if column == "label":
        return [text] if text else []
    if column.startswith(PARTIAL) and text.lower() in YES:
        return [column.removeprefix(PARTIAL)]
    return []


def _rows(table: Path) -> Iterator[dict[str, object]]:
    if table.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        names = [name for name in pq.read_schema(table).names if name == "path" or name.startswith("label")]
        yield from pq.read_table(table, columns=names).to_pylist()
        return
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    with table.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, delimiter=delimiter):
            yield {name: cell for name, cell in row.items() if isinstance(name, str)}
