"""Which clips a corpus has: a folder, a table or one file → paths and durations, and what is skipped and why."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from matpac import audio
from matpac.data.headers import DataError, header_of, read_headers
from matpac.data.tables import is_table, read_table
from matpac.errors import Skipped, describe_skipped

# One log-mel window, 25 ms (docs/method.md, section 1: 400 samples at 16 kHz): a shorter clip has no frame at all.
SHORTEST_SECONDS = 400 / 16_000


@dataclass(frozen=True)
class Clip:
    """A sound file to train on: its path, and its length in seconds by its header."""

    path: str
    duration: float

    @property
    def identity(self) -> str:
        """Identifies the clip: a resumed run must find it again."""
        return self.path

    @property
    def source(self) -> str | audio.SoundBytes:
        """What `matpac.audio` reads it from."""
        return self.path


@dataclass
class Corpus:
    """The clips of a corpus, in a fixed order, and the sounds that are skipped."""

    clips: list[Clip] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, clip: Clip, reason: str = "", min_seconds: float = SHORTEST_SECONDS) -> None:
        """Takes a clip in, or skips it for a reason: the given one, or that it is too short."""
        least = max(min_seconds, SHORTEST_SECONDS)
        if not reason and clip.duration < least:
            reason = f"too short: {clip.duration:.3f} s, at least {least:.3f} s are needed"
        if reason:
            self.skipped.append(Skipped(clip.path, reason))
        else:
            self.clips.append(clip)


def list_clips(
    source: str | Path,
    cache: Path | None = None,
    min_seconds: float = SHORTEST_SECONDS,
    workers: int = 8,
) -> Corpus:
    """The clips of a folder (searched recursively), of a table with a `path` column, or of one sound file.

    Tables are CSV, TSV or Parquet; their other columns are ignored, relative paths are relative to the table's
    folder, a path that occurs twice is one clip. Headers are read by `workers` threads and kept in the Parquet
    file `cache` (see `read_headers`). Clips shorter than `min_seconds`, or than one log-mel window, are skipped.

    Raises:
        TableError: a table that can't be read, or without `path` column.
        DataError: no sound file, none that can be used (with the first reasons), a cache that can't be read.
    """
    if not Path(source).exists():
        raise DataError(f"{source}: no such file or folder; check the path")
    if is_table(Path(source)):
        paths = list(dict.fromkeys(read_table(source).paths()))
    else:
        paths = [os.path.abspath(path) for path in audio.find_audio([source])]  # noqa: PTH100 (millions of paths)
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
    """The lengths of these files by their headers, as `list_clips`; files that can't be used are in `skipped`."""
    found = read_headers(paths, lambda path, _: [header_of(path)], cache, workers)
    corpus = Corpus()
    for path in paths:
        corpus.add(Clip(path, found[path][0].seconds), found[path][0].reason, min_seconds)
    return corpus


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
