"""What is gathered of a clip's chunks as they are computed, in memory that does not grow with what passed by.

Nothing small is allocated for every chunk and kept: between the activations of two batches it would pin the
heap, and a long file's process grow by megabytes a minute although little is in use (docs/performance.md).
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matpac.audio import AudioError
from matpac.model.chunks import Chunk, Cutter
from matpac.model.waveforms import too_short

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Failed = Callable[[int, AudioError], None]
"""Is told the number of a clip that has no vectors, and why."""

GROWTH = 1.25
"""By how much the memory for a clip's frames grows when it is full: a quarter at most is too much; ours."""


class Gatherer(Protocol, Generic[T_co]):
    """What becomes of one clip. Chunks come in any order, each once."""

    def add(self, chunk: Chunk, computed: Tensor) -> None:
        """Take what was computed of a chunk."""
        ...

    def result(self) -> T_co:
        """All chunks were added."""
        ...

    def discard(self) -> None:
        """The clip failed, or nobody wants it any more."""
        ...


class Mean:
    """The mean over time, [layer, width], of chunks' sums; in float64, so that their order is nothing."""

    def __init__(self) -> None:
        self._total: np.ndarray | None = None
        self._steps = 0

    def add(self, chunk: Chunk, computed: Float[Tensor, "layer width"]) -> None:
        """Add the sum over a chunk's steps."""
        if self._total is None:
            self._total = np.zeros(tuple(computed.shape), np.float64)
        self._total += computed.numpy()
        self._steps += chunk.steps

    def result(self) -> Float[Tensor, "layer width"]:
        """The mean, float32."""
        assert self._total is not None
        return torch.from_numpy((self._total / self._steps).astype(np.float32))

    def discard(self) -> None:
        """Nothing is open."""


class Frames:
    """All frames, [layer, step, width], in one array that grows in place.

    Args:
        full_steps: steps of every chunk but the last.
    """

    def __init__(self, full_steps: int):
        self._full_steps = full_steps
        self._frames = np.empty(0, np.float32)
        self._steps = 0

    def add(self, chunk: Chunk, computed: Float[Tensor, "layer step width"]) -> None:
        """Put a chunk's frames in their place."""
        layers, steps, width = computed.shape
        start = chunk.index * self._full_steps
        if start + steps > len(self._frames):
            self._resize((max(start + steps, int(GROWTH * len(self._frames))), layers, width))
        self._frames[start : start + steps] = computed.numpy().transpose(1, 0, 2)
        self._steps = max(self._steps, start + steps)

    def _resize(self, shape: tuple[int, ...]) -> None:
        """In place: a copy would need both at once."""
        self._frames.resize(shape, refcheck=False)  # no view of it was given out

    def result(self) -> Float[Tensor, "layer step width"]:
        """The frames; not contiguous where there are several layers."""
        self._resize((self._steps, *self._frames.shape[1:]))
        return torch.from_numpy(self._frames).transpose(0, 1)

    def discard(self) -> None:
        """Nothing is open."""


class Gathering(Generic[T]):
    """Clips in, one result each out, in order; chunks are cut, and computed in whatever groups `group` makes.

    Args:
        cutter: of the clip with a number.
        gatherer: a new one for every clip.
        failed: is told the number of a clip that cannot be read or is too short, and the error; its result is
            None, and what was computed of it is discarded. Without it the error is raised.
    """

    def __init__(
        self, cutter: Callable[[int], Cutter], gatherer: Callable[[], Gatherer[T]], failed: Failed | None
    ):
        self._cutter, self._gatherer, self._failed = cutter, gatherer, failed
        self._counts: list[int | None] = []  # chunks of every clip that was read to its end; 0 where it failed
        self._open: dict[int, Gatherer[T]] = {}
        self._added: dict[int, int] = {}

    def run(
        self,
        clips: Iterable[Iterable[np.ndarray]],
        group: Callable[[Iterator[Chunk]], Iterable[list[Chunk]]],
        compute: Callable[[list[Chunk]], Iterable[Tensor]],
    ) -> Generator[T | None, None, None]:
        """Results in the clips' order, each as soon as those before it are there."""
        first = 0
        try:
            # the empty group: the last clip's end is known only after its last chunk was taken
            for chunks in chain(group(self._cut(clips)), [[]]):
                if chunks:
                    self._add(chunks, compute(chunks))
                while first < len(self._counts) and self._is_done(first):
                    yield self._result(first)
                    first += 1
            assert first == len(self._counts), f"clip {first} was left over"
        finally:
            for gatherer in self._open.values():
                gatherer.discard()

    def _cut(self, clips: Iterable[Iterable[np.ndarray]]) -> Iterator[Chunk]:
        """Chunks of all clips."""
        for number, blocks in enumerate(clips):
            cutter = self._cutter(number)
            self._counts.append(None)
            samples = 0
            try:
                for block in blocks:
                    samples += len(block)
                    yield from cutter.push(block)
                last = list(cutter.finish())
                if not cutter.index:
                    raise AudioError(f"clip {number}: {too_short(samples, cutter.config)}")
            except AudioError as error:
                if self._failed is None:
                    raise
                self._failed(number, error)
                self._counts[number] = 0
                if gatherer := self._open.pop(number, None):
                    gatherer.discard()
                continue
            self._counts[number] = cutter.index
            yield from last

    def _add(self, chunks: list[Chunk], computed: Iterable[Tensor]) -> None:
        for chunk, result in zip(chunks, computed, strict=True):
            if self._counts[chunk.clip] == 0:  # its clip failed meanwhile
                continue
            if chunk.clip not in self._open:
                self._open[chunk.clip] = self._gatherer()
            self._open[chunk.clip].add(chunk, result)
            self._added[chunk.clip] = self._added.get(chunk.clip, 0) + 1

    def _is_done(self, clip: int) -> bool:
        return self._counts[clip] in (0, self._added.get(clip))

    def _result(self, clip: int) -> T | None:
        self._added.pop(clip, None)
        return self._open.pop(clip).result() if self._counts[clip] else None
