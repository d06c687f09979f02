"""Which clips a corpus has: a folder, a table or one file → paths and durations, and what is left out and why."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from matpac import audio
from matpac.atomic import written_whole
from matpac.console import track
from matpac.data.tables import is_table, read_table
from matpac.errors import MatpacError, Skipped, describe_skipped, reason_of

T = TypeVar("T")

# One log-mel window, 25 ms (docs/method.md, section 1: 400 samples at 16 kHz): a shorter clip has no frame at all.
SHORTEST_SECONDS = 400 / 16_000
# Files handed to the threads at a time: millions of waiting tasks would fill the memory.
TASKS = 4_096
# Between two times that the headers read so far are kept: at most two minutes of reading are lost, and to write
# two million takes a core three seconds; ours.
KEEP_SECONDS = 120.0
CACHE_COLUMNS = ("path", "size", "modified", "duration", "reason")


class DataError(MatpacError):
    """A corpus that can't be used; the message names it and tells the way out."""


@dataclass(frozen=True)
class Clip:
    """A sound file to train on: its path, and its length in seconds by its header."""

    path: str
    duration: float

    @property
    def identity(self) -> str:
        """What a resumed run must find again."""
        return self.path

    @property
    def source(self) -> str | audio.SoundBytes:
        """What `matpac.audio` reads it from."""
        return self.path


@dataclass
class Corpus:
    """The clips of a corpus, in a fixed order, and the files left out."""

    clips: list[Clip] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class _Header:
    """What is kept of a file between two runs; `reason` is empty for a file that can be read."""

    path: str
    size: int
    modified: int  # ns
    duration: float
    reason: str


def list_clips(
    source: str | Path,
    cache: Path | None = None,
    min_seconds: float = SHORTEST_SECONDS,
    workers: int = 8,
) -> Corpus:
    """The clips of a folder (searched deep), of a table with a `path` column, or of one sound file.

    Tables are CSV, TSV or Parquet; their other columns are ignored, relative paths count from the table's
    folder, a path that stands there twice is one clip. Headers are read by `workers` threads, and what they say is
    kept in the Parquet file `cache`, now and then while they are read and at the end: another call reads no header
    of a file whose size and time of change are the same. Clips shorter than `min_seconds`, or than one log-mel
    window, are left out.

    Raises:
        TableError: a table that can't be read, or without `path` column.
        DataError: no sound file, none that can be used (with the first reasons), a cache that can't be read.
    """
    if not Path(source).exists():
        raise DataError(f"{source}: no such file or folder; check the path")
    paths = _candidates(Path(source))
    if not paths:
        kinds = ", ".join(sorted(audio.AUDIO_SUFFIXES))
        raise DataError(f"{source}: no sound file in this folder (looked for {kinds})")
    files = measure_clips(paths, cache, min_seconds, workers)
    if not files.clips:
        raise DataError(f"{source}: no clip can be used: {describe_skipped(files.skipped)}")
    return files


def measure_clips(
    paths: Sequence[str], cache: Path | None = None, min_seconds: float = SHORTEST_SECONDS, workers: int = 8
) -> Corpus:
    """The lengths of these files by their headers; those that can't be used are in `left_out`. As `list_clips`."""
    files = Corpus()
    least = max(min_seconds, SHORTEST_SECONDS)
    for header in _headers(list(paths), cache, workers):
        if header.reason:
            files.skipped.append(Skipped(header.path, header.reason))
        elif header.duration < least:
            reason = f"too short: {header.duration:.3f} s, at least {least:.3f} s are needed"
            files.skipped.append(Skipped(header.path, reason))
        else:
            files.clips.append(Clip(header.path, header.duration))
    return files


# --- which files -------------------------------------------------------------------------------------------


def _candidates(source: Path) -> list[str]:
    if is_table(source):
        return list(dict.fromkeys(read_table(source).paths()))
    return [os.path.abspath(path) for path in audio.find_audio([source])]  # noqa: PTH100 (millions of paths)


