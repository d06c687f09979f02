"""The columns of a table of clips, from CSV, TSV or Parquet, all as text."""

import csv
from collections.abc import Sequence
from pathlib import Path

from matpac.errors import one_line
from matpac.tasks.metadata import opened_table, require_columns
from matpac.tasks.task import TaskError

SUFFIXES = (".csv", ".tsv", ".parquet")
SEPARATOR = ";"
"""Between the labels of a clip."""

Columns = dict[str, list[str]]


def read_columns(table: Path) -> Columns:
    """Name → cells, stripped; lists in Parquet are joined by ;, null and NaN are empty, in lists left out.

    Raises:
        TaskError: no such table, not readable, without rows, without `path`, or a column or a path is there twice,
            or a path is empty.
    """
    if not table.is_file():
        raise TaskError(f"{table}: no such table; give a file of {', '.join(SUFFIXES)}")
    columns = _parquet(table) if table.suffix.lower() == ".parquet" else _text(table)
    require_columns("table", table, ["path"], list(columns))
    require_cells(table, columns, ["path"])
    _require_once(table, columns["path"])
    return columns


def _text(table: Path) -> Columns:
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    with opened_table(str(table), table) as file:
        head, *rows = list(csv.reader(file, delimiter=delimiter)) or [[]]
    for place, name in enumerate(head):
        if name and name in head[:place]:  # those without a name are nobody's
            raise TaskError(f"{table}: has two columns {name!r}; rename or remove one")
    rows = [row for row in rows if any(row)]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(head):
            raise TaskError(f"{table}: row {number} has {len(row)} cells, the header {len(head)}; correct the row")
    if not rows:
        raise TaskError(f"{table}: has no rows; it needs one a clip")
    return {name: [row[place].strip() for row in rows] for place, name in enumerate(head)}


def _parquet(table: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.read_table(table)
    except (pa.ArrowException, OSError) as error:
        raise TaskError(
            f"{table}: not a Parquet file that can be read ({one_line(error)}); write it anew"
        ) from error
    if not content.num_rows:
        raise TaskError(f"{table}: has no rows; it needs one a clip")
    return {name: [_cell(value) for value in content[name].to_pylist()] for name in content.column_names}


def _cell(value: object) -> str:
    if isinstance(value, list):
        return SEPARATOR.join(_cell(item) for item in value if not _is_null(item))
    return "" if _is_null(value) else str(value).strip()


def _is_null(value: object) -> bool:
    return value is None or value != value  # NaN, which pandas writes for an empty cell


def require_cells(table: Path, columns: Columns, names: Sequence[str]) -> None:
    """Raise a TaskError that names the first empty cell."""
    for name in names:
        if "" in columns[name]:
            row = columns[name].index("")
            what = f" ({columns['path'][row]})" if name != "path" else ""
            raise TaskError(f"{table}: row {row + 1}{what} has no {name}; fill it in, or remove the row")


def _require_once(table: Path, paths: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for row, path in enumerate(paths, start=1):
        if path in seen:
            raise TaskError(
                f"{table}: {path} is in rows {seen[path]} and {row}; a clip has one row (several labels: column "
                "labels)"
            )
        seen[path] = row
