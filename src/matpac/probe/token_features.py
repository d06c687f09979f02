"""A task's tokens by a frozen encoder, kept on disk."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Int

from matpac.audio import AudioError, info
from matpac.errors import MatpacError
from matpac.model.embedder import Embedder
from matpac.model.gather import Frames
from matpac.model.vit import PATCH
from matpac.probe.encoders import EncoderError, NamedEncoder
from matpac.probe.features import feature_file
from matpac.probe.filling import fill, require_rows
from matpac.probe.token_batches import StoredTokens, TokenSource
from matpac.tasks import Task, without
from matpac.vectors.road import Road

TOKEN_BUDGET = 8 * 2**30
"""Bytes of disk for the tokens of one encoder on one task: all layers of ViT-B on ESC-50 (5.5 GiB) fit.

They are mapped, not loaded, so memory needn't hold them. Ours."""


@dataclass(frozen=True, eq=False)
class TokenFeatures:
    """The frames of every clip of `task`, in its order; anything behind a clip's length is 0."""

    frames: Float16[np.memmap, "clip *layer frame width"]
    lengths: Int[np.ndarray, " clip"]
    task: Task
    """Without the clips that could not be read; they are in its `missing`, with the reason."""
    key: str
    """SHA-256 over all that the features depend on, hexadecimal."""


class BudgetError(MatpacError):
    """Tokens that are more than may be kept; the message tells how many bytes they take."""


def open_tokens(
    task: Task,
    named: NamedEncoder,
    cache: Path,
    *,
    layers: bool = False,
    budget_bytes: int = TOKEN_BUDGET,
    readers: int = 2,
) -> tuple[TokenSource, Task]:
    """The tokens of a task, of all layers or of the last alone, for probes; and the task without unusable clips.

    Kept on disk in float16: all layers', whose last is a view of them, if they fit the budget, else the last
    layer's if it alone is wanted.

    Args:
        task: its clips.
        named: the encoder.
        cache: as `features.embed_task`.
        layers: all layers instead of the last alone.
        budget_bytes: that tokens may take of the disk.
        readers: threads that decode and resample.

    Raises:
        BudgetError, EncoderError, MatpacError, TaskError: as `embed_tokens`.
    """
    try:
        found = embed_tokens(task, named, cache, layers=True, budget_bytes=budget_bytes, readers=readers)
        frames = found.frames if layers else found.frames[:, -1:]
    except BudgetError:
        if layers:
            raise
        found = embed_tokens(task, named, cache, budget_bytes=budget_bytes, readers=readers)
        frames = found.frames[:, None]
    return StoredTokens(frames, found.lengths), found.task


def embed_tokens(
    task: Task,
    named: NamedEncoder,
    cache: Path,
    *,
    layers: bool = False,
    budget_bytes: int = TOKEN_BUDGET,
    readers: int = 2,
) -> TokenFeatures:
    """The frames (a vector every 160 ms) of a task's clips in float16, from the cache or computed into it.

    [clip, frame, width], or with `layers` [clip, layer, frame, width]; otherwise as `features.embed_task`.

    Raises:
        EncoderError: the encoder is no `Embedder`; otherwise as `embed_task`.
        BudgetError: the array would be larger than the budget (says how large).
        MatpacError: as `embed_task`.
    """
    embedder = _embedder(named)
    file = feature_file(task, named, cache, "layer_tokens" if layers else "tokens", "float16")
    with file.lock():
        done = file.resume()
        frames = file.shape[-2] if file.shape else _most_frames(task, embedder)
        depth = embedder.depth if layers else 1
        size = len(task.paths) * depth * frames * embedder.width * 2
        if size > budget_bytes:
            raise BudgetError(
                f"{task.name}, {named.name}: {len(task.paths)} clips × {f'{depth} layers × ' if layers else ''}"
                f"{frames} frames × {embedder.width} numbers in float16 take {size / 2**30:.3g} GiB, and the "
                f"budget is {budget_bytes / 2**30:.3g} GiB; raise it by --token_budget if the disk has room"
            )
        if done < len(task.paths):
            which, unit = "all" if layers else None, task.unit_seconds
            road = Road(embedder, Frames, layers=which, unit_seconds=unit, readers=readers)
            fill(file, task, named, done, road, frames)
        require_rows(file, task, named)
        found = file.open()
    return TokenFeatures(found, np.array(file.state.lengths, np.int64), without(task, file.failed), file.state.key)


def frame_count(samples: int, embedder: Embedder) -> int:
    """How many frames an embedder gives for a clip of so many samples at its rate."""
    logmel, network = embedder.logmel.config, embedder.config
    need, advance = logmel.samples(network.frames), network.frames * logmel.hop
    full = 0 if samples < need else 1 + (samples - need) // advance
    return full * network.steps + -(-logmel.frames(samples - full * advance) // PATCH)


def _embedder(named: NamedEncoder) -> Embedder:
    if not isinstance(named.encoder, Embedder):
        raise EncoderError(f"{named.name}: only matpac's own encoders give tokens; probe its vectors instead")
    return named.encoder


def _most_frames(task: Task, embedder: Embedder) -> int:
    """Of the longest clip: by the unit length, or by the headers.

    Headers may be 2 % + 0.1 s off (`matpac.read`), and so much is added.
    """
    samples = round((task.unit_seconds or 0) * embedder.sample_rate)
    if task.unit_seconds is None:
        longest = max(map(_seconds, task.paths), default=0.0)
        samples = math.ceil((1.02 * longest + 0.1) * embedder.sample_rate)
    return frame_count(samples, embedder)


def _seconds(path: str) -> float:
    try:
        return info(path).duration
    except AudioError:
        return 0.0  # told when it is read
