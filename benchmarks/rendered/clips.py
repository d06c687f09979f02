"""Rendered clips as data: path, labels, and what sounds in them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

Part: TypeAlias = Literal["train", "valid", "test"]

PARTS: dict[Part, float] = {"train": 0.65, "valid": 0.1, "test": 0.25}
"""Shares of a task's clips."""


@dataclass(frozen=True)
class Note:
    """A note of General MIDI: program and pitch from 0, channel 9 for drums; milliseconds in the clip."""

    program: int
    pitch: int
    velocity: int
    start: int
    length: int
    channel: int = 0


@dataclass(frozen=True)
class Music:
    """Notes for fluidsynth."""

    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Speech:
    """Text for espeak-ng; `speed` in words per minute, `pitch` 0 to 99 of the voice's own range."""

    language: str
    variant: str
    text: str
    speed: int
    pitch: int


@dataclass(frozen=True)
class Noises:
    """Sources of `noises.NOISES` sounding together, each at its level in dB."""

    kinds: tuple[str, ...]
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Over:
    """Speech in front of something else, at its level in dB above it (RMS over the clip)."""

    speech: Speech
    behind: Music | Noises
    level: float


Content: TypeAlias = Music | Speech | Noises | Over


@dataclass(frozen=True)
class Clip:
    """One file of the corpus.

    Args:
        path: in the corpus.
        labels: of the task.
        part: split.
        group: source of the clip; clips of one group are in one split.
        seed: of the recording: room, noise, level.
        seconds: length.
        content: what sounds.
    """

    path: str
    labels: tuple[str, ...]
    part: Part | Literal["unlabelled"]
    group: str
    seed: tuple[int, ...]
    seconds: float
    content: Content


def share_out(clips: int, classes: int) -> dict[Part, int]:
    """Number of a task's clips in each part: a multiple of the number of classes."""
    return {part: max(1, round(clips * share / classes)) * classes for part, share in PARTS.items()}


Draw: TypeAlias = Callable[[np.random.Generator, Part, int], tuple[tuple[str, ...], str, Content]]
"""(random numbers, part, number in the part) → labels, group, content."""


def draw_clips(task: str, key: tuple[int, ...], counts: dict[Part, int], seconds: float, draw: Draw) -> list[Clip]:
    """A task's clips, in order; each has its own random numbers, from the key, its part and its number."""
    clips = []
    for place, (part, count) in enumerate(counts.items()):
        for number in range(count):
            seed = (*key, place, number)
            labels, group, content = draw(np.random.default_rng([*seed, 1]), part, number)
            clips.append(Clip(f"{task}/{part}_{number:05d}.flac", labels, part, group, seed, seconds, content))
    return clips


def blocks(clips: Sequence[Clip], size: int) -> Iterator[list[Clip]]:
    """Clips in order, `size` at a time."""
    for start in range(0, len(clips), size):
        yield list(clips[start : start + size])
