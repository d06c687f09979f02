"""Sound files to their tags: of the whole sound, or over time, in memory that does not grow."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from matpac.errors import MatpacError, Skipped
from matpac.model.chunks import Chunk
from matpac.model.embedder import Embedder
from matpac.model.gather import Mean
from matpac.model.heads import TOP, Tag, check_threshold, most_probable
from matpac.tag.timeline import Segment, Timeline, TimelineConfig, head_names, timeline_for
from matpac.vectors.road import Road


@dataclass(frozen=True)
class TagOptions:
    """What to compute for every sound.

    Args:
        top: tags of a whole sound, at most; None for all.
        threshold: least probability of a tag.
        timeline: compute segments instead, with this configuration.
        batch_size: full chunks computed at once; None for what suits the device.
    """

    top: int | None = TOP
    threshold: float | None = None
    timeline: TimelineConfig | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if self.top is not None and self.top < 1:
            raise MatpacError(f"top {self.top}: at least 1 tag is needed")


@dataclass(frozen=True)
class TaggedSound:
    """The tags of one file, or its segments.

    Args:
        path: the file.
        duration: in seconds.
        tags: of the whole sound, most probable first.
        segments: of its timeline, by start.
    """

    path: Path
    duration: float
    tags: list[Tag] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)


def tag_sounds(
    paths: Sequence[Path], embedder: Embedder, options: TagOptions
) -> Generator[TaggedSound | Skipped, None, None]:
    """Files in order with their tags or segments; one that can't be used is given with the reason.

    Raises:
        MatpacError: the encoder has no head.
    """
    names = head_names(embedder)

    def frames_in_order() -> _FramesInOrder:
        return _FramesInOrder(embedder, timeline_for(embedder, options.timeline))

    road = Road(embedder, frames_in_order if options.timeline else Mean, batch_size=options.batch_size)
    with closing(road.rows(paths)) as rows:
        for row in rows:
            found, path = row.vectors, Path(row.path)
            if found is None:
                yield Skipped(row.path, row.error)
            elif isinstance(found, Timeline):
                yield TaggedSound(path, row.duration, segments=found.finish(row.duration))
            else:
                probabilities = embedder.scene_probabilities(found)[0]
                tags = most_probable(probabilities, names, options.top, options.threshold)
                yield TaggedSound(path, row.duration, tags)


class _FramesInOrder:
    """A `matpac.model.gather.Gatherer`: chunks' frames through the head, and into the timeline by their order."""

    def __init__(self, embedder: Embedder, timeline: Timeline):
        self._embedder, self._timeline = embedder, timeline
        self._next = 0
        self._early: dict[int, np.ndarray] = {}  # the last chunk is shorter, and may be computed before others

    def add(self, chunk: Chunk, computed: Float[Tensor, "layer step width"]) -> None:
        """Take a chunk's frames of the last layer."""
        self._early[chunk.index] = self._embedder.scene_probabilities(computed[-1]).numpy()
        while self._next in self._early:
            self._timeline.push(self._early.pop(self._next))
            self._next += 1

    def result(self) -> Timeline:
        """The timeline, to be finished."""
        assert not self._early
        return self._timeline

    def discard(self) -> None:
        """Nothing is open."""
