"""From sound to vectors: clips of any length to frames, scenes and logits with a trained encoder.

Exactly as the papers do it ("precise" inference), with chunks batched across clips, in flat memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.audio import AudioError
from matpac.chunks import Chunk, Cutter, batches, chunk_logmel
from matpac.logmel import LogMel, LogMelConfig
from matpac.vit import PATCH, Encoder
from matpac.waveforms import Waveforms, as_clips, too_short

Layers = Literal["all"] | Sequence[int] | None
"""Which blocks' outputs: None for the last alone, "all", or 0-based numbers (negative from the end)."""

Failed = Callable[[int, AudioError], None]
"""Is told the number of a clip that has no vectors, and why."""

BATCH_SIZE = 4
"""Full chunks a batch on a CPU: larger ones leave the caches and are slower (benchmarks/embed.py)."""

BATCH_SIZE_ACCELERATOR = 64
"""Full chunks a batch on a GPU; ours."""

WAITING = 16
"""Full batches' worth of short chunks that may wait for companions: 64 chunks of 6 s are 25 MB of samples."""


class Tagger(nn.Module):
    """The published AudioSet head: mean over bands and time, BatchNorm without affine, linear."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.linear = nn.Linear(width, classes)

    def forward(self, mean: Float[Tensor, "batch width"]) -> Float[Tensor, "batch class"]:
        return self.linear(self.norm(mean))


@dataclass(frozen=True)
class Card:
    """What an encoder is, beside its weights.

    Args:
        name: what it was loaded as.
        labels: names of the head's classes, in order; empty where unknown or without a head.
        exclusive: whether one label holds at a time (softmax) or several may (sigmoid).
        step: of pre-training, where known.
        source: the format it was read from.
    """

    name: str = "encoder"
    labels: tuple[str, ...] = ()
    exclusive: bool = False
    step: int | None = None
    source: str = "matpac"


class Embedder(nn.Module):
    """A frozen encoder with its front-end, and its head where there is one.

    Everything it returns is float32 on the CPU.
    """

    def __init__(
        self,
        encoder: Encoder,
        logmel: LogMelConfig | None = None,
        head: Tagger | None = None,
        card: Card | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.logmel = LogMel(logmel)
        self.head = head
        self.card = card or Card()
        if self.logmel.config.mels != encoder.config.mels:
            raise ValueError(f"{self.logmel.config.mels} mel bands for an encoder of {encoder.config.mels}")
        self.eval().requires_grad_(False)

    @property
    def sample_rate(self) -> int:
        """Rate that the encoder works at, in Hz; other rates are resampled."""
        return self.logmel.config.sample_rate

    @property
    def width(self) -> int:
        """Size of a scene and of a frame: bands × width of a token (3840 for ViT-B)."""
        return self.encoder.config.bands * self.encoder.config.width

    @property
    def depth(self) -> int:
        """Number of layers to choose from."""
        return self.encoder.config.depth

    @property
    def hop(self) -> float:
        """Seconds from one frame to the next (0.16)."""
        return PATCH * self.logmel.config.hop / self.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.positions.device

    def times(self, frames: int) -> Float[Tensor, " frame"]:
        """Centres of the first `frames` frames in seconds, float64: 0.0875, 0.2475, …

        A frame is a patch of 16 log-mel frames: 15 hops and a window of samples.
        """
        config = self.logmel.config
        span = ((PATCH - 1) * config.hop + config.window) / config.sample_rate
        return torch.arange(frames, dtype=torch.float64) * self.hop + span / 2

    def scene(
        self,
        waveform: Waveforms,
        sample_rate: int,
        layers: Layers = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "batch *layer width"]:
        """One vector a clip: the mean over time of its frames.

        Args:
            waveform: see `Waveforms`.
            sample_rate: of the waveforms, in Hz.
            layers: see `Layers`; None gives [batch, width], otherwise [batch, layer, width].
            batch_size: full chunks computed at once.

        Raises:
            AudioError: a clip is too short for a frame (25 ms), not mono, or not finite.
        """
        clips, _ = as_clips(waveform, sample_rate, self.sample_rate)
        scenes = [scene for scene in self.scenes(([c] for c in clips), layers, batch_size) if scene is not None]
        if not scenes:
            shape = (0, self.width) if layers is None else (0, len(self._which(layers)), self.width)
            return torch.empty(shape)
        return torch.stack(scenes)

    @overload
    def frames(
        self, waveform: np.ndarray | Tensor, sample_rate: int, layers: Layers = ..., batch_size: int | None = ...
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def frames(
        self,
        waveform: Sequence[np.ndarray | Tensor],
        sample_rate: int,
        layers: Layers = ...,
        batch_size: int | None = ...,
    ) -> tuple[list[Tensor], list[Tensor]]: ...

    def frames(
        self, waveform: Waveforms, sample_rate: int, layers: Layers = None, batch_size: int | None = None
    ) -> tuple[Tensor | list[Tensor], Tensor | list[Tensor]]:
        """Vectors over time, one per 160 ms, and the times of their centres in seconds.

        Returns:
            `[batch, T, width]` and `[T]` for one waveform or a batch; lists of `[T, width]` and of `[T]` for a
            list. With `layers`, `[batch, layer, T, width]`.

        Raises:
            AudioError: as `scene`.
        """
        clips, is_list = as_clips(waveform, sample_rate, self.sample_rate)
        found = [
            part for part in self.frame_sequences(([c] for c in clips), layers, batch_size) if part is not None
        ]
        times = [self.times(part.shape[-2]) for part in found]
        if is_list:
            return found, times
        if not found:
            return torch.empty(0, 0, self.width), self.times(0)
        return torch.stack(found), times[0]

    def logits(
        self, waveform: Waveforms, sample_rate: int, batch_size: int | None = None
    ) -> Float[Tensor, "batch class"]:
        """Logits of the head's classes; `probabilities` turns them into probabilities.

        Raises:
            ValueError: this encoder has no head.
            AudioError: as `scene`.
        """
        if self.head is None:
            raise ValueError(f"{self.card.name} has no head; load a tagger, or fine-tune one")
        scene = self.scene(waveform, sample_rate, batch_size=batch_size)
        bands = scene.view(len(scene), self.encoder.config.bands, self.encoder.config.width)
        with torch.inference_mode():
            return self.head(bands.mean(1).to(self.device)).cpu().clone()

    def probabilities(
        self, waveform: Waveforms, sample_rate: int, batch_size: int | None = None
    ) -> Float[Tensor, "batch class"]:
        """Probabilities of the classes: softmax where they exclude each other, sigmoid where they do not."""
        logits = self.logits(waveform, sample_rate, batch_size)
        return logits.softmax(-1) if self.card.exclusive else logits.sigmoid()

    def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Float[Tensor, "clip width"]:
        """Scenes of waveforms at `sample_rate`: the interface of everything downstream."""
        return self.scene(list(clips), self.sample_rate)

    def scenes(
        self,
        clips: Iterable[Iterable[np.ndarray]],
        layers: Layers = None,
        batch_size: int | None = None,
        failed: Failed | None = None,
    ) -> Iterator[Tensor | None]:
        """Scenes of many clips, each given as blocks of float32 samples at `sample_rate`, in order.

        Clips are read as they are needed and memory stays flat, however many and however long they are.

        Args:
            clips: for every clip, its blocks.
            layers: see `Layers`.
            batch_size: full chunks computed at once.
            failed: is told the number of a clip that cannot be read or is too short, and the error; the clip
                then gives None. Without it the error is raised.
        """
        for sums in self._clips(clips, self._which(layers), batch_size, failed, mean=True):
            if sums is None:
                yield None
                continue
            scene = torch.stack([total for total, _ in sums]).sum(0) / sum(steps for _, steps in sums)
            yield scene[0] if layers is None else scene

    def frame_sequences(
        self,
        clips: Iterable[Iterable[np.ndarray]],
        layers: Layers = None,
        batch_size: int | None = None,
        failed: Failed | None = None,
    ) -> Iterator[Tensor | None]:
        """Frames `[T, width]` or `[layer, T, width]` of many clips; otherwise as `scenes`."""
        for parts in self._clips(clips, self._which(layers), batch_size, failed, mean=False):
            if parts is None:
                yield None
                continue
            frames = torch.cat(parts, dim=1)
            yield frames[0] if layers is None else frames

    def _which(self, layers: Layers) -> list[int]:
        if layers is None:
            return [self.depth - 1]
        if layers == "all":
            return list(range(self.depth))
        if isinstance(layers, str) or not all(-self.depth <= layer < self.depth for layer in layers):
            raise ValueError(f"layers must be 'all' or numbers below {self.depth}, not {layers!r}")
        return [layer % self.depth for layer in layers]

    def _clips(
        self,
        clips: Iterable[Iterable[np.ndarray]],
        which: list[int],
        batch_size: int | None,
        failed: Failed | None,
        mean: bool,
    ) -> Iterator[list | None]:
        """For each clip, in order, what `_run` gave for its chunks, in order; None for one that failed."""
        counts: list[int | None] = []  # chunks of every clip that was read to its end
        done: dict[int, dict[int, object]] = {}
        first = 0
        if batch_size is None:
            batch_size = BATCH_SIZE if self.device.type == "cpu" else BATCH_SIZE_ACCELERATOR
        groups = batches(self._cut(clips, counts, failed), self.encoder.config.steps, batch_size, WAITING)
        # the empty group: the last clip's end is known only after its last chunk was taken
        for group in chain(groups, [[]]):
            for chunk, result in zip(group, self._run(group, which, mean), strict=True):
                if counts[chunk.clip] != 0:  # its clip may have failed meanwhile
                    done.setdefault(chunk.clip, {})[chunk.index] = result
            while first < len(counts) and (counts[first] == 0 or len(done.get(first, ())) == counts[first]):
                parts = done.pop(first, {})
                yield [parts[index] for index in range(len(parts))] if counts[first] else None
                first += 1
        assert first == len(counts), f"clip {first} was left over"

    def _cut(
        self, clips: Iterable[Iterable[np.ndarray]], counts: list[int | None], failed: Failed | None
    ) -> Iterator[Chunk]:
        """Chunks of all clips. A clip that fails has none: what was computed of it is dropped."""
        for number, blocks in enumerate(clips):
            cutter = Cutter(self.logmel.config, self.encoder.config.frames, number)
            counts.append(None)
            samples = 0
            try:
                for block in blocks:
                    samples += len(block)
                    yield from cutter.push(block)
                last = list(cutter.finish())
                if not cutter.index:
                    raise AudioError(f"clip {number}: {too_short(samples, self.logmel.config)}")
            except AudioError as error:
                if failed is None:
                    raise
                failed(number, error)
                counts[number] = 0
                continue
            counts[number] = cutter.index
            yield from last

    @torch.inference_mode()
    def _run(self, chunks: list[Chunk], which: list[int], mean: bool) -> list:
        """Tokens of chunks of one length: per chunk [layer, T, width], or their sum over time and T."""
        if not chunks:
            return []
        bands, width = self.encoder.config.bands, self.encoder.config.width
        logmel = chunk_logmel(chunks, self.logmel, self.device)
        if which == [self.depth - 1]:
            tokens = self.encoder(logmel).unsqueeze(1)
        else:
            tokens = self.encoder.layers(logmel, which)
        tokens = tokens.float().view(len(chunks), len(which), bands, -1, width)
        if mean:
            sums = tokens.sum(3).flatten(2).cpu()
            return [(total.clone(), chunks[0].steps) for total in sums]
        frames = tokens.transpose(2, 3).flatten(3).cpu()
        return [part.clone() for part in frames]
