"""From sound to vectors: clips of any length to frames, scenes and logits with a trained encoder.

Exactly as the papers do it ("precise" inference), with chunks batched across clips, in flat memory.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.errors import MatpacError
from matpac.model.card import Card
from matpac.model.chunks import WAITING, Chunk, Cutter, batches, chunk_logmel, full_batch
from matpac.model.gather import Failed, Frames, Gatherer, Gathering, Mean
from matpac.model.heads import NO_HEAD, TOP, Head, Tag, class_names, most_probable
from matpac.model.heads import Tagger as Tagger  # part of this module's names too
from matpac.model.logmel import LogMel, LogMelConfig
from matpac.model.vit import PATCH, Encoder
from matpac.model.waveforms import Waveforms, as_clips

T = TypeVar("T")

Layers = Literal["all"] | Sequence[int] | None
"""Which blocks' outputs: None for the last alone, "all", or 0-based numbers (negative from the end)."""


class Embedder(nn.Module):
    """A frozen encoder with its front-end, and its head where there is one.

    Everything it returns is float32 on the CPU.
    """

    def __init__(
        self,
        encoder: Encoder,
        logmel: LogMelConfig | None = None,
        head: Head | None = None,
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
        """Seconds from one frame to the next: 0.16, of tiny 0.32."""
        return PATCH * self.logmel.config.hop / self.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.positions.device

    def times(self, frames: int, start: int = 0) -> Float[Tensor, " frame"]:
        """Centres of `frames` frames from number `start` on, in seconds, float64: 0.0875, 0.2475, …

        A frame is a patch of 16 log-mel frames: 15 hops and a window of samples (docs/method.md, section 7).
        """
        config = self.logmel.config
        span = ((PATCH - 1) * config.hop + config.window) / config.sample_rate
        return torch.arange(start, start + frames, dtype=torch.float64) * self.hop + span / 2

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
            shape = (0, self.width) if layers is None else (0, len(self.which(layers)), self.width)
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
        """Vectors over time, one per `hop`, and the times of their centres in seconds.

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
        # a single long clip is not copied
        return torch.stack(found) if len(found) > 1 else found[0][None], times[0]

    def logits(
        self, waveform: Waveforms, sample_rate: int, batch_size: int | None = None
    ) -> Float[Tensor, "batch class"]:
        """Logits of the head's classes; `probabilities` turns them into probabilities.

        Raises:
            MatpacError: this encoder has no head.
            AudioError: as `scene`.
        """
        return self.scene_logits(self.scene(waveform, sample_rate, batch_size=batch_size))

    def scene_logits(self, scene: Float[Tensor, "batch width"]) -> Float[Tensor, "batch class"]:
        """Logits of scenes, or of frames, that were computed already (`scene`, `scenes`, `frame_sequences`).

        Raises:
            MatpacError: this encoder has no head.
        """
        if self.head is None:
            raise MatpacError(f"{self.card.name} has no head {NO_HEAD}")
        with torch.inference_mode():
            return self.head.of_scenes(scene.to(self.device)).cpu().clone()

    def scene_probabilities(self, scene: Float[Tensor, "batch width"]) -> Float[Tensor, "batch class"]:
        """Softmax of `scene_logits` where classes exclude each other, sigmoid where they do not."""
        logits = self.scene_logits(scene)
        return logits.softmax(-1) if self.card.exclusive else logits.sigmoid()

    def probabilities(
        self, waveform: Waveforms, sample_rate: int, batch_size: int | None = None
    ) -> Float[Tensor, "batch class"]:
        """Probabilities of the classes: softmax where they exclude each other, sigmoid where they do not."""
        return self.scene_probabilities(self.scene(waveform, sample_rate, batch_size=batch_size))

    @overload
    def frame_probabilities(
        self, waveform: np.ndarray | Tensor, sample_rate: int, batch_size: int | None = ...
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def frame_probabilities(
        self, waveform: Sequence[np.ndarray | Tensor], sample_rate: int, batch_size: int | None = ...
    ) -> tuple[list[Tensor], list[Tensor]]: ...

    def frame_probabilities(
        self, waveform: Waveforms, sample_rate: int, batch_size: int | None = None
    ) -> tuple[Tensor | list[Tensor], Tensor | list[Tensor]]:
        """Probabilities every `hop`, the head on each frame as if it were a scene, and the frames' centres.

        `[batch, T, class]` and `[T]` (s) for one waveform or a batch, lists of `[T, class]` and of `[T]` for a
        list. Raises as `logits`.
        """
        frames, times = self.frames(waveform, sample_rate, batch_size=batch_size)
        if isinstance(frames, list):
            return [self.scene_probabilities(part) for part in frames], times
        flat = self.scene_probabilities(frames.flatten(0, 1))
        return flat.unflatten(0, frames.shape[:2]), times

    def tags(
        self, waveform: Waveforms, sample_rate: int, top: int | None = TOP, threshold: float | None = None
    ) -> list[list[Tag]]:
        """The most probable classes of each clip, best first: at most `top`, each of at least `threshold`.

        A head without label names gives "class 0", "class 1", … by the number of the logit. Raises as `logits`,
        and MatpacError where `top` or `threshold` is out of range.
        """
        probabilities = self.probabilities(waveform, sample_rate)
        names = class_names(self.card.labels, probabilities.shape[-1])
        return [most_probable(row, names, top, threshold) for row in probabilities]

    def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Float[Tensor, "clip width"]:
        """Scenes of waveforms at `sample_rate`: the interface of everything downstream."""
        return self.scene(list(clips), self.sample_rate)

    def scenes(
        self,
        clips: Iterable[Iterable[np.ndarray]],
        layers: Layers = None,
        batch_size: int | None = None,
        failed: Failed | None = None,
    ) -> Generator[Tensor | None, None, None]:
        """Scenes of many clips, each given as blocks of float32 samples at `sample_rate`, in order.

        Clips are read as they are needed and memory stays flat, however many and however long they are.

        Args:
            clips: for every clip, its blocks.
            layers: see `Layers`.
            batch_size: full chunks computed at once.
            failed: is told the number of a clip that cannot be read or is too short, and the error; the clip
                then gives None. Without it the error is raised.
        """
        for scene in self._gather(clips, Mean, self.which(layers), batch_size, failed, sums=True):
            yield scene if scene is None or layers is not None else scene[0]

    def frame_sequences(
        self,
        clips: Iterable[Iterable[np.ndarray]],
        layers: Layers = None,
        batch_size: int | None = None,
        failed: Failed | None = None,
    ) -> Generator[Tensor | None, None, None]:
        """Frames `[T, width]` or `[layer, T, width]` of many clips; otherwise as `scenes`."""
        for frames in self.frames_into(
            lambda: Frames(self.encoder.config.steps), clips, layers, batch_size, failed
        ):
            yield frames if frames is None or layers is not None else frames[0]

    def frames_into(
        self,
        gatherer: Callable[[], Gatherer[T]],
        clips: Iterable[Iterable[np.ndarray]],
        layers: Layers = None,
        batch_size: int | None = None,
        failed: Failed | None = None,
    ) -> Generator[T | None, None, None]:
        """What `gatherer()`, a new one for every clip, makes of its frames [layer, T, width]; else as `scenes`.

        For clips whose frames are more than memory holds; there is a layer even where `layers` is None.
        """
        yield from self._gather(clips, gatherer, self.which(layers), batch_size, failed, sums=False)

    def save(self, path: str | Path, half: bool = False) -> Path:
        """Write it into a folder or a `.safetensors` file, `half` in float16."""
        from matpac.files.checkpoint import save  # a floor above

        return save(self, path, half)

    def which(self, layers: Layers) -> list[int]:
        """The numbers of the blocks that are meant, from 0. Raises ValueError for one that is not there."""
        if layers is None:
            return [self.depth - 1]
        if layers == "all":
            return list(range(self.depth))
        if isinstance(layers, str) or not all(-self.depth <= layer < self.depth for layer in layers):
            raise ValueError(f"layers must be 'all' or numbers below {self.depth}, not {layers!r}")
        return [layer % self.depth for layer in layers]

    def cutter(self, clip: int = 0) -> Cutter:
        """What cuts a clip into this encoder's chunks."""
        return Cutter(self.logmel.config, self.encoder.config.frames, clip)

    def _gather(
        self,
        clips: Iterable[Iterable[np.ndarray]],
        gatherer: Callable[[], Gatherer[T]],
        which: list[int],
        batch_size: int | None,
        failed: Failed | None,
        sums: bool,
    ) -> Generator[T | None, None, None]:
        steps, size = self.encoder.config.steps, batch_size or full_batch(self.device)
        yield from Gathering(self.cutter, gatherer, failed).run(
            clips,
            lambda chunks: batches(chunks, steps, size, WAITING),
            lambda chunks: self.chunk_frames(chunks, which, sums),
        )

    @torch.inference_mode()
    def chunk_frames(
        self, chunks: list[Chunk], which: list[int], sums: bool = False
    ) -> Float[Tensor, "chunk layer *step width"]:
        """Frames of chunks of one length, or their sums over time, on the CPU."""
        bands, width = self.encoder.config.bands, self.encoder.config.width
        logmel = chunk_logmel(chunks, self.logmel, self.device)
        if which == [self.depth - 1]:
            tokens = self.encoder(logmel).unsqueeze(1)
        else:
            tokens = self.encoder.layers(logmel, which)
        tokens = tokens.float().view(len(chunks), len(which), bands, -1, width)
        return (tokens.sum(3).flatten(2) if sums else tokens.transpose(2, 3).flatten(3)).cpu()
