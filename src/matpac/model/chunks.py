"""Cutting clips of any length into the encoder's chunks, and batching chunks of equal length across clips.

The papers' "precise" inference: consecutive chunks of the encoder's length, the last one as long as what is
left, padded with zeros in normalised log-mel to a whole patch. Frames need no context, so a chunk is computed
from its own samples, and blocks of a stream give what the whole clip gives.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from matpac.model.logmel import LogMelConfig
from matpac.model.vit import PATCH

BATCH_SIZE = 4
"""Full chunks per batch on a CPU: larger batches leave the caches and are slower (benchmarks/embed.py)."""

BATCH_SIZE_ACCELERATOR = 64
"""Full chunks per batch on a GPU; default: small beside the activations that a GPU holds."""

WAITING = 16
"""Full batches' worth of short chunks that may wait for companions: 64 chunks of 6 s are 25 MB of samples."""

PASSED = 4
"""How long a chunk may wait for companions, in multiples of WAITING; default: rare lengths still share a batch."""


@dataclass
class Chunk:
    """A part of a clip that the encoder sees at once.

    Args:
        clip: number of the clip in the order they came.
        index: number of the chunk in its clip.
        first: number of its first frame (patch along time) in the clip.
        samples: its waveform, as long as its frames need.
        frames: of log-mel.
    """

    clip: int
    index: int
    first: int
    samples: np.ndarray
    frames: int

    @property
    def steps(self) -> int:
        """Patches along time, the last one filled up with zeros."""
        return -(-self.frames // PATCH)


class Cutter:
    """Cuts one clip, given in blocks of any size, into chunks as soon as they are complete.

    Chunks own their samples: no long block stays in memory for the chunk that waits for companions.
    """

    def __init__(self, config: LogMelConfig, frames: int, clip: int = 0):
        self.config, self.frames, self.clip = config, frames, clip
        self.index = 0
        self._samples = np.empty(config.samples(frames), np.float32)
        self._filled = 0

    def push(self, block: Float[np.ndarray, " samples"]) -> Iterator[Chunk]:
        """Take a block and give the chunks that it completes."""
        used = 0
        while used < len(block):
            part = block[used : used + len(self._samples) - self._filled]
            self._samples[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            used += len(part)
            if self._filled == len(self._samples):
                yield self._full_chunk()

    def finish(self) -> Iterator[Chunk]:
        """The clip has ended: the last, shorter chunk, if a frame is left."""
        if frames := self.config.frames(self._filled):
            yield self._chunk(self._samples[: self.config.samples(frames)].copy(), frames)

    def _full_chunk(self) -> Chunk:
        samples, advance = self._samples, self.frames * self.config.hop
        self._samples = np.empty(len(samples), np.float32)
        self._filled = len(samples) - advance  # a window is longer than a hop: the next chunk's first samples
        self._samples[: self._filled] = samples[advance:]
        return self._chunk(samples, self.frames)

    def _chunk(self, samples: np.ndarray, frames: int) -> Chunk:
        chunk = Chunk(self.clip, self.index, self.index * self.frames // PATCH, samples, frames)
        self.index += 1
        return chunk


def batches(
    chunks: Iterable[Chunk], full_steps: int, batch_size: int, waiting: int = WAITING
) -> Iterator[list[Chunk]]:
    """Group chunks of equal length across clips.

    Args:
        chunks: from any number of clips.
        full_steps: patches along time of the longest chunk.
        batch_size: chunks of that length in a batch; shorter ones come in larger batches of the same work.
        waiting: full batches' worth of chunks that may wait for companions; past it the largest group is given
            out as it is, so that memory stays flat. So is a group once `PASSED` times as much passed since its
            first chunk, because the results of all later clips wait for that one's.
    """
    groups: dict[int, list[Chunk]] = defaultdict(list)  # in the order of their first chunks
    since: dict[int, int] = {}
    budget = full_steps * batch_size
    pending = passed = 0

    def take(steps: int) -> list[Chunk]:
        nonlocal pending
        pending -= len(groups[steps]) * steps
        return groups.pop(steps)

    for chunk in chunks:
        steps = chunk.steps
        if steps not in groups:
            since[steps] = passed
        groups[steps].append(chunk)
        pending += steps
        passed += steps
        if (len(groups[steps]) + 1) * steps > budget:
            yield take(steps)
        elif pending > budget * waiting:
            yield take(max(groups, key=lambda steps: steps * len(groups[steps])))
        oldest = next(iter(groups), None)
        if oldest is not None and passed - since[oldest] > budget * waiting * PASSED:
            yield take(oldest)
    for steps in sorted(groups):
        yield groups[steps]


def full_batch(device: torch.device) -> int:
    """How many full chunks are computed at once on a device."""
    return BATCH_SIZE if device.type == "cpu" else BATCH_SIZE_ACCELERATOR
