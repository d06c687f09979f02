"""Frozen encoders, of this package or not: what is asked of them, and one with a name and a key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from matpac.errors import MatpacError
from matpac.model.embedder import Embedder
from matpac.model.waveforms import Waveform


class EncoderError(MatpacError):
    """An encoder that is not available or gives no usable vectors; the message names it."""


class NotFiniteError(EncoderError):
    """A vector with NaN or infinity in it."""

    def __init__(self, encoder: str, path: str):
        super().__init__(f"{encoder}: NaN or infinity in its vector of {path}; check this sound")


@runtime_checkable
class FrozenEncoder(Protocol):
    """The one interface of evaluation, so that comparisons are fair; `Embedder` implements it."""

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the waveforms that `embed` takes."""
        ...

    def embed(self, clips: Sequence[Waveform]) -> Float[Tensor, "clip width"]:
        """One vector per clip, float32. Raises AudioError if a clip can't be used."""
        ...


@dataclass(frozen=True)
class NamedEncoder:
    """An encoder as tables show it.

    Args:
        name: as asked for.
        encoder: gives the vectors.
        key: SHA-256 over weights and settings, hexadecimal: equal keys mean equal vectors.
        layers: how many there are to choose from; 0 if it gives the last one's vectors alone.
    """

    name: str
    encoder: FrozenEncoder
    key: str
    layers: int = 0

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the waveforms that `embed` takes."""
        return self.encoder.sample_rate

    @property
    def embedder(self) -> Embedder | None:
        """The encoder if it is one of matpac's own."""
        return self.encoder if isinstance(self.encoder, Embedder) else None

    @property
    def gives(self) -> set[str]:
        """What probes can have of it: scenes, layers (scenes of all), tokens, layer_tokens."""
        layers, tokens = self.layers > 0, self.embedder is not None
        kinds = {"scenes": True, "layers": layers, "tokens": tokens, "layer_tokens": layers and tokens}
        return {kind for kind, there in kinds.items() if there}

    def embed(self, clips: Sequence[Waveform]) -> Float[Tensor, "clip width"]:
        """One vector per clip, float32.

        Raises:
            EncoderError: the encoder gave another shape.
            AudioError: a clip that it can't use.
        """
        vectors = self.encoder.embed(clips)
        shape = list(vectors.shape) if isinstance(vectors, Tensor) else None
        if shape is None or len(shape) != 2 or shape[0] != len(clips) or not shape[1]:
            found = f"a {type(vectors).__name__}" if shape is None else f"a tensor of shape {shape}"
            raise EncoderError(
                f"{self.name}: gave {found} for {len(clips)} clips instead of [{len(clips)}, width]; correct the "
                "encoder"
            )
        return vectors.float()
