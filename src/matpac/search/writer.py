"""The one process that writes to a database of sounds at a time.

Every write is one transaction of LanceDB's: who searches meanwhile sees the table as it was before, and a process
that is killed leaves whole files behind.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from matpac.search.database import (
    INDEX,
    LOCK,
    METADATA,
    TABLE,
    SearchError,
    Settings,
    SoundDatabase,
    condition,
    conditions,
    import_lancedb,
    require_ours,
    told,
)

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = timedelta(hours=1)
"""How long old versions of the table stay on disk: far longer than any search that still reads one; ours."""


@contextmanager
def writing(path: str | Path, waiting: Callable[[], object]) -> "Iterator[DatabaseWriter]":
    """The one writer of a database, which need not be there yet; other processes wait until it is done.

    Args:
        path: of the folder; the one above it must be there.
        waiting: is called where another process is writing, before this one waits for it.

    Raises:
        SearchError: another thing of that name is there, or the folder can't be made.
    """
    path = Path(path).expanduser()
    require_ours(path)
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
        self.path = path
        self._database = database

    @property
    def found(self) -> SoundDatabase | None:
        """The database; None where there is none yet."""
        return self._database

    @property
    def database(self) -> SoundDatabase:
        """The database, which was there or was made by now."""
        assert self._database is not None, "create comes first"
        return self._database

    def create(self, settings: Settings) -> None:
        """Make the empty table, in the place of one that may be there."""
        import pyarrow as pa

        columns = [
            pa.field("path", pa.string()),
            pa.field("start", pa.float64()),
            pa.field("end", pa.float64()),
            pa.field("duration", pa.float64()),
            pa.field("size", pa.int64()),
            pa.field("modified", pa.int64()),
            pa.field("tags", pa.list_(pa.string())),
            pa.field("vector", pa.list_(pa.float32(), settings.width)),
        ]
        schema = pa.schema(columns, metadata={METADATA: json.dumps(asdict(settings))})
        with told(self.path):
            connection = import_lancedb().connect(self.path, read_consistency_interval=timedelta(0))
            mode = "create" if self._database is None else "overwrite"  # which warns where there is none
            table = connection.create_table(TABLE, schema=schema, mode=mode)
        self._database = SoundDatabase(self.path, table, settings)

    def replace(self, rows: "pa.Table") -> None:
        """Put the rows of some files in the place of those that these files had, all at once."""
        paths = rows["path"].unique().to_pylist()
        merge = self.database.table.merge_insert(["path", "start"])
        merge = merge.when_matched_update_all().when_not_matched_insert_all()
        with told(self.path):
            merge.when_not_matched_by_source_delete(condition(paths)).execute(rows)

    def remove(self, paths: Iterable[str]) -> None:
        """Take files out."""
        with told(self.path):
            for condition in conditions(list(paths)):
                self.database.table.delete(condition)

    def retag(self, tags: Mapping[str, Sequence[str]]) -> None:
        """Give files other tags, the same for all of their rows."""
        import pyarrow as pa

        if not tags:
            return
        kinds = pa.list_(pa.string())
        columns = {"path": list(tags), "tags": pa.array([list(names) for names in tags.values()], kinds)}
        with told(self.path):
            self.database.table.merge_insert("path").when_matched_update_all().execute(pa.table(columns))

    def retag_rows(self, rows: "pa.Table") -> None:
        """Give rows (path, start) other tags."""
        with told(self.path):
            self.database.table.merge_insert(["path", "start"]).when_matched_update_all().execute(rows)

    def write_note(self, note: Mapping[str, object]) -> None:
        """Keep a few values beside the vectors, and those of other names; None takes one out."""
        values = {**self.database.note(), **note}
        text = json.dumps({name: value for name, value in values.items() if value is not None})
        with told(self.path):
            self.database.table.update_field_metadata({"path": "vector", "metadata": {METADATA.decode(): text}})

    def tidy(self) -> None:
        """Merge small files, drop old versions, and bring rows that came later into the index of vectors."""
        with told(self.path):
            self.database.table.optimize(cleanup_older_than=KEPT)

    def create_index(self, kind: Any) -> None:
        """Train an index of vectors in the place of one that may be there."""
        with told(self.path):
            self.database.table.create_index("vector", config=kind, replace=True, name=INDEX)

    def drop_index(self) -> None:
        """Search exactly from now on."""
        with told(self.path):
            self.database.table.drop_index(INDEX)
