"""Sound files to the vectors that stand in the database: one a sound, or one a window."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32, Float64
from torch import Tensor

from matpac.errors import Skipped
from matpac.model.embedder import Embedder
from matpac.model.gather import Mean
from matpac.vectors.road import Road, Row
from matpac.vectors.windows import Grid, WindowMeans


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
        reduction = Mean if self.grid is None else partial(WindowMeans, self.grid)
        with closing(Road(self.embedder, reduction, batch_size=self.batch_size).rows(self.paths)) as rows:
            for row in rows:
                if row.vectors is None:
                    self.left_out.append(Skipped(row.path, row.error))
                yield self._sound(row)

    def _sound(self, row: Row[Tensor]) -> Sound | None:
        if row.vectors is None:
            return None
        if self.grid is None:
            return Sound(row.path, row.duration, np.zeros(1), np.array([row.duration]), row.vectors.numpy())
        samples, vectors = round(row.duration * self.grid.sample_rate), row.vectors[0].numpy()
        count = min(self.grid.count(samples), len(vectors))
        starts, ends = self.grid.starts(count), self.grid.ends(count, samples)
        return Sound(row.path, row.duration, starts, ends, vectors[:count])
