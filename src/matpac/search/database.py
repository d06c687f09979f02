"""The database of sounds: a folder with one LanceDB table, whose rows are sounds or windows of them.

What made the vectors is kept in the table's schema, so that the two cannot be separated.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from matpac.errors import MatpacError, one_line
from matpac.vectors.states import FileState

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "sounds"
LOCK = "writer.lock"
METADATA = b"matpac"
"""Key of the settings, as JSON, in the metadata of the table's schema."""

COLUMNS = ("path", "start", "end", "duration", "size", "modified", "tags")
"""Columns beside the vector: file, place in it and its length in s; size in bytes and modification time in ns."""

INDEX = "vector_idx"
"""Name of the index of vectors."""

CELLS, REFINE = 20, 10
"""Cells of an approximate search, LanceDB's own number, and candidates compared by their vectors for every match:
recall@10 is 1.000 for 100,000 vectors (benchmarks/search.py, docs/search.md)."""


class SearchError(MatpacError):
    """A database or a query that can't be used; the message names it and the way out."""


@dataclass(frozen=True)
class DatabaseSettings:
    """What made all vectors of a database.

    Args:
        encoder: its name for `matpac.open_encoder`, valid in any working directory.
        key: SHA-256 of its weights and settings (`Embedder.key`).
        width: of a vector.
        window: seconds that a row spans; None for one row per sound.
        hop: seconds from the start of one window to that of the next.
    """

    encoder: str
    key: str
    width: int
    window: float | None = None
    hop: float | None = None

    @property
    def windows(self) -> tuple[float, float] | None:
        """Window and hop, in seconds."""
        return None if self.window is None or self.hop is None else (self.window, self.hop)

    @property
    def rows(self) -> str:
        """What a row is, for people."""
        return "whole sounds" if self.window is None else f"windows of {self.window:g} s every {self.hop:g} s"


class SoundDatabase:
    """An open database; it sees what any process has written."""

    def __init__(self, path: Path, table: Any, settings: DatabaseSettings):
        self.path, self.table, self.settings = path, table, settings

    @classmethod
    def open(cls, path: str | Path) -> "SoundDatabase":
        """An existing database.

        Raises:
            SearchError: there is none, one without rows, or not one that `matpac index` made.
        """
        path = Path(path).expanduser()
        found = cls.find(path)
        if found is None:
            raise SearchError(
                f"{path}: no database of sounds; make one: matpac index FOLDER --encoder NAME --database {path}"
            )
        return found

    @classmethod
    def find(cls, path: Path) -> "SoundDatabase | None":
        """As `open`; None if there is none, or one without rows."""
        require_database(path)
        if not (path / f"{TABLE}.lance").is_dir():
            return None
        with named_errors(path):
            connection = import_lancedb().connect(path, read_consistency_interval=timedelta(0))
            try:
                table = connection.open_table(TABLE)
            except ValueError as error:  # a creation that was killed leaves an empty folder
                if "was not found" not in str(error):
                    raise
                return None
            try:
                settings = DatabaseSettings(**json.loads((table.schema.metadata or {})[METADATA]))
            except (KeyError, TypeError, json.JSONDecodeError) as error:
                raise SearchError(
                    f"{path}: a LanceDB table that matpac index did not make; name another"
                ) from error
            return cls(path, table, settings) if table.count_rows() else None

    def count(self, where: str | None = None) -> int:
        """Number of rows, or of those that meet a condition in SQL."""
        return self.table.count_rows(where)

    def rows(
        self, columns: Sequence[str], where: str | None = None, batch_rows: int = 8_192
    ) -> "Iterator[pa.RecordBatch]":
        """Batches of some columns, of all rows or of those that meet a condition in SQL."""
        with named_errors(self.path):
            query = self.table.search().select([*columns]).limit(None)
            yield from (query if where is None else query.where(where)).to_batches(batch_rows)

    def files(self) -> dict[str, FileState]:
        """All files, by their paths as text (`matpac.vectors.states.path_text`)."""
        return {row["path"]: FileState(row["size"], row["modified"]) for row in self._files("size", "modified")}

    def tags(self) -> dict[str, tuple[str, ...]]:
        """The tags of all files; where windows differ, those of the first."""
        return {row["path"]: tuple(row["tags"]) for row in self._files("tags")}

    def _files(self, *columns: str) -> Iterator[dict[str, Any]]:
        for batch in self.rows(["path", *columns], "start = 0"):  # every file has one such row
            yield from batch.to_pylist()

    def take(self, places: Sequence[int]) -> "pa.Table":
        """Rows by their place in the table."""
        with named_errors(self.path):
            return self.table.take_offsets(list(places)).to_arrow()

    def nearest(self, vector: Float32[np.ndarray, " width"], top: int, approximate: bool) -> Any:
        """LanceDB's query for the nearest rows by cosine distance, exact or with the index of vectors."""
        query = self.table.search(vector, vector_column_name="vector").distance_type("cosine").limit(top)
        if not approximate:
            return query.bypass_vector_index()
        return query.minimum_nprobes(CELLS).maximum_nprobes(0).refine_factor(REFINE)  # 0: until there are `top`

    def unindexed(self) -> int:
        """Number of rows outside the index of vectors; all of them if there is none."""
        with named_errors(self.path):
            statistics = self.table.index_stats(INDEX)
            return self.count() if statistics is None else statistics.num_unindexed_rows

    def trained(self) -> int:
        """Number of rows when the index of vectors was trained; 0 without an index."""
        metadata = self.table.schema.field("vector").metadata or {}
        return (json.loads(metadata.get(METADATA, b"{}")).get("approximate") or {}).get("trained", 0)


