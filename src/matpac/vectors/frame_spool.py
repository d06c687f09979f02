"""The frames of a clip on their way to a table, in memory while they are few and on disk when they are many.

A table is written in the clips' order, and a clip that turns out to be damaged has no rows, so that frames wait
until their clip has ended; ten hours of ViT-B's are 3.5 GB.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from matpac.model.chunks import Chunk

SPOOL_BYTES = 16 * 2**20
"""A clip's frames above this size go to disk; default; three minutes of ViT-B's."""


class FrameSpool:
    """A `matpac.model.gather.Gatherer` of frames; whoever gets it as a result closes it (`with`).

    Args:
        folder: for the temporary file, which vanishes with the process.
        most_bytes: that are kept in memory.
    """

    def __init__(self, folder: Path, most_bytes: int = SPOOL_BYTES):
        self._file = SpooledTemporaryFile(max_size=most_bytes, dir=str(folder))  # noqa: SIM115 (see `discard`)
        self._places: dict[int, tuple[int, tuple[int, int, int]]] = {}  # by chunk's first frame: offset, shape
        self.nbytes = 0
        self.is_finite = True

    def add(self, chunk: Chunk, computed: Float[Tensor, "layer step width"]) -> None:
        """Take a chunk's frames."""
        layers, steps, width = computed.shape
        self._places[chunk.first] = (self.nbytes, (layers, steps, width))
        self.is_finite &= bool(computed.isfinite().all())
        self._file.seek(self.nbytes)
        self._file.write(computed.contiguous().numpy().tobytes())
        self.nbytes += computed.nbytes

    def result(self) -> "FrameSpool":
        """Itself, since all chunks are there."""
        return self

    def discard(self) -> None:
        """Release memory and file."""
        self._file.close()

    def __enter__(self) -> "FrameSpool":
        return self

    def __exit__(self, *error: object) -> None:
        self.discard()

    @property
    def layers(self) -> int:
        """How many layers every frame has."""
        return self._places[0][1][0]

    def parts(self, layer: int) -> Iterator[tuple[int, Float32[np.ndarray, "step width"]]]:
        """A layer's frames in order, chunk by chunk, each with the number of its first frame."""
        for first, (offset, (_, steps, width)) in sorted(self._places.items()):
            size = 4 * steps * width
            self._file.seek(offset + layer * size)
            yield first, np.frombuffer(self._file.read(size), np.float32).reshape(steps, width)
