"""Sound files as clips in order, decoded and resampled by threads ahead of their use, in bounded memory."""

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from matpac.audio import AudioError, blocks, info, read, read_crop

LONG_SECONDS = 120.0
"""Longer clips that are not cut are read block by block, so that memory does not grow with them; ours."""

AHEAD_SECONDS = 600.0
"""Sound that may be decoded ahead of the network: 38 MB at 16 kHz; ours."""

READERS = 2
"""Threads that decode and resample beside the network: two keep up with it on a machine of two cores; ours."""

AHEAD_CLIPS = 64
"""Clips that may be decoded ahead, however short; ours."""


def read_unit(path: Path, sample_rate: int, samples: int) -> Float32[np.ndarray, " samples"]:
    """The first `samples` samples (at `sample_rate`, Hz), zeros at the end where the file is shorter.

    What lies behind is not decoded. Raises AudioError as `matpac.audio.read_crop`.
    """
    sound = read_crop(path, 0.0, samples, sample_rate)
    return np.pad(sound, (0, samples - len(sound)))


class Clips:
    """Clips in order, each as an iterable of blocks; read ahead once iterated.

    A file that can't be used raises its AudioError when its blocks are asked for, and not before.

    Args:
        paths: the sound files.
        sample_rate: of the blocks, in Hz.
        pool: whose threads read; the caller ends it.
        samples: length that every clip is cut or zero-padded to (`read_unit`); None leaves them as they are.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        sample_rate: int,
        pool: ThreadPoolExecutor,
        samples: int | None = None,
    ):
        self.paths, self.sample_rate, self.pool, self.samples = paths, sample_rate, pool, samples

    def __iter__(self) -> Iterator[Iterable[np.ndarray]]:
        waiting: deque[tuple[float, Future[Iterable[np.ndarray]]]] = deque()
        ahead = 0.0
        for path in map(Path, self.paths):
            seconds = self._seconds(path)
            waiting.append((seconds, self.pool.submit(self._start, path, seconds)))
            ahead += seconds
            while ahead > AHEAD_SECONDS or len(waiting) > AHEAD_CLIPS:
                seconds, future = waiting.popleft()
                ahead -= seconds
                yield _blocks(future)
                del future  # or this frame keeps the samples of a clip that was used
        while waiting:
            yield _blocks(waiting.popleft()[1])

    def _seconds(self, path: Path) -> float:
        """What it will take of memory."""
        if self.samples is not None:
            return self.samples / self.sample_rate
        try:
            return min(info(path).duration, LONG_SECONDS)
        except AudioError:
            return 0.0  # `_start` meets the same error, where it is told

    def _start(self, path: Path, seconds: float) -> Iterable[np.ndarray]:
        if self.samples is not None:
            return [read_unit(path, self.sample_rate, self.samples)]
        if seconds < LONG_SECONDS:
            return [read(path, self.sample_rate)]
        return in_background(blocks(path, sample_rate=self.sample_rate), self.pool)


class MeasuredClips:
    """Clips as they come; remembers how long each one was until it is asked for."""

    def __init__(self, clips: Clips):
        self.clips = clips
        self._samples: dict[int, int] = {}

    def __iter__(self) -> Iterator[Iterable[np.ndarray]]:
        for number, clip in enumerate(self.clips):
            yield self._measure(number, clip)

    def _measure(self, number: int, clip: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        samples = 0
        for block in clip:
            samples += len(block)
            yield block
        self._samples[number] = samples

    def samples(self, number: int) -> int:
        """Of a clip that was read to its end; once."""
        return self._samples.pop(number)

    def duration(self, number: int) -> float:
        """The same in seconds."""
        return self.samples(number) / self.clips.sample_rate

    def reason(self, number: int, error: AudioError) -> str:
        """Why a clip could not be used; its length is forgotten."""
        self._samples.pop(number, None)
        return str(error).removeprefix(f"clip {number}: ")


def _blocks(future: "Future[Iterable[np.ndarray]]") -> Iterator[np.ndarray]:
    yield from future.result()


def in_background(source: Iterator[np.ndarray], pool: ThreadPoolExecutor) -> Generator[np.ndarray, None, None]:
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
