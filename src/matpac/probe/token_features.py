"""A task's tokens by a frozen encoder: kept on disk where they fit, else computed whenever they are read."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Int
from torch import Tensor

from matpac.audio import AudioError, info
from matpac.audio.read_ahead import Clips
from matpac.errors import MatpacError, reason_of
from matpac.model.embedder import Embedder, Failed, Layers
from matpac.model.vit import PATCH
from matpac.probe.encoders import EncoderError, NamedEncoder
from matpac.probe.features import embed_task, feature_file
from matpac.probe.filling import fill, require_rows, stored, unit_samples
from matpac.probe.token_batches import StoredTokens, TokenSource
from matpac.tasks import Task, without

TOKEN_BUDGET = 8 * 2**30
"""Bytes of disk for the tokens of one encoder on one task: all layers of ViT-B on ESC-50 (5.5 GiB) fit.

They are mapped, not loaded, so memory needn't hold them. Ours."""

CLIPS_AT_ONCE = 4
"""Clips read through at once, however large, and timed to tell how long it will take: a CPU's batch; ours."""


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
    say: Callable[[str], None],
    *,
    layers: bool = False,
    budget_bytes: int = TOKEN_BUDGET,
    readers: int = 2,
) -> tuple[TokenSource, Task]:
    """The tokens of a task, of all layers or of the last alone, for probes; and the task without unusable clips.

    Kept on disk in float16 where they fit the budget: all layers', whose last is a view of them, else the last
    layer's where it alone is wanted. What does not fit is read through: computed by the encoder at every pass of
    the probe over the clips, rounded alike, so that scores don't depend on the budget.

    Args:
        task: its clips.
        named: the encoder.
        cache: as `features.embed_task`.
        say: is told when tokens are read through, and how long that may take.
        layers: all layers instead of the last alone.
        budget_bytes: that tokens may take of the disk.
        readers: threads that decode and resample.

    Raises:
        EncoderError, MatpacError, TaskError: as `embed_tokens`, but for the budget.
    """
    told = ""
    for every in (True,) if layers else (True, False):
        try:
            found = embed_tokens(task, named, cache, layers=every, budget_bytes=budget_bytes, readers=readers)
        except BudgetError as error:
            told = str(error)
            continue
        frames = found.frames if every else found.frames[:, None]
        return StoredTokens(frames if layers else frames[:, -1:], found.lengths), found.task
    usable = embed_task(task, named, cache, readers=readers).task
    source = ReadThrough(usable, named, layers, readers)
    began = time.monotonic()
    timed = min(CLIPS_AT_ONCE, source.clips)
    source.read(torch.arange(timed))
    minutes = (time.monotonic() - began) / timed * source.clips / 60
    say(
        f"{told}: they are computed anew in every epoch of every fold and seed, about {minutes:.1f} min each; "
        "--token-budget raises it"
    )
    return source, usable


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
                f"budget is {budget_bytes / 2**30:.3g} GiB"
            )
        if done < len(task.paths):

            def sequences(clips: Clips, failed: Failed) -> Iterator[Tensor | None]:
                return embedder.frame_sequences(clips, "all" if layers else None, failed=failed)

            fill(file, task, named, done, sequences, readers, frames)
        require_rows(file, task, named)
        found = file.open()
    return TokenFeatures(found, np.array(file.state.lengths, np.int64), without(task, file.failed), file.state.key)


class ReadThrough(TokenSource):
    """Tokens that the encoder computes whenever they are read; nothing is kept.

    Rounded to float16 as stored ones are. Raises MatpacError where a clip that could be used no longer can.
    """

    def __init__(self, task: Task, named: NamedEncoder, layers: bool, readers: int = 2) -> None:
        self.task, self.named, self.readers = task, named, readers
        self.embedder = _embedder(named)
        self._which: Layers = "all" if layers else [-1]
        depth = self.embedder.depth if layers else 1
        most = _most_frames(task, self.embedder)
        super().__init__(len(task.paths), depth, most, self.embedder.width, CLIPS_AT_ONCE)

    def read(self, rows: Int[Tensor, "part"]) -> tuple[Float[Tensor, "layer part token dim"], Int[Tensor, "part"]]:
        """As `TokenSource`."""
        paths = [self.task.paths[row] for row in rows.tolist()]
        rate = self.embedder.sample_rate

        def failed(number: int, error: AudioError) -> None:
            raise MatpacError(
                f"{paths[number]}: could be used before and now can't ({reason_of(error, paths[number])}); "
                "leave the files alone while they are probed"
            ) from error

        with ThreadPoolExecutor(self.readers) as pool:
            clips = Clips(paths, rate, pool, unit_samples(self.task.unit_seconds, rate))
            sequences = list(self.embedder.frame_sequences(clips, self._which, failed=failed))
        found = [
            torch.from_numpy(stored(frames, "float16", self.named, path))
            for frames, path in zip(sequences, paths, strict=True)
            if frames is not None
        ]
        lengths = torch.tensor([frames.shape[1] for frames in found])
        values = torch.zeros(self.layers, len(found), int(lengths.max()), self.dim)
        for place, frames in enumerate(found):
            values[:, place, : frames.shape[1]] = frames
        return values, lengths


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
    samples = unit_samples(task.unit_seconds, embedder.sample_rate)
    if samples is None:
        longest = max(map(_seconds, task.paths), default=0.0)
        samples = math.ceil((1.02 * longest + 0.1) * embedder.sample_rate)
    return frame_count(samples, embedder)


def _seconds(path: str) -> float:
    try:
        return info(path).duration
    except AudioError:
        return 0.0  # told when it is read
