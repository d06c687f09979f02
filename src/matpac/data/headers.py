"""Headers of sounds: read once, kept in a Parquet file, and read again where a file has changed."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event
from typing import NamedTuple

from matpac import audio
from matpac.atomic import written_whole
from matpac.console import track
from matpac.errors import MatpacError, reason_of

TASKS = 4_096  # files handed to the threads at a time: millions of waiting tasks would fill the memory
# Between two times that the headers read so far are kept: at most two minutes of reading are lost, and to write
# two million takes a core three seconds; default.
KEEP_SECONDS = 120.0
COLUMNS = ("path", "bytes", "modified", "name", "offset", "size", "seconds", "reason")


class DataError(MatpacError):
    """A corpus that can't be used; the message names it and gives the way out."""


class Header(NamedTuple):
    """A sound by its header.

    Args:
        name: of the member of a shard; empty for a file.
        offset: byte of the shard at which the member begins.
        size: of the member, in bytes.
        seconds: duration.
        reason: why it can't be used; empty for a sound that can.
    """

    name: str
    offset: int
    size: int
    seconds: float
    reason: str


State = tuple[int, int]  # bytes, and time of the last change in ns; -1 for what is not on this machine
Known = dict[str, tuple[State, list[Header]]]


def header_of(sound: str | audio.SoundBytes, name: str = "", offset: int = 0, size: int = 0) -> Header:
    """The header of a file, or of a member of a shard."""
    try:
        return Header(name, offset, size, audio.info(sound).duration, "")
    except audio.AudioError as error:
        return Header(name, offset, size, 0.0, reason_of(error, str(sound)))


def read_headers(
    paths: Sequence[str],
    read: Callable[[str, Event], list[Header]],
    cache: Path | None = None,
    workers: int = 8,
    what: str = "Reading headers",
) -> dict[str, list[Header]]:
    """The headers of the sounds of each file or shard.

    Args:
        paths: files, shards, and URLs of shards.
        read: gives the headers of one; may end with any error where the event is set.
        cache: Parquet file that keeps them, also when an error or an interrupt ends the reading: another call
            reads nothing whose size and time of change are the same. URLs are taken to be unchanged.
        workers: threads.
        what: title of the progress bar.

    Raises:
        DataError: the cache can't be read. Whatever `read` raises.
    """
    known = _read_cache(cache) if cache is not None and cache.exists() else {}
    found: Known = {}
    stop, threads = Event(), ThreadPoolExecutor(max(1, workers))
    futures: list[Future[tuple[str, State, list[Header]]]] = []

    def look(path: str) -> tuple[str, State, list[Header]]:
        state = state_of(path)
        before = known.get(path)
        return path, state, before[1] if before is not None and before[0] == state else read(path, stop)

    def results() -> Iterator[Future[tuple[str, State, list[Header]]]]:
        for begin in range(0, len(paths), TASKS):
            futures[:] = [threads.submit(look, path) for path in paths[begin : begin + TASKS]]
            yield from as_completed(futures)

    complete, kept = False, time.monotonic()
    try:
        for future in track(results(), what, len(paths)):
            path, state, headers = future.result()
            found[path] = state, headers
            if cache is not None and time.monotonic() - kept >= KEEP_SECONDS:
                _write_cache(cache, known | found)
                kept = time.monotonic()
        complete = True
    finally:
        stop.set()
        threads.shutdown(cancel_futures=True)
        done = (future for future in futures if not future.cancelled() and future.exception() is None)
        found |= {path: (state, headers) for path, state, headers in (future.result() for future in done)}
        fresh = any(path not in known or known[path][1] is not headers for path, (_, headers) in found.items())
        if cache is not None and (fresh or (complete and len(found) < len(known))):
            _write_cache(cache, found if complete else known | found)
    return {path: headers for path, (_, headers) in found.items()}


def state_of(path: str) -> State:
    """Size and time of change of a file; −1 for what isn't on this machine."""
    try:
        state = os.stat(path)  # noqa: PTH116 (millions of files)
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _read_cache(cache: Path) -> Known:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(cache)
    except pa.ArrowException as error:
        raise DataError(f"{cache}: not a list of headers written by matpac ({error}); remove it") from error
    if not set(COLUMNS) <= set(table.column_names):
        return {}  # a list of version 0.1.0, which had other columns: headers are read again
    known: Known = {}
    rows = zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)
    for path, size, modified, name, *rest in rows:
        _, headers = known.setdefault(os.fsdecode(path), ((size, modified), []))
        if name is not None:
            headers.append(Header(os.fsdecode(name), *rest))
    if (table.schema.metadata or {}).get(b"readers") == audio.readers().encode():
        return known
    # other libraries may read what these could not: only what was readable is still known
    return {path: entry for path, entry in known.items() if not any(header.reason for header in entry[1])}


def _write_cache(cache: Path, known: Known) -> None:
    """One row per sound, and one without name for a shard that has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[tuple] = []
    for path, (state, headers) in known.items():
        begin = os.fsencode(path), *state  # file names need not be UTF-8
        rows += [(*begin, os.fsencode(header.name), *header[1:]) for header in headers]
        rows += [] if headers else [(*begin, None, None, None, None, None)]
    kinds = (pa.binary(), pa.int64(), pa.int64(), pa.binary(), pa.int64(), pa.int64(), pa.float64(), pa.string())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)), metadata={"readers": audio.readers()})
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    cache.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(cache) as draft:
        pq.write_table(pa.table(arrays, schema=schema), draft)
