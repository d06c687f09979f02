"""`matpac embed`: many sound files to one table of vectors, read and resampled beside the network."""

import os
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from matpac import __version__
from matpac.audio import AudioError, blocks, find_audio, info, read
from matpac.embedder import Embedder, Layers
from matpac.errors import MatpacError
from matpac.vector_files import VectorFile, open_vector_file

LONG_SECONDS = 120.0
"""Longer files are read block by block, so that memory does not grow with them; ours."""

AHEAD_SECONDS = 600.0
"""Sound that may be decoded ahead of the network: 38 MB at 16 kHz; ours."""

AHEAD_FILES = 64
"""Files that may be decoded ahead, however short; ours."""


@dataclass(frozen=True)
class EmbedOptions:
    """What `matpac embed` does with the files it is given.

    Args:
        output: a .parquet or .npz file.
        frames: a vector every 160 ms instead of one a clip.
        layers: all blocks' outputs instead of the last one's.
        batch_size: full chunks computed at once.
        readers: threads that decode and resample.
    """

    output: str
    frames: bool = False
    layers: bool = False
    batch_size: int | None = None
    readers: int = 2

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise MatpacError(f"a batch of {self.batch_size} chunks computes nothing; it takes at least 1")


@dataclass
class Embedded:
    """How it went."""

    files: int = 0
    seconds_of_audio: float = 0.0
    seconds: float = 0.0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def embed_files(sources: list[str], embedder: Embedder, options: EmbedOptions) -> Embedded:
    """Embed every sound file below `sources` into one table; what cannot be read is named and left out.

    Raises:
        MatpacError: no sound file there, the output's kind is not known, or not one file could be read.
    """
    paths = find_audio(sources)
    if not paths:
        raise MatpacError(f"{', '.join(sources)}: no sound files there")
    began = time.monotonic()
    result = Embedded()
    layers: Layers = "all" if options.layers else None
    with (
        open_vector_file(Path(options.output), _describe(embedder, options)) as file,
        _progress() as progress,
        ExitStack() as stack,
    ):
        pool = ThreadPoolExecutor(options.readers)
        stack.callback(pool.shutdown, cancel_futures=True)  # what is not begun is not waited for
        task = progress.add_task("embed", total=len(paths), speed="")
        clips = _Clips(paths, embedder.sample_rate, pool, result)
        outputs = (
            embedder.frame_sequences(clips, layers, options.batch_size, clips.failed)
            if options.frames
            else embedder.scenes(clips, layers, options.batch_size, clips.failed)
        )
        for number, vectors in enumerate(outputs):
            if vectors is not None:
                _write(file, embedder, clips, number, vectors, options)
                result.files += 1
                result.seconds_of_audio += clips.durations[number]
            speed = result.seconds_of_audio / (time.monotonic() - began)
            progress.update(task, advance=1, speed=f"{speed:.0f} s of audio per second")
        if not result.files:
            raise MatpacError(
                f"not one of {len(paths)} files could be embedded; the first: {result.skipped[0][1]}"
            )
    result.seconds = time.monotonic() - began
    return result


class _Clips:
    """The files' samples in order, decoded ahead of their use; remembers how long each one was."""

    def __init__(self, paths: list[Path], sample_rate: int, pool: ThreadPoolExecutor, result: Embedded):
        self.paths, self.sample_rate, self.pool, self.result = paths, sample_rate, pool, result
        self.durations: dict[int, float] = {}

    def __iter__(self) -> Iterator[Iterable[np.ndarray]]:
        waiting: deque[tuple[int, float, Future]] = deque()
        ahead = 0.0
        for number, path in enumerate(self.paths):
            length = self._length(path)
            waiting.append((number, length, self.pool.submit(self._start, path, length)))
            ahead += length
            while ahead > AHEAD_SECONDS or len(waiting) > AHEAD_FILES:
                number, length, future = waiting.popleft()
                ahead -= length
                yield self._blocks(number, future)
        for number, _, future in waiting:
            yield self._blocks(number, future)

    def _length(self, path: Path) -> float:
        try:
            return min(info(path).duration, LONG_SECONDS)
        except AudioError:
            return 0.0  # `_start` meets the same error, where it is counted and named

    def _start(self, path: Path, length: float) -> Iterable[np.ndarray]:
        if length < LONG_SECONDS:
            return [read(path, self.sample_rate)]
        return _in_background(blocks(path, sample_rate=self.sample_rate), self.pool)

    def _blocks(self, number: int, future: "Future[Iterable[np.ndarray]]") -> Iterator[np.ndarray]:
        samples = 0
        for block in future.result():
            samples += len(block)
            yield block
        self.durations[number] = samples / self.sample_rate

    def failed(self, number: int, error: AudioError) -> None:
        path = str(self.paths[number])
        reason = str(error).removeprefix(f"clip {number}: ")
        self.result.skipped.append((path, reason if path in reason else f"{path}: {reason}"))


def _in_background(source: Iterator[np.ndarray], pool: ThreadPoolExecutor) -> Generator[np.ndarray, None, None]:
    """The same blocks, the next one being read while the last one is used. Nothing is read before the first."""
    ahead = pool.submit(next, source, None)
    try:
        while (block := ahead.result()) is not None:
            ahead = pool.submit(next, source, None)
            yield block
    finally:  # also where the reader of the blocks gives up in between
        if not ahead.cancel():
            wait([ahead])
        if isinstance(source, Generator):
            source.close()  # and the file with it


def _write(
    file: VectorFile, embedder: Embedder, clips: _Clips, number: int, vectors: Tensor, options: EmbedOptions
) -> None:
    """Rows of one clip: one, or one a frame, for the last layer or for each."""
    per_layer = vectors if options.layers else vectors[None]
    for layer, part in enumerate(per_layer):
        rows = part if options.frames else part[None]
        file.write(
            _text(clips.paths[number]),
            clips.durations[number],
            rows.numpy(),
            layer=layer if options.layers else None,
            times=embedder.times(len(rows)).numpy() if options.frames else None,
        )


def _text(path: Path) -> str:
    """A path as text that any file can hold: names of files need not be UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _describe(embedder: Embedder, options: EmbedOptions) -> dict[str, object]:
    """What made the vectors, kept in the file."""
    return {
        "matpac": __version__,
        "encoder": asdict(embedder.card),
        "logmel": asdict(embedder.logmel.config),
        "network": asdict(embedder.encoder.config),
        "frames": options.frames,
        "layers": options.layers,
        "width": embedder.width,
        "hop_seconds": embedder.hop if options.frames else None,
    }


def _progress() -> Progress:
    """A bar on a terminal, nothing elsewhere: the summary says it all."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
