"""The store: a folder of parts that knows each file by path, size and time, and why some have no vectors.

A part is a Parquet file (or an Arrow file, which can be mapped) that appears when it is whole and holds all
vectors of its files; its metadata lists these. Parts are committed under a lock that is held only then, so that
any number of processes may write: what another one committed meanwhile is not added again. Rows of files that
changed are removed when the new ones come. `_errors.jsonl` lists the files that have no vectors, and why.
`pyarrow.dataset.dataset(folder)` reads the parts as one table.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Shaped

from matpac.atomic import to_disk, written_whole
from matpac.errors import MatpacError
from matpac.vectors.states import FileState
from matpac.vectors.tables import arrow_writer, parquet_writer

if TYPE_CHECKING:
    import pyarrow as pa

PART_SECONDS = 120.0
"""A part is committed after this time at the latest: what a killed run loses; default; few enough parts."""

PART_BYTES = 32 * 2**20
"""A part is committed when its vectors take so much; default; they wait in memory."""

IDENTITY = ("encoder_key", "frames", "layers")
"""What of a part's description must agree: another release may continue the folder, another encoder may not."""

WORKING_FOLDER = "working_folder"
"""What of a description must agree where both have it: relative paths from elsewhere are other sounds."""

ERRORS = "_errors.jsonl"


@dataclass(frozen=True)
class StoredError(FileState):
    """A file that has no vectors.

    Args:
        size, modified: as it was.
        reason: why it has none.
        decoders: that could not read it (`matpac.audio.readers`).
    """

    reason: str = ""
    decoders: str = ""


@dataclass(frozen=True)
class _Waiting:
    path: str
    state: FileState
    tables: Iterable["pa.Table"]
    rows: int


@dataclass(frozen=True)
class _Part:
    """A part as it was read: its files in order, each with its state and number of rows."""

    stamp: tuple[int, int]
    files: dict[str, tuple[FileState, int]]

    @property
    def rows(self) -> list[int]:
        return [rows for _, rows in self.files.values()]


