"""From sound to vectors: clips of any length to frames, scenes and logits with a trained encoder.

Exactly as the papers do it ("precise" inference), with chunks batched across clips, in flat memory.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Literal, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.errors import MatpacError
from matpac.model.chunks import Cutter, batches, full_batch
from matpac.model.gather import Frames, Gathered, Gatherer, Mean, gather
from matpac.model.heads import NO_HEAD, TOP, Head, Tag, class_names, most_probable
from matpac.model.logmel import LogMel, LogMelConfig
from matpac.model.network import Network, VitNetwork, settings_key
from matpac.model.vit import PATCH, Encoder, EncoderConfig
from matpac.model.waveforms import Waveform, Waveforms, as_clips

T = TypeVar("T")

Layers = Literal["all"] | Sequence[int] | None
"""Which blocks' outputs: None for the last alone, "all", or 0-based numbers (negative from the end)."""


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

    Args:
        network: PyTorch's encoder, or any other `Network`.
        logmel: the front-end.
        head: scores classes, if there is one.
        card: name, labels and origin.
    """

    def __init__(
        self,
        network: Encoder | Network,
        logmel: LogMelConfig | None = None,
        head: Head | None = None,
        card: Card | None = None,
    ):
        super().__init__()
        self.logmel = LogMel(logmel)
        self.network: Network = VitNetwork(network, self.logmel) if isinstance(network, Encoder) else network
        self.head = head
        self.card = card or Card()
        if self.logmel.config.mels != self.config.mels:
            raise ValueError(f"{self.logmel.config.mels} mel bands for an encoder of {self.config.mels}")
        self.eval().requires_grad_(False)

    @property
    def encoder(self) -> Encoder:
        """The network in PyTorch.

        Raises:
            MatpacError: it runs elsewhere, in ONNX Runtime.
        """
        if isinstance(self.network, VitNetwork):
            return self.network.encoder
        raise MatpacError(
            f"{self.card.name}: its weights lie in an ONNX file, which computes scenes and frames alone; to train "
            "it, save it or look into its layers, load the encoder that it was exported from"
        )

    @property
    def config(self) -> EncoderConfig:
        """Size of the network."""
        return self.network.config

    @property
    def key(self) -> str:
        """SHA-256 over weights, network and front-end (not the head): equal keys mean equal vectors.

        Computed on every access.
        """
        settings = {"encoder": asdict(self.config), "logmel": asdict(self.logmel.config)}
        return sha256(settings_key(settings).encode() + self.network.digest()).hexdigest()

    @property
    def sample_rate(self) -> int:
        """Rate that the encoder works at, in Hz; other rates are resampled."""
        return self.logmel.config.sample_rate

    @property
    def width(self) -> int:
        """Size of a scene and of a frame: bands × width of a token."""
        return self.config.bands * self.config.width

    @property
    def depth(self) -> int:
        """Number of layers to choose from; 0 where only the last one's output is available (ONNX files)."""
        return self.network.depth

    @property
    def hop(self) -> float:
        """Seconds from one frame to the next."""
        return PATCH * self.logmel.config.hop / self.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.device

    def which(self, layers: Layers) -> list[int]:
        """The layers' numbers, from 0.

        Raises:
            ValueError: there is no such layer.
            MatpacError: only the last layer's output is available, and others are wanted.
        """
        blocks = self.config.depth
        numbers = [-1] if layers is None else range(blocks) if layers == "all" else layers
        if isinstance(numbers, str) or not all(-blocks <= number < blocks for number in numbers):
            raise ValueError(f"layers must be 'all' or numbers below {blocks}, not {layers!r}")
        found = [number % blocks for number in numbers]
        if not self.depth and found != [blocks - 1]:
            raise MatpacError(
                f"{self.card.name}: an ONNX file has the last layer alone, not {layers!r}; for others load the "
                "encoder that it was exported from"
            )
        return found

    def times(self, frames: int, start: int = 0) -> Float[Tensor, " frame"]:
        """Centres in seconds, float64, of `frames` frames from number `start` on (docs/method.md, section 7)."""
        config = self.logmel.config
        span = ((PATCH - 1) * config.hop + config.window) / config.sample_rate
        return torch.arange(start, start + frames, dtype=torch.float64) * self.hop + span / 2

    def scene(
        self, waveform: Waveforms, sample_rate: int, layers: Layers = None, batch_size: int | None = None
    ) -> Float[Tensor, "batch *layer width"]:
        """One vector per clip: the mean over time of its frames.

        Args:
            waveform: see `Waveforms`.
            sample_rate: of the waveforms, in Hz.
            layers: see `Layers`; None gives [batch, width], otherwise [batch, layer, width].
            batch_size: full chunks computed at once.

        Raises:
            AudioError: a clip is shorter than one window of log-mel, not mono, or not finite.
        """
        clips, _ = as_clips(waveform, sample_rate, self.sample_rate)
        scenes = list(self.scenes(([c] for c in clips), layers, batch_size))
        if not scenes:
            return torch.empty(0, *([] if layers is None else [len(self.which(layers))]), self.width)
        return torch.stack(scenes)

    @overload
    def frames(
        self, waveform: Waveform, sample_rate: int, layers: Layers = ..., batch_size: int | None = ...
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def frames(
        self, waveform: Sequence[Waveform], sample_rate: int, layers: Layers = ..., batch_size: int | None = ...
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
        parts = _results(self.gather(([c] for c in clips), Frames, layers, batch_size))
        found = [part[0] if layers is None else part for part in parts]
        times = [self.times(part.shape[-2]) for part in found]
        if is_list:
            return found, times
        if not found:
            return torch.empty(0, 0, self.width), self.times(0)
        # a single long clip is not copied
        return torch.stack(found) if len(found) > 1 else found[0][None], times[0]

    def scenes(
        self, clips: Iterable[Iterable[np.ndarray]], layers: Layers = None, batch_size: int | None = None
    ) -> Generator[Float[Tensor, "*layer width"], None, None]:
        """Scenes of many clips, each given as blocks of float32 samples at `sample_rate`, in order.

        Clips are read as they are needed and memory stays flat, however many and however long they are. `layers`,
        `batch_size` and errors as for `scene`; the first clip that can't be used ends it.
        """
        for scene in _results(self.gather(clips, Mean, layers, batch_size)):
            yield scene[0] if layers is None else scene

    def embed(self, clips: Sequence[Waveform]) -> Float[Tensor, "clip width"]:
        """Scenes of waveforms at `sample_rate`: what every frozen encoder gives (`FrozenEncoder`)."""
        return self.scene(list(clips), self.sample_rate)

    def logits(
        self, waveform: Waveforms, sample_rate: int, batch_size: int | None = None
    ) -> Float[Tensor, "batch class"]:
        """Logits of the head's classes; `probabilities` turns them into probabilities.

        Raises:
            MatpacError: this encoder has no head.
            AudioError: as `scene`.
        """
        return self.scene_logits(self.scene(waveform, sample_rate, batch_size=batch_size))

    def probabilities(
        self, waveform: Waveforms, sample_rate: int, batch_size: int | None = None
    ) -> Float[Tensor, "batch class"]:
        """Softmax of `logits` where classes exclude each other, sigmoid where they do not."""
        return self.scene_probabilities(self.scene(waveform, sample_rate, batch_size=batch_size))

    def scene_logits(self, scene: Float[Tensor, "batch width"]) -> Float[Tensor, "batch class"]:
        """Logits of scenes, or of frames, that were computed already. Raises MatpacError without a head."""
        if self.head is None:
            raise MatpacError(f"{self.card.name} has no head {NO_HEAD}")
        with torch.inference_mode():
            return self.head.of_scenes(scene.to(self.head.linear.weight.device)).cpu().clone()

    def scene_probabilities(self, scene: Float[Tensor, "batch width"]) -> Float[Tensor, "batch class"]:
        """`probabilities` of scenes, or of frames, that were computed already."""
        logits = self.scene_logits(scene)
        return logits.softmax(-1) if self.card.exclusive else logits.sigmoid()

    @overload
    def frame_probabilities(
        self, waveform: Waveform, sample_rate: int, batch_size: int | None = ...
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def frame_probabilities(
        self, waveform: Sequence[Waveform], sample_rate: int, batch_size: int | None = ...
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
        return self.scene_probabilities(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]), times

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

    def gather(
        self,
        clips: Iterable[Iterable[np.ndarray]],
        gatherer: Callable[[], Gatherer[T]],
        layers: Layers = None,
        batch_size: int | None = None,
    ) -> Generator[Gathered[T], None, None]:
        """Reductions of clips that come as blocks of samples at `sample_rate`, in order.

        A clip that can't be used gives its error. `matpac.vectors.road.Road` does the same for files.

        Args:
            clips: for every clip, its blocks.
            gatherer: makes one for each clip: `Mean`, `Frames`, or your own.
            layers: see `Layers`; None gives the gatherer one layer.
            batch_size: full chunks computed at once; None for what suits the device.
        """
        which, config = self.which(layers), self.config
        size = batch_size or full_batch(self.device)
        yield from gather(
            clips,
            lambda clip: Cutter(self.logmel.config, config.frames, clip),
            lambda chunks: batches(chunks, config.steps, size),
            lambda chunks: self.network.chunk_frames(chunks, which, sums=gatherer is Mean),
            gatherer,
        )


def _results(gathered: Iterable[Gathered[T]]) -> Iterator[T]:
    """The clips' reductions; raises the error of the first clip without one."""
    for found in gathered:
        if found.result is None:
            raise found.error or AssertionError
        yield found.result