# --- headers, read once ------------------------------------------------------------------------------------


def _headers(paths: list[str], cache: Path | None, workers: int) -> list[_Header]:
    known = _read_cache(cache) if cache is not None and cache.exists() else {}
    fresh, kept = 0, time.monotonic()
    headers: list[_Header] = []
    with ThreadPoolExecutor(max(1, workers)) as threads:
        for header, was_read in track(_in_parallel(threads, paths, known), "Reading headers", len(paths)):
            headers.append(header)
            fresh += was_read
            if cache is not None and fresh and time.monotonic() - kept >= KEEP_SECONDS:
                _write_cache(cache, list((known | {header.path: header for header in headers}).values()))
                kept = time.monotonic()
    if cache is not None and (fresh or len(headers) != len(known)):
        _write_cache(cache, headers)
    return headers


def _in_parallel(
    threads: ThreadPoolExecutor, paths: list[str], known: dict[str, _Header]
) -> Iterator[tuple[_Header, bool]]:
    for begin in range(0, len(paths), TASKS):
        yield from threads.map(lambda path: _header(path, known.get(path)), paths[begin : begin + TASKS])


def _header(path: str, known: _Header | None) -> tuple[_Header, bool]:
    """What a file's header says, and whether it had to be read for that."""
    try:
        state = os.stat(path)  # noqa: PTH116 (millions of files)
    except OSError as error:
        return _Header(path, -1, -1, 0.0, f"{error.strerror}; check the path"), True
    if known is not None and (known.size, known.modified) == (state.st_size, state.st_mtime_ns):
        return known, False
    try:
        duration, reason = audio.info(path).duration, ""
    except audio.AudioError as error:
        duration, reason = 0.0, reason_of(error, path)
    return _Header(path, state.st_size, state.st_mtime_ns, duration, reason), True


def _read_cache(cache: Path) -> dict[str, _Header]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(cache)
        rows = zip(*(table[name].to_pylist() for name in CACHE_COLUMNS), strict=True)
    except (pa.ArrowException, KeyError) as error:
        raise DataError(f"{cache}: not a list of durations written by matpac ({error}); remove it") from error
    headers = {path: _Header(path, *rest) for path, *rest in ((os.fsdecode(row[0]), *row[1:]) for row in rows)}
    if (table.schema.metadata or {}).get(b"readers") == audio.readers().encode():
        return headers
    # other libraries may read what these could not: only what was readable is still known
    return {path: header for path, header in headers.items() if not header.reason}


def _write_cache(cache: Path, headers: list[_Header]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [getattr(header, name) for header in headers] for name in CACHE_COLUMNS}
    columns["path"] = [os.fsencode(header.path) for header in headers]  # file names need not be UTF-8
    kinds = zip(CACHE_COLUMNS, (pa.binary(), pa.int64(), pa.int64(), pa.float64(), pa.string()), strict=True)
    schema = pa.schema(list(kinds), metadata={"readers": audio.readers()})
    cache.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(cache) as draft:
        pq.write_table(pa.table(columns, schema=schema), draft)


# --- what the sounds of clips are read from -----------------------------------------------------------------


@runtime_checkable
class Sounds(Protocol):
    """What each clip's sound is read from."""

    def sound(self, epoch: int, index: int, replaces: bool) -> str | audio.SoundBytes:
        """The sound of one clip; `replaces` if it takes the place of another clip, out of turn."""
        ...


class Names:
    """Millions of names in one piece of memory, which workers share: no reference counts are written to it."""

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self._bytes = b"".join(encoded)
        self._bounds = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self._bytes[self._bounds[index] : self._bounds[index + 1]])


class FileSounds:
    """Clips that are files."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._paths = Names(clip.path for clip in clips)

    def sound(self, epoch: int, index: int, replaces: bool) -> str:
        """See `Sounds`."""
        return self._paths[index]
