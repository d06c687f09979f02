"""What sounds when: probabilities of frames, compared with a threshold, smoothed and merged to segments.

Frames are pushed as they come, and only active classes keep theirs: memory does not grow with a sound's length.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32
from torch import Tensor

from matpac.errors import MatpacError
from matpac.model.embedder import Embedder
from matpac.model.heads import NO_HEAD, check_threshold, class_names

THRESHOLD = 0.5
"""Probability from which a class is active in a frame; default; more likely than not."""

MEDIAN_FRAMES = 3
"""Frames that decisions are smoothed over; default; what lasts a single frame is flicker."""

GAP_SECONDS = 0.5
"""Longest pause inside a segment; default; shorter pauses are gaps between words or steps."""

SHORTEST_SECONDS = 0.3
"""Shortest segment; default; two frames of the papers' encoders, the finest they can place."""

_ROUNDING = 1e-6
"""Tolerance for lengths in frames: 0.48 s are 3 frames of 0.16 s in floats too."""


@dataclass(frozen=True)
class TimelineConfig:
    """How frames become segments.

    Args:
        threshold: probability from which a class is active in a frame.
        median_frames: odd number of frames that decisions are smoothed over; 1 for no smoothing.
        gap: longest pause inside a segment, in seconds.
        shortest: shortest segment, in seconds; a shorter sound may be one segment as a whole.
    """

    threshold: float = THRESHOLD
    median_frames: int = MEDIAN_FRAMES
    gap: float = GAP_SECONDS
    shortest: float = SHORTEST_SECONDS

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if self.median_frames < 1 or self.median_frames % 2 == 0:
            raise MatpacError(f"median_frames {self.median_frames}: give an odd number, 1 or more")
        for name in ("gap", "shortest"):
            if (value := getattr(self, name)) < 0:
                raise MatpacError(f"{name} {value}: give seconds, 0 or more")


@dataclass(frozen=True)
class Segment:
    """A stretch of time in which a class is active.

    Args:
        start, end: in seconds.
        label: name of the class.
        peak: highest probability of its frames.
        mean: mean probability of its frames, pauses included.
    """

    start: float
    end: float
    label: str
    peak: float
    mean: float


@dataclass
class _Open:
    """A class that is or was just active, with its probabilities from frame `first` on."""

    first: int
    last_active: int = 0
    values: "array[float]" = field(default_factory=lambda: array("f"))


class Timeline:
    """The segments of one sound.

    Args:
        labels: names of the classes.
        hop: seconds from one frame to the next.
        lead: seconds by which a frame's segment starts after its number × hop, since frames overlap.
        config: how frames become segments.
    """

    def __init__(self, labels: Sequence[str], hop: float, lead: float = 0.0, config: TimelineConfig | None = None):
        self.labels, self.hop, self.lead = labels, hop, lead
        self.config = config or TimelineConfig()
        self.frames = 0
        self._gap = int(self.config.gap / hop + _ROUNDING)
        self._half = self.config.median_frames // 2
        self._open: dict[int, _Open] = {}
        self._runs: list[tuple[int, int, int, float, float]] = []  # begin, end, class, peak, mean

    def push(self, probabilities: Float32[np.ndarray, "frame class"]) -> None:
        """Take the next frames, any number of them."""
        active = probabilities >= self.config.threshold
        for number in np.flatnonzero(active.any(axis=0)).tolist():
            opened = self._open.setdefault(number, _Open(self.frames))
            opened.last_active = self.frames + int(np.flatnonzero(active[:, number])[-1])
        for number, opened in self._open.items():
            opened.values.frombytes(probabilities[:, number].tobytes())
        self.frames += len(probabilities)
        # until a class is inactive for this long, later frames may belong to its segment or change its smoothing
        quiet = self.frames - 1 - self._gap - self._half
        for number in [number for number, opened in self._open.items() if opened.last_active < quiet]:
            self._close(number, at_end=False)

    def finish(self, duration: float) -> list[Segment]:
        """The segments by start, then label, once all frames were pushed; `duration` of the sound in seconds."""
        for number in list(self._open):
            self._close(number, at_end=True)
        least = min(int(np.ceil(self.config.shortest / self.hop - _ROUNDING)), self.frames)
        segments = [
            Segment(self._edge(begin, duration), self._edge(end, duration), self.labels[number], peak, mean)
            for begin, end, number, peak, mean in self._runs
            if end - begin >= least
        ]
        return sorted(segments, key=lambda segment: (segment.start, segment.label))

    def _close(self, number: int, at_end: bool) -> None:
        opened = self._open.pop(number)
        values = np.frombuffer(opened.values, np.float32)
        active = values >= self.config.threshold
        # a sound's first and last frames are extended beyond its ends; elsewhere the class was inactive for long
        before, after = bool(opened.first == 0 and active[0]), bool(at_end and active[-1])
        smoothed = smooth(active, self.config.median_frames, before, after)
        for begin, end in merged_runs(smoothed, self._gap):
            part = values[begin:end].astype(np.float64)
            place = (opened.first + begin, opened.first + end)
            self._runs.append((*place, number, float(part.max()), float(part.mean())))

    def _edge(self, frame: int, duration: float) -> float:
        """Start of a frame; the first frame starts and the last one ends with the sound."""
        if frame in (0, self.frames):
            return duration if frame else 0.0
        return min(duration, round(frame * self.hop + self.lead, 6))  # removes rounding errors


def smooth(
    active: Bool[np.ndarray, " frame"], median_frames: int, before: bool, after: bool
) -> Bool[np.ndarray, " frame"]:
    """The median of every frame and its neighbours; `before` and `after` extend the ends."""
    from scipy.ndimage import median_filter

    half = median_frames // 2
    if not half:
        return active
    padded = np.pad(active.astype(np.uint8), half, constant_values=((before, after),))
    return median_filter(padded, size=median_frames)[half:-half].astype(bool)


def merged_runs(active: Bool[np.ndarray, " frame"], gap: int) -> list[tuple[int, int]]:
    """[begin, end) of the runs of active frames; runs with at most `gap` frames between them are merged."""
    edges = np.flatnonzero(np.diff(active, prepend=False, append=False))
    begins, ends = edges[::2], edges[1::2]
    apart = begins[1:] - ends[:-1] > gap
    first = np.concatenate([begins[:1], begins[1:][apart]])
    last = np.concatenate([ends[:-1][apart], ends[-1:]])
    return list(zip(first.tolist(), last.tolist(), strict=True))


def head_names(embedder: Embedder) -> list[str]:
    """The names of the classes of an encoder's head. Raises MatpacError if it has none."""
    if embedder.head is None:
        raise MatpacError(f"{embedder.card.name} has no head {NO_HEAD}")
    return class_names(embedder.card.labels, embedder.head.linear.out_features)


def timeline_for(embedder: Embedder, config: TimelineConfig | None = None) -> Timeline:
    """An empty timeline for the frames and classes of an encoder. Raises as `head_names`."""
    return Timeline(head_names(embedder), embedder.hop, float(embedder.times(1)[0]) - embedder.hop / 2, config)


def timeline(
    embedder: Embedder, waveform: np.ndarray | Tensor, sample_rate: int, config: TimelineConfig | None = None
) -> list[Segment]:
    """The segments of one waveform [samples], by start.

    Raises:
        MatpacError: the encoder has no head.
        AudioError: as `Embedder.scene`.
    """
    empty = timeline_for(embedder, config)
    [probabilities], _ = embedder.frame_probabilities([waveform], sample_rate)
    empty.push(probabilities.numpy())
    return empty.finish(len(waveform) / sample_rate)
