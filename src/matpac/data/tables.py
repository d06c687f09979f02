"""Tables of clips, labels and metadata, from CSV, TSV or Parquet, as columns of typed cells."""

import csv
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

from matpac.errors import MatpacError, one_line

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
SEPARATOR = ";"
"""Between several labels in a text cell of the column `labels`."""
PARTIAL = "label:"
"""Begins the name of a column about one class: 1, 0, or empty where it is unknown."""
ANSWERS = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}
# Read after the last line: where it does not make a row by itself, a quote was left open.
END = "\x04end of the table"

Cell = Any
"""Text without blanks around it; a number, a list, or what else Parquet has; None for a missing value."""


class TableError(MatpacError):
    """A table that can't be used; the message names the file, the line or row, and the way out."""


@dataclass(frozen=True)
class TextLayout:
    """How a text table is written that isn't a plain CSV or TSV file with a header.

    Args:
        delimiter: between cells; empty: a tab in .tsv files, else a comma.
        header: names of the columns of a file that has none.
        comment: lines that begin with it are skipped.
        tail: whether the last column takes all further cells of a row, as a list.
    """

    delimiter: str = ""
    header: tuple[str, ...] = ()
    comment: str = ""
    tail: bool = False


@dataclass(frozen=True)
class Table:
    """Columns of a table.

    Args:
        file: where it lies.
        header: names of all columns, also of those that were not read.
        columns: name → typed cells, None for a missing one.
        lines: of each row, the line where it begins; in Parquet its number, from 1.
    """

    file: Path
    header: list[str]
    columns: dict[str, list[Cell]]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        """The file and the row, as an error names them."""
        unit = "row" if _is_parquet(self.file) else "line"
        return f"{self.file}: {unit} {self.lines[row]}"

    def texts(self, column: str) -> list[str]:
        """A column in which every cell is needed, as text. Raises TableError."""
        cells = self.columns[column]
        if None in cells:
            raise TableError(f"{self.place(cells.index(None))} has no {column}; fill it in, or remove the row")
        return [self._text(column, row, cell) for row, cell in enumerate(cells)]

    def paths(self) -> list[str]:
        """The column `path`, absolute: relative paths count from the table's folder. Raises TableError."""
        folder = self.file.parent
        for row, cell in enumerate(self.columns["path"]):
            if cell is not None and not isinstance(cell, str):
                raise TableError(f"{self.place(row)} has {cell!r:.80} for a path; write the column path as text")
        return [os.path.abspath(os.path.join(folder, path)) for path in self.texts("path")]  # noqa: PTH100, PTH118

    def answers(self, column: str) -> list[bool | None]:
        """A column `label:<class>`: whether each row has the class, None where unknown. Raises TableError."""
        found: list[bool | None] = []
        for row, cell in enumerate(self.columns[column]):
            text = "" if cell is None else self._text(column, row, cell).lower()
            if text and text not in ANSWERS:
                raise TableError(f"{self.place(row)}: {column} is {cell!r}; 1, 0 or nothing is needed")
            found.append(ANSWERS.get(text))
        return found

    def labels(self, column: str) -> list[list[str]]:
        """What a label column says of each row: lists as they are; text is one label, of `labels` split at `;`.

        Raises:
            TableError: a cell is neither text, a number, nor a list of these.
        """
        if column.startswith(PARTIAL):
            name = column.removeprefix(PARTIAL)
            return [[name] if answer else [] for answer in self.answers(column)]
        found = []
        for row, cell in enumerate(self.columns[column]):
            if column == "labels" and isinstance(cell, str):
                cell = [name.strip() for name in cell.split(SEPARATOR) if name.strip()]
            items = cell if isinstance(cell, list) else [] if cell is None else [cell]
            found.append(list(dict.fromkeys(self._text(column, row, item) for item in items)))
        return found

    def labels_by_path(self) -> dict[str, list[str]]:
        """Absolute path → labels by all label columns; a path that is there twice has those of both rows."""
        found: dict[str, dict[str, None]] = {}
        columns = [self.labels(column) for column in self.columns if is_label(column)]
        for path, *several in zip(self.paths(), *columns, strict=True):
            found.setdefault(path, {}).update(dict.fromkeys(chain(*several)))
        return {path: list(names) for path, names in found.items()}

    def _text(self, column: str, row: int, cell: Cell) -> str:
        if isinstance(cell, bytes | list | dict):
            raise TableError(f"{self.place(row)}: {column} is {cell!r:.80}; write it as text or a number")
        if isinstance(cell, float | Decimal) and cell % 1 == 0:
            return str(int(cell))
        return str(cell)


