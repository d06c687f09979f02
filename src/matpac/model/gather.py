"""What is gathered of a clip's chunks as they are computed, in memory that does not grow with what passed by.

Nothing small is allocated for every chunk and kept: between the activations of two batches it would pin the
heap, and a long file's process would grow by megabytes a minute although little is in use (docs/performance.md).
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matpac.audio import AudioError
from matpac.model.chunks import Chunk, Cutter
from matpac.model.waveforms import too_short

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

GROWTH = 1.25
"""Growth factor of the frame buffer; at most 20 % of it is unused."""


@runtime_checkable
class Gatherer(Protocol, Generic[T_co]):
    """Reduces one clip's chunks, which come in any order, each once."""

    def add(self, chunk: Chunk, computed: Tensor) -> None:
        """Take what was computed of a chunk: its frames [layer, step, width], or for `Mean` their sum."""
        ...

    def result(self) -> T_co:
        """The reduction, once all chunks were added."""
        ...

    def discard(self) -> None:
        """Release what is open: the clip failed, or its result is no longer wanted."""
        ...


class Mean:
    """The mean over time, [layer, width], of chunks' sums; in float64, so that their order is irrelevant."""

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
    """All frames, [layer, step, width], in one array that grows in place."""

    def __init__(self) -> None:
        self._frames = np.empty(0, np.float32)
        self._steps = 0

    def add(self, chunk: Chunk, computed: Float[Tensor, "layer step width"]) -> None:
        """Put a chunk's frames in their place."""
        layers, steps, width = computed.shape
        end = chunk.first + steps
        if end > len(self._frames):
            self._resize((max(end, int(GROWTH * len(self._frames))), layers, width))
        self._frames[chunk.first : end] = computed.numpy().transpose(1, 0, 2)
        self._steps = max(self._steps, end)

    def _resize(self, shape: tuple[int, ...]) -> None:
        """Resize in place, since a copy would need both at once."""
        self._frames.resize(shape, refcheck=False)  # no view of it was given out

    def result(self) -> Float[Tensor, "layer step width"]:
        """The frames; not contiguous where there are several layers."""
        self._resize((self._steps, *self._frames.shape[1:]))
        return torch.from_numpy(self._frames).transpose(0, 1)

    def discard(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, eq=False)
class Gathered(Generic[T]):
    """What became of one clip.

    Args:
        samples: how many were read.
        result: what the gatherer made of it; None with an error.
        error: why the clip can't be used; None with a result.
    """

    samples: int
    result: T | None = None
    error: AudioError | None = None


@dataclass(eq=False)
class _Clip(Generic[T]):
    """A clip under way; `chunks` is known at its end."""

    gatherer: Gatherer[T] | None
    samples: int = 0
    chunks: int | None = None
    added: int = 0
    error: AudioError | None = None

    @property
    def is_done(self) -> bool:
        return self.error is not None or self.chunks == self.added

    def discard(self) -> None:
        if self.gatherer is not None:
            self.gatherer.discard()
            self.gatherer = None

    def end(self) -> Gathered[T]:
        gatherer, self.gatherer = self.gatherer, None  # its memory goes with the result
        return Gathered(self.samples, None if gatherer is None else gatherer.result(), self.error)


def gather(
    clips: Iterable[Iterable[np.ndarray]],
    cutter: Callable[[int], Cutter],
    group: Callable[[Iterator[Chunk]], Iterable[list[Chunk]]],
    compute: Callable[[list[Chunk]], Iterable[Tensor]],
    gatherer: Callable[[], Gatherer[T]],
) -> Generator[Gathered[T], None, None]:
    """Cut clips into chunks, compute these in groups across clips, and give one result per clip, in order.

    A clip that can't be read or has no frame gives its error; what was computed of it is discarded.

    Args:
        clips: for every clip, its blocks of samples.
        cutter: makes the cutter of the clip with a number.
        group: makes groups of chunks.
        compute: gives one tensor per chunk of a group.
        gatherer: makes a gatherer for one clip.
    """
    under_way: dict[int, _Clip[T]] = {}

    def cut() -> Iterator[Chunk]:
        for number, blocks in enumerate(clips):
            clip, pieces = _Clip(gatherer()), cutter(number)
            under_way[number] = clip
            try:
                for block in blocks:
                    clip.samples += len(block)
                    yield from pieces.push(block)
                last = list(pieces.finish())
                if not pieces.index:
                    raise AudioError(f"clip {number}: {too_short(clip.samples, pieces.config)}")
            except AudioError as error:
                clip.error = error
                clip.discard()
                continue
            clip.chunks = pieces.index
            yield from last

    def add(chunks: list[Chunk], computed: Iterable[Tensor]) -> None:
        for chunk, part in zip(chunks, computed, strict=True):
            clip = under_way.get(chunk.clip)
            if clip is not None and clip.gatherer is not None:  # it did not fail
                clip.gatherer.add(chunk, part)
                clip.added += 1

    first = 0
    try:
        # the empty group at the end: the last clip's end is known only after its last chunk was taken
        for chunks in chain(group(cut()), [[]]):
            if chunks:
                add(chunks, compute(chunks))
            while (clip := under_way.get(first)) and clip.is_done:
                del under_way[first]
                first += 1
                yield clip.end()
        assert not under_way, f"clip {first} was never finished"
    finally:
        for clip in under_way.values():
            clip.discard()