def import_lancedb() -> Any:
    """LanceDB, which takes a second or two to import. Raises SearchError if it is not installed."""
    try:
        import lancedb
    except ImportError as error:
        raise SearchError("a database of sounds needs LanceDB: pip install 'matpac[search]'") from error
    return lancedb


def require_database(path: Path) -> None:
    """Raise a SearchError if a file, or a folder of other things, has this name."""
    if re.match(r"[a-z0-9]{2,}:/", str(path)):  # a Path has lost the second stroke
        raise SearchError(f"{path}: databases are written in folders of this machine; index into one, and copy it")
    if path.exists() and not path.is_dir():
        raise SearchError(f"{path}: is a file, a database of sounds is a folder; name another")
    if path.is_dir() and not (path / f"{TABLE}.lance").is_dir():
        others = sorted(entry.name for entry in path.iterdir() if entry.name != LOCK)
        if others:
            raise SearchError(f"{path}: no database of sounds, but a folder with {others[0]!r}; name another")


def row_schema(width: int) -> "pa.Schema":
    """Columns of a table of vectors of this width."""
    import pyarrow as pa

    number, whole = pa.float64(), pa.int64()
    types = [pa.string(), number, number, number, whole, whole, pa.list_(pa.string())]
    return pa.schema([*zip(COLUMNS, types, strict=True), ("vector", pa.list_(pa.float32(), width))])


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Raise LanceDB's errors, which are of many kinds, as SearchError."""
    try:
        yield
    except MatpacError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise SearchError(
            f"{path}: {first_line(error)}; check the disk, or index into another database"
        ) from error


def first_line(error: Exception) -> str:
    """LanceDB's message without the location in its source and what follows."""
    text = one_line(error)
    text = re.split(r",? /\S*\.rs:\d+", text)[0]
    return text.removeprefix("Invalid input, ").removeprefix("lance error: ").rstrip(". ")


def vectors_of(rows: "pa.RecordBatch | pa.Table") -> Float32[np.ndarray, "row width"]:
    """The vectors of rows as one array."""
    import pyarrow as pa

    column = rows["vector"]
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.flatten().to_numpy().reshape(-1, column.type.list_size)