def is_table(path: Path) -> bool:
    """Whether this is a file that `read_table` reads, by its suffix."""
    return path.suffix.lower() in TABLE_SUFFIXES and path.is_file()


def is_label(column: str) -> bool:
    """Whether a column holds labels: `label`, `labels`, `label:<class>`."""
    return column in ("label", "labels") or column.startswith(PARTIAL)


def read_table(
    file: str | Path,
    columns: Sequence[str] = ("path",),
    also: Callable[[str], bool] = lambda column: False,
    layout: TextLayout | None = None,
) -> Table:
    """The named columns of a table, and those others that `also` wants; memory for these alone.

    Numbers stay numbers and lists stay lists; null, NaN and empty text are None, and in lists they are skipped.
    Blanks around text are cut off. Rows without any content are skipped.

    Raises:
        TableError: there is no such file, or it can't be read; a quote is left open; a named column is not there,
            or is there twice; a row is short; there are no rows.
    """
    file = Path(file)
    try:
        if _is_parquet(file):
            table = _read_parquet(file, columns, also)
        else:
            table = _read_text(file, columns, also, layout or TextLayout())
    except OSError as error:
        raise TableError(f"{file}: can't be read ({error.strerror or one_line(error)}); check the path") from error
    if not len(table):
        raise TableError(f"{file}: the table has no rows; write it again")
    return table


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet"


def _require_columns(file: Path, header: Sequence[str], columns: Sequence[str], wanted: Iterable[str]) -> None:
    if missing := [name for name in columns if name not in header]:
        has = ", ".join(header) or "none"
        raise TableError(f"{file}: no column {missing[0]!r}; it has {has:.200}: rename one, or replace the file")
    if twice := [name for name in wanted if header.count(name) > 1]:
        raise TableError(f"{file}: two columns are called {twice[0]!r}; rename or remove one")


def _read_parquet(file: Path, columns: Sequence[str], also: Callable[[str], bool]) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as content:
            header = content.schema_arrow.names
            wanted = [name for name in header if name in columns or also(name)]
            _require_columns(file, header, columns, wanted)
            read = content.read(columns=wanted)
        cells = {name: [_cell(value) for value in read[name].to_pylist()] for name in wanted}
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise TableError(f"{file}: not a Parquet file ({one_line(error)}); write it again") from error
    return Table(file, header, cells, range(1, read.num_rows + 1))


def _cell(value: Any) -> Cell:
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, list):
        return [cell for cell in map(_cell, value) if cell is not None]
    return None if value != value else value  # NaN, which pandas writes for a missing value


def _read_text(file: Path, columns: Sequence[str], also: Callable[[str], bool], layout: TextLayout) -> Table:
    rows = _text_rows(file, layout)
    header = [name.strip() for name in layout.header or next(rows, (0, []))[1]]
    wanted = {name: place for place, name in enumerate(header) if name in columns or also(name)}
    _require_columns(file, header, columns, wanted)
    cells: dict[str, list[Cell]] = {name: [] for name in wanted}
    lines = array("q")
    last = len(header) - 1
    for line, row in rows:
        if layout.header and row[0] == header[0]:
            continue  # some copies of such a file have a header all the same
        if layout.tail and len(row) > last:
            row[last:] = [_cell(row[last:])]
        if len(row) != len(header):
            raise TableError(f"{file}: line {line} has {len(row)} cells, not {len(header)}; correct the row")
        lines.append(line)
        for name, place in wanted.items():
            cells[name].append(_cell(row[place]))
    return Table(file, header, cells, lines)


def _text_rows(file: Path, layout: TextLayout) -> Iterator[tuple[int, list[Any]]]:
    """(line where it begins, cells) of the rows with content."""
    delimiter = layout.delimiter or ("\t" if file.suffix.lower() == ".tsv" else ",")
    begin = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = csv.reader(chain(text, [END]), delimiter=delimiter, skipinitialspace=True)
            for row in rows:
                if row == [END]:
                    return
                if row and END in row[-1]:
                    raise TableError(
                        f"{file}: line {begin}: a quote is left open to the end of the table; close it"
                    )
                if any(row) and not (layout.comment and row[0].startswith(layout.comment)):
                    yield begin, row
                begin = rows.line_num + 1
    except UnicodeDecodeError as error:
        raise TableError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise TableError(f"{file}: line {begin}: {error}; is a quote left open there?") from error