class VectorStore:
    """A folder of parts for one process to read and write, beside others.

    Args:
        folder: made if need be; the one above it is there.
        about: the vectors, kept in every part as JSON under "matpac"; has `IDENTITY`.
        kind: of the parts.
        part_seconds, part_bytes: when a part is committed.

    Raises:
        MatpacError: there is no place for the folder, or it holds what is no part, parts of another encoder or of
            other settings, or of files named from another working folder.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, object],
        kind: Literal["parquet", "arrow"] = "parquet",
        part_seconds: float = PART_SECONDS,
        part_bytes: int = PART_BYTES,
    ):
        if not folder.parent.is_dir():
            raise MatpacError(f"{folder}: there is no folder {folder.parent}")
        folder.mkdir(exist_ok=True)
        self.folder, self.about, self.kind = folder, about, kind
        self.part_seconds, self.part_bytes = part_seconds, part_bytes
        self._parts: dict[Path, _Part] = {}
        self._waiting: list[_Waiting] = []
        self._failed: dict[str, StoredError] = {}
        self._bytes, self._committed = 0, time.monotonic()
        self.read()

    # --- reading ---------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Take up what other processes committed."""
        found = {}
        for path in sorted(self.folder.glob(f"[!._]*.{self.kind}")):
            stat = path.stat()
            stamp, known = (stat.st_mtime_ns, stat.st_size), self._parts.get(path)
            found[path] = known if known and known.stamp == stamp else _Part(stamp, self._read_files(path))
        self._parts = found
        self.files = {path: state for part in found.values() for path, (state, _) in part.files.items()}
        self.errors = self._read_errors()

    def _read_files(self, part: Path) -> dict[str, tuple[FileState, int]]:
        import pyarrow as pa

        try:
            metadata = self._schema(part).metadata or {}
            about, files = (json.loads(metadata[name]) for name in (b"matpac", b"matpac_files"))
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise MatpacError(
                f"{part}: not a part that this release wrote, or not whole; delete it or use another folder"
            ) from error
        if any(about.get(name) != self.about[name] for name in IDENTITY):
            raise MatpacError(
                f"{part}: holds {_describe(about)}, and these would be {_describe(self.about)}; use another folder"
            )
        theirs, mine = about.get(WORKING_FOLDER), self.about.get(WORKING_FOLDER)
        if theirs and mine and theirs != mine:
            raise MatpacError(
                f"{part}: its paths are relative to {theirs}, and these to {mine} may be other sounds of the same "
                "names; run from there, use absolute paths or another folder"
            )
        return {path: (FileState(size, modified), rows) for path, size, modified, rows in files}

    def _read_errors(self) -> dict[str, StoredError]:
        try:
            lines = (self.folder / ERRORS).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        rows = map(json.loads, lines)
        return {row.pop("path"): StoredError(**row) for row in rows}

    def _schema(self, part: Path) -> "pa.Schema":
        from pyarrow import parquet

        return parquet.read_schema(part) if self.kind == "parquet" else _mapped(part).schema

    def vectors(self, paths: Sequence[str]) -> Iterator[Shaped[np.ndarray, "row width"]]:
        """All rows of each file, in the order of the paths, as views of mapped Arrow parts."""
        places: dict[str, tuple[np.ndarray, int, int]] = {}
        wanted = set(paths)
        for path, part in self._parts.items():
            if wanted.isdisjoint(part.files):
                continue
            column = _mapped(path).read_all()["vector"].combine_chunks()
            values = column.flatten().to_numpy().reshape(len(column), -1)
            end = 0
            for name, rows in zip(part.files, part.rows, strict=True):
                places[name] = (values, end, end + rows)
                end += rows
        for name in paths:
            values, first, last = places[name]
            yield values[first:last]

    # --- writing ---------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Commit at the end what was added, also after an error or Ctrl-C."""
        try:
            yield
        finally:
            self.commit()

    def add(self, path: str, state: FileState, tables: Iterable["pa.Table"], rows: int, size: int) -> None:
        """All tables of a file, which have so many rows and bytes; those of a large file are read once, now."""
        if size >= self.part_bytes:
            self.commit()
        else:
            tables = list(tables)
        self._waiting.append(_Waiting(path, state, tables, rows))
        self._bytes += size
        if self._bytes >= self.part_bytes or time.monotonic() - self._committed >= self.part_seconds:
            self.commit()

    def fail(self, path: str, error: StoredError) -> None:
        """A file that has no vectors; those that it had go."""
        self._failed[path] = error

    def commit(self) -> None:
        """Write what was added as one part."""
        waiting, failed = self._waiting, self._failed  # none is tried a second time after an error
        self._waiting, self._failed, self._bytes, self._committed = [], {}, 0, time.monotonic()
        if not waiting and not failed:
            return
        with self.locked():
            self.read()
            new = [one for one in waiting if not self._holds(one.path, one.state)]
            failed = {path: error for path, error in failed.items() if not self._holds(path, error)}
            self._remove({one.path for one in new} | failed.keys())
            if new:
                self._write(new)
            embedded = {one.path for one in waiting}
            errors = {path: error for path, error in self.errors.items() if path not in embedded} | failed
            if errors != self.errors:
                self._write_errors(errors)
            self.read()

    def _holds(self, path: str, state: FileState) -> bool:
        return path in self.files and self.files[path].is_same(state)

    @contextmanager
    def locked(self, name: str = ".lock") -> Iterator[None]:
        """Hold a lock of the folder; waits for the process that holds it."""
        from filelock import FileLock

        with FileLock(self.folder / name):
            yield

    def _write(self, new: Sequence[_Waiting]) -> None:
        number = 1 + max((int(part.stem.split("-")[1]) for part in self._parts), default=-1)
        files = {one.path: (one.state, one.rows) for one in new}
        self._write_part(
            self.folder / f"part-{number:05}.{self.kind}", files, (table for one in new for table in one.tables)
        )

    def _write_part(
        self, part: Path, files: Mapping[str, tuple[FileState, int]], tables: Iterable["pa.Table"]
    ) -> None:
        listed = [[path, state.size, state.modified, rows] for path, (state, rows) in files.items()]
        metadata = {"matpac": json.dumps(self.about), "matpac_files": json.dumps(listed)}
        writer = parquet_writer if self.kind == "parquet" else arrow_writer
        draft = self.folder / f".draft.{self.kind}"  # one name: a killed run's is overwritten
        try:
            with writer(draft, metadata) as write:
                for table in tables:
                    write(table)
            to_disk(draft)
            draft.replace(part)
        finally:
            draft.unlink(missing_ok=True)

    def _remove(self, paths: set[str]) -> None:
        """Take files out of the parts; done before their new rows come, so that no reader sees both."""
        from pyarrow import parquet

        for path, part in self._parts.items():
            if paths.isdisjoint(part.files):
                continue
            rest = {name: known for name, known in part.files.items() if name not in paths}
            if rest:
                table = parquet.read_table(path) if self.kind == "parquet" else _mapped(path).read_all()
                kept = np.repeat([name in rest for name in part.files], part.rows)
                self._write_part(path, rest, [table.filter(kept)])
            else:
                path.unlink()

    def _write_errors(self, errors: Mapping[str, StoredError]) -> None:
        lines = [json.dumps({"path": path} | vars(error)) + "\n" for path, error in errors.items()]
        with written_whole(self.folder / ERRORS) as draft:
            draft.write_text("".join(lines), encoding="utf-8")


def _mapped(part: Path):
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(os.fsencode(part)))  # bytes: names of folders need not be UTF-8


def _describe(about: Mapping[str, object]) -> str:
    encoder = about.get("encoder")
    name = encoder.get("name") if isinstance(encoder, dict) else None
    kind = "frames" if about.get("frames") else "scenes"
    layers = "all layers" if about.get("layers") else "the last layer"
    return f"{kind} of {layers} of {name} ({str(about.get('encoder_key'))[:12]})"
