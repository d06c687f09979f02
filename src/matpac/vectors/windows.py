"""Windows of sounds: where they lie, and their vectors, the means of the frames whose centres lie in them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from matpac.errors import MatpacError
from matpac.model.chunks import Chunk
from matpac.model.embedder import Embedder
from matpac.model.gather import GROWTH
from matpac.model.vit import PATCH


@dataclass(frozen=True)
class Grid:
    """Windows every `hop` samples from a sound's start on, each `window` samples long.

    All in samples at the encoder's rate, so that no rounding decides to which window a frame belongs.

    Args:
        window, hop: of the windows.
        sample_rate: in Hz.
        span: samples that a frame is made of; the first frame's begin at 0.
        step: samples from one frame to the next.
    """

    window: int
    hop: int
    sample_rate: int
    span: int
    step: int

    @classmethod
    def of(cls, embedder: Embedder, window: float, hop: float) -> "Grid":
        """Windows in seconds.

        Raises:
            MatpacError: windows shorter than a frame, or a hop that skips sound.
        """
        config = embedder.logmel.config
        step = PATCH * config.hop
        grid = cls(
            round(window * config.sample_rate),
            round(hop * config.sample_rate),
            config.sample_rate,
            (PATCH - 1) * config.hop + config.window,
            step,
        )
        if grid.window < step:
            raise MatpacError(f"a window of {window:g} s holds no frame; {step / config.sample_rate:g} s at least")
        if not 0 < grid.hop <= grid.window:
            raise MatpacError(
                f"a hop of {hop:g} s skips sound between windows of {window:g} s; give at most {window:g} s"
            )
        return grid

    def count(self, samples: int) -> int:
        """Windows of a sound: as many as it takes to reach its end, the last one perhaps shorter."""
        return 1 + max(0, -(-(samples - self.window) // self.hop))

    def starts(self, count: int) -> Float64[np.ndarray, " window"]:
        """Starts of the first `count` windows, in seconds."""
        return np.arange(count) * self.hop / self.sample_rate

    def ends(self, count: int, samples: int) -> Float64[np.ndarray, " window"]:
        """Ends of the first `count` windows of a sound, in seconds: none ends after it."""
        return np.minimum(np.arange(count) * self.hop + self.window, samples) / self.sample_rate

    def frames(self, window: int) -> tuple[int, int]:
        """The first frame whose centre lies in a window, and the first one behind: start ≤ centre < end."""
        start = window * self.hop
        return self._first(start), self._first(start + self.window)

    def _first(self, sample: int) -> int:
        """The first frame whose centre does not lie before a sample."""
        return max(0, -((self.span - 2 * sample) // (2 * self.step)))

    def windows(self, first: int, stop: int) -> range:
        """The windows that some of the frames first … stop − 1 lie in."""
        earliest, latest = (self.span + 2 * self.step * frame for frame in (first, stop - 1))  # centres · 2
        return range(max(0, (earliest - 2 * self.window) // (2 * self.hop) + 1), latest // (2 * self.hop) + 1)


class WindowMeans:
    """The means of a sound's windows: a `matpac.model.gather.Gatherer`.

    Args:
        grid: of the windows.
    """

    def __init__(self, grid: Grid):
        self._grid = grid
        self._sums = np.empty(0, np.float32)
        self._frames = np.empty(0, np.int64)
        self._count = 0

    def add(self, chunk: Chunk, computed: Float[Tensor, "layer step width"]) -> None:
        """Add a chunk's frames to the windows that they lie in."""
        layers, steps, width = computed.shape
        frames, begin = computed.numpy(), chunk.first
        windows = self._grid.windows(begin, begin + steps)
        self._grow(windows.stop, layers, width)
        for window in windows:
            first, stop = (max(0, frame - begin) for frame in self._grid.frames(window))
            part = frames[:, first:stop]
            self._sums[window] += part.sum(1)
            self._frames[window] += part.shape[1]

    def _grow(self, count: int, layers: int, width: int) -> None:
        if count > len(self._sums):
            size = max(count, int(GROWTH * len(self._sums)))
            self._sums.resize((size, layers, width), refcheck=False)  # in place; no view of it was given out
            self._frames.resize(size, refcheck=False)
        self._count = max(self._count, count)

    def result(self) -> Float[Tensor, "layer window width"]:
        """Means of all windows that a frame lies in; those past `Grid.count` are of padding."""
        sums, frames = self._sums[: self._count], self._frames[: self._count]
        held = int((frames > 0).sum())  # the last window may be too short for the centre of a frame
        means = sums[:held] / frames[:held, None, None].astype(np.float32)
        return torch.from_numpy(means).transpose(0, 1)

    def discard(self) -> None:
        """Nothing is open."""
