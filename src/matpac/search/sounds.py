"""Sound files to the vectors that stand in the database: one a sound, or one a window."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64
from torch import Tensor

from matpac.audio import AudioError
from matpac.audio.read_ahead import READERS, Clips, MeasuredClips
from matpac.errors import Skipped
from matpac.model.embedder import Embedder
from matpac.search.windows import Grid, WindowMeans


@dataclass(frozen=True)
class Sound:
    """A file's vectors, with start and end in seconds."""

    path: str
    duration: float
    starts: Float64[np.ndarray, " row"]
    ends: Float64[np.ndarray, " row"]
    vectors: Float32[np.ndarray, "row width"]


class Sounds:
    """Files in order as `Sound`; those that can't be used are named in `left_out` instead.

    Memory grows with the windows of one file, and with nothing else.

    Args:
        paths: the files.
        embedder: makes the vectors.
        grid: of the windows; None for one vector a sound.
        batch_size: chunks computed at once; None for what suits the device.
    """

    def __init__(self, paths: Sequence[str], embedder: Embedder, grid: Grid | None, batch_size: int | None = None):
        self.paths, self.embedder, self.grid, self.batch_size = paths, embedder, grid, batch_size
        self.left_out: list[Skipped] = []

    def __iter__(self) -> Iterator[Sound | None]:
        with ExitStack() as stack:
            pool = ThreadPoolExecutor(READERS)
            stack.callback(pool.shutdown, cancel_futures=True)  # what is not begun is not waited for
            clips = MeasuredClips(Clips(self.paths, self.embedder.sample_rate, pool))
            outputs = stack.enter_context(closing(self._embed(clips)))
            for number, vectors in enumerate(outputs):
                yield None if vectors is None else self._sound(self.paths[number], clips.samples(number), vectors)

    def _embed(self, clips: MeasuredClips) -> Generator[Tensor | None, None, None]:
        def failed(number: int, error: AudioError) -> None:
            path = self.paths[number]
            self.left_out.append(Skipped(path, clips.reason(number, error).removeprefix(f"{path}: ")))

        if self.grid is None:
            for scene in self.embedder.scenes(clips, None, self.batch_size, failed):
                yield None if scene is None else scene[None]
            return
        grid, steps = self.grid, self.embedder.config.steps
        yield from self.embedder.frames_into(
            lambda: WindowMeans(grid, steps), clips, None, self.batch_size, failed
        )

    def _sound(self, path: str, samples: int, vectors: Tensor) -> Sound | None:
        rows = vectors.numpy()
        duration = samples / self.embedder.sample_rate
        if self.grid is None:
            starts, ends = np.zeros(1), np.array([duration])
        else:
            count = min(self.grid.count(samples), len(rows))
            rows, starts, ends = rows[:count], self.grid.starts(count), self.grid.ends(count, samples)
        if not np.isfinite(rows).all():
            self.left_out.append(Skipped(path, "NaN or infinity in its vector; look at this sound"))
            return None
        return Sound(path, duration, starts, ends, rows)
