"""The clips of a task as waveforms, decoded by threads ahead of their use, in bounded memory."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from matpac.audio import AudioError, blocks, info, read, read_crop

LONG_SECONDS = 120.0
"""Longer clips without a unit length are read block by block, so that memory does not grow with them; ours."""

AHEAD_SECONDS = 600.0
"""Sound that may be decoded ahead of the network: 38 MB at 16 kHz; ours."""

AHEAD_CLIPS = 64
"""Clips that may be decoded ahead, however short; ours."""


def unit_samples(unit_seconds: float | None, sample_rate: int) -> int | None:
    """Length of a task's clips in samples; None where they stay as long as they are."""
    return None if unit_seconds is None else max(1, round(unit_seconds * sample_rate))


def read_unit(path: Path, sample_rate: int, samples: int) -> Float32[np.ndarray, " samples"]:
    """The first `samples` samples (at `sample_rate`, Hz), zeros at the end where the file is shorter.

    What lies behind is not decoded. Raises AudioError as `matpac.read_crop`.
    """
    sound = read_crop(path, 0.0, samples, sample_rate)
    return np.pad(sound, (0, samples - len(sound)))


class Clips:
    """Clips in order, each as an iterable of blocks; read ahead once iterated.

    A file that can't be used raises its AudioError when its blocks are asked for, and not before.
    """

    def __init__(self, paths: Sequence[str], sample_rate: int, samples: int | None, pool: ThreadPoolExecutor):
        self.paths, self.sample_rate, self.samples, self.pool = paths, sample_rate, samples, pool

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
        while waiting:  # popped, so that a clip's samples go when it has been used
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
        return blocks(path, sample_rate=self.sample_rate)


def _blocks(future: "Future[Iterable[np.ndarray]]") -> Iterator[np.ndarray]:
    yield from future.result()
