"""Sound files as clips in order, decoded and resampled by threads ahead of their use, in bounded memory."""

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from matpac.audio import AudioError, blocks, info, read, read_crop

LONG_SECONDS = 120.0
"""Clips longer than this are read block by block; default; memory must not grow with their length."""

AHEAD_SECONDS = 600.0
"""Sound that may be decoded ahead of the network; default; 38 MB at 16 kHz."""

AHEAD_CLIPS = 64
"""Clips that may be decoded ahead, however short; default; keeps lists of waiting work small."""

READERS = 2
"""Threads that decode and resample; default; two keep up with the network on two cores (benchmarks/folder.py)."""

Clip = str | os.PathLike[str] | Iterable[np.ndarray]
"""A sound file, or blocks of float32 samples at the wanted rate."""


class Clips:
    """Clips in order, each as an iterable of blocks, read ahead while they are iterated over.

    A file that can't be used raises its AudioError when its blocks are asked for, not earlier.

    Args:
        clips: sound files; a clip that comes as blocks is passed on as it is.
        sample_rate: of the blocks, in Hz.
        pool: its threads read; the caller shuts it down.
        samples: every clip is cut or zero-padded to this length, and what lies behind is not decoded; None leaves
            clips as they are.
        long_seconds: clips of this length and longer are read block by block.
        ahead_seconds: sound that may be decoded ahead.
        ahead_clips: clips that may be decoded ahead.
    """

    def __init__(
        self,
        clips: Iterable[Clip],
        sample_rate: int,
        pool: ThreadPoolExecutor,
        samples: int | None = None,
        *,
        long_seconds: float = LONG_SECONDS,
        ahead_seconds: float = AHEAD_SECONDS,
        ahead_clips: int = AHEAD_CLIPS,
    ):
        self.clips, self.sample_rate, self.pool, self.samples = clips, sample_rate, pool, samples
        self.long_seconds, self.ahead_seconds, self.ahead_clips = long_seconds, ahead_seconds, ahead_clips

    def __iter__(self) -> Iterator[Iterable[np.ndarray]]:
        waiting: deque[tuple[float, Future[Iterable[np.ndarray]]]] = deque()
        ahead = 0.0
        for clip in self.clips:
            seconds = self._seconds_in_memory(clip)
            waiting.append((seconds, self.pool.submit(self._start, clip, seconds)))
            ahead += seconds
            while ahead > self.ahead_seconds or len(waiting) > self.ahead_clips:
                seconds, future = waiting.popleft()
                ahead -= seconds
                yield _blocks(future)
                del future  # or this frame keeps the samples of a clip that was used
        while waiting:
            yield _blocks(waiting.popleft()[1])

    def _seconds_in_memory(self, clip: Clip) -> float:
        if not isinstance(clip, (str, os.PathLike)):
            return 0.0
        if self.samples is not None:
            return self.samples / self.sample_rate
        try:
            return min(info(Path(clip)).duration, self.long_seconds)
        except AudioError:
            return 0.0  # `_start` meets the same error

    def _start(self, clip: Clip, seconds: float) -> Iterable[np.ndarray]:
        if not isinstance(clip, (str, os.PathLike)):
            return clip
        path = Path(clip)
        if self.samples is not None:
            sound = read_crop(path, 0.0, self.samples, self.sample_rate)
            return [np.pad(sound, (0, self.samples - len(sound)))]
        if seconds < self.long_seconds:
            return [read(path, self.sample_rate)]
        return in_background(blocks(path, sample_rate=self.sample_rate), self.pool)


def _blocks(future: "Future[Iterable[np.ndarray]]") -> Iterator[np.ndarray]:
    yield from future.result()


def in_background(source: Iterator[np.ndarray], pool: ThreadPoolExecutor) -> Generator[np.ndarray, None, None]:
    """The same blocks, the next one being read while the last one is used. Nothing is read before the first."""
    ahead = pool.submit(next, source, None)
    try:
        while (block := ahead.result()) is not None:
            ahead = pool.submit(next, source, None)
            yield block
    finally:  # also if the consumer stops early
        if not ahead.cancel():
            wait([ahead])
        if isinstance(source, Generator):
            source.close()  # and the file with it
