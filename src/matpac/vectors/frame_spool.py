"""The frames of a clip on their way to a table, in memory while they are few and on the disk when they are many.

A table is written in the clips' order and a clip that turns out damaged has no rows, so that frames wait until
their clip has ended; ten hours of ViT-B's are 3.5 GB.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from matpac.model.chunks import Chunk

SPOOL_BYTES = 16 * 2**20
"""A clip's frames above this size (three minutes for ViT-B) go to the disk; ours."""


class FrameSpool:
    """A `matpac.model.gather.Gatherer` of frames. Whoever gets it as a result closes it.

    Args:
        folder: where the file is made, which has no name where the system can do that, and never outlives the
            process.
    """

    def __init__(self, folder: Path):
        self._file = SpooledTemporaryFile(max_size=SPOOL_BYTES, dir=str(folder))  # noqa: SIM115 (closed by `discard`)
        self._places: dict[int, tuple[int, tuple[int, int, int]]] = {}  # of every chunk: offset, shape
        self._end = 0

    def add(self, chunk: Chunk, computed: Float[Tensor, "layer step width"]) -> None:
        """Take a chunk's frames."""
        layers, steps, width = computed.shape
        self._places[chunk.index] = (self._end, (layers, steps, width))
        content = computed.contiguous().numpy()
        self._file.seek(self._end)
        self._file.write(content.tobytes())
        self._end += content.nbytes

    def result(self) -> "FrameSpool":
        """Itself, all chunks being there."""
        return self

    def discard(self) -> None:
        """Let go of memory and file."""
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
        start = 0
        for index in range(len(self._places)):
            offset, (_, steps, width) = self._places[index]
            size = 4 * steps * width
            self._file.seek(offset + layer * size)
            yield start, np.frombuffer(self._file.read(size), np.float32).reshape(steps, width)
            start += steps
