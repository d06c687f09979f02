"""The one process that writes to a database of sounds at a time.

Every write is one transaction of LanceDB's: a search at the same time sees the table as it was before, and a
process that is killed leaves whole files behind.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float32, Float64

from matpac.search.database import (
    INDEX,
    LOCK,
    METADATA,
    TABLE,
    DatabaseSettings,
    SearchError,
    SoundDatabase,
    import_lancedb,
    named_errors,
    require_database,
    row_schema,
)
from matpac.vectors.states import FileState

if TYPE_CHECKING:
    import pyarrow as pa

PATHS_AT_ONCE = 1_000
"""Files removed at once; default; tens of kilobytes of SQL."""

KEPT = timedelta(hours=1)
"""How long old versions of the table stay on disk; default; far longer than any search that still reads one."""

ROWS = 20_000
"""Rows from which an approximate index is kept; default; exact search of fewer takes tenths of a second."""

GROWN = 2.0
"""Growth of the table since the index was trained at which it is trained again; default; cells follow the data."""

UNINDEXED = 0.1
"""Share of rows outside the index, searched exactly, at which they are added; default; searches stay quick."""

FRAGMENTS = 20
"""Small files of the table at which they are merged: LanceDB's advice."""

FLUSH_BYTES = 64 * 2**20
"""Vectors that wait in memory; default; a few hundred files per transaction."""

FLUSH_SECONDS = 30.0
"""Most work that a killed process loses, beside that on its last file; default; few small transactions."""


@contextmanager
def writing(path: str | Path, waiting: Callable[[], object] = lambda: None) -> "Iterator[DatabaseWriter]":
    """The one writer of a database, new or existing; other processes wait until it is done.

    Args:
        path: the folder; its parent exists.
        waiting: called if another process is writing, before this one waits for it.

    Raises:
        SearchError: something else has that name, or the folder can't be made.
    """
    path = Path(path).expanduser()
    require_database(path)
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise SearchError(f"{path}: can't be made ({error.strerror}); check the path") from error
    lock = FileLock(path / LOCK)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        waiting()
        held = lock.acquire()
    with held:
        yield DatabaseWriter(path, SoundDatabase.find(path))


class DatabaseWriter:
    """What only the process that holds the lock does."""

    def __init__(self, path: Path, database: SoundDatabase | None):
        self.path, self.found = path, database

    @property
    def database(self) -> SoundDatabase:
        """The database, found or created."""
        assert self.found is not None, "create comes first"
        return self.found

    def create(self, settings: DatabaseSettings) -> None:
        """Make the empty table, in place of an existing one."""
        schema = row_schema(settings.width).with_metadata({METADATA: json.dumps(asdict(settings))})
        with named_errors(self.path):
            connection = import_lancedb().connect(self.path, read_consistency_interval=timedelta(0))
            mode = "overwrite" if (self.path / f"{TABLE}.lance").is_dir() else "create"
            table = connection.create_table(TABLE, schema=schema, mode=mode)
        self.found = SoundDatabase(self.path, table, settings)

    def replace(self, rows: "pa.Table") -> None:
        """Replace the rows of some files, all at once."""
        merge = self.database.table.merge_insert(["path", "start"])
        merge = merge.when_matched_update_all().when_not_matched_insert_all()
        with named_errors(self.path):
            merge.when_not_matched_by_source_delete(_among(rows["path"].unique().to_pylist())).execute(rows)

    def remove(self, paths: Sequence[str]) -> None:
        """Remove the rows of files."""
        with named_errors(self.path):
            for begin in range(0, len(paths), PATHS_AT_ONCE):
                self.database.table.delete(_among(paths[begin : begin + PATHS_AT_ONCE]))

    def retag(self, rows: "pa.Table") -> None:
        """Give rows (path, start) other tags, all at once."""
        with named_errors(self.path):
            self.database.table.merge_insert(["path", "start"]).when_matched_update_all().execute(rows)

    def keep_index(self, above: int, say: Callable[[str], object] = lambda text: None) -> None:
        """After rows were written: merge small files, and make, extend, train again or drop the index of vectors.

        IVF_RQ: vectors in cells by k-means, with one bit per dimension (RaBitQ), and the best candidates compared
        by the vectors themselves. Of LanceDB's indices it is built fastest by far (docs/search.md).

        Args:
            above: number of rows from which on there is an index.
            say: called with a line before training, which takes minutes for millions of rows.
        """
        from lancedb.index import IvfRq, IvfSq

        database = self.database
        rows, trained = database.count(), database.trained()
        with named_errors(self.path):
            fragments = database.table.stats()["fragment_stats"]["num_small_fragments"]
            if fragments >= FRAGMENTS or (trained and database.unindexed() > UNINDEXED * rows):
                database.table.optimize(cleanup_older_than=KEPT)
            if rows < max(above, 1) and trained:
                database.table.drop_index(INDEX)
                self._note(0)
            elif rows >= max(above, 1, GROWN * trained):
                say(f"{database.path}: training an approximate index of {rows:,} vectors")
                whole_bytes = database.settings.width % 8 == 0  # which IVF_RQ needs
                kind = (IvfRq if whole_bytes else IvfSq)(distance_type="cosine")
                database.table.create_index("vector", config=kind, replace=True, name=INDEX)
                self._note(rows)

    def _note(self, trained: int) -> None:
        text = json.dumps({"approximate": {"trained": trained}} if trained else {})
        self.database.table.update_field_metadata({"path": "vector", "metadata": {METADATA.decode(): text}})


def _among(paths: Sequence[str]) -> str:
    """SQL for the rows of these files, whatever is in their names."""
    from lancedb.expr import col

    return col("path").isin(paths).to_sql()


class RowBuffer:
    """Gathers the rows of files and writes many files at once; the rest at the end, also after an error."""

    def __init__(self, writer: DatabaseWriter, flush_bytes: int = FLUSH_BYTES):
        self._writer, self._flush_bytes = writer, flush_bytes
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._written = time.monotonic()

    def __enter__(self) -> "RowBuffer":
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()

    def add(
        self,
        path: str,
        state: FileState,
        spans: tuple[Float64[np.ndarray, " row"], Float64[np.ndarray, " row"], float],
        vectors: Float32[np.ndarray, "row width"],
        tags: Sequence[Sequence[str]],
    ) -> None:
        """The rows of a file: their starts and ends and its duration in seconds, their vectors and tags."""
        import pyarrow as pa

        count, width = vectors.shape
        starts, ends, duration = spans
        columns = {
            "path": [path] * count,
            "start": starts,
            "end": ends,
            "duration": [duration] * count,
            "size": [state.size] * count,
            "modified": [state.modified] * count,
            "tags": tags,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width),
        }
        self._tables.append(pa.table(columns, schema=row_schema(width)))
        self._bytes += vectors.nbytes
        if self._bytes >= self._flush_bytes or time.monotonic() - self._written >= FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._tables:
            self._writer.replace(pa.concat_tables(self._tables).combine_chunks())
        self._tables, self._bytes, self._written = [], 0, time.monotonic()
