"""Frozen encoders, of this package or not: what is asked of them, and one with a name and a key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from matpac.errors import MatpacError
from matpac.model.embedder import Embedder


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

    def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Float[Tensor, "clip width"]:
        """One vector per clip, float32. Raises AudioError if a clip can't be used."""
        ...


@runtime_checkable
class LayeredEncoder(FrozenEncoder, Protocol):
    """An encoder that also gives vectors of all its layers, which have one width."""

    def embed_layers(self, clips: Sequence[np.ndarray | Tensor]) -> Float[Tensor, "clip layer width"]:
        """One vector per clip and layer, float32; the last layer's is what `embed` gives."""
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

    def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Float[Tensor, "clip width"]:
        """One vector per clip, float32.

        Raises:
            EncoderError: the encoder gave another shape.
            AudioError: a clip that it can't use.
        """
        return self._checked(self.encoder.embed(clips), [len(clips)])

    def embed_layers(self, clips: Sequence[np.ndarray | Tensor]) -> Float[Tensor, "clip layer width"]:
        """One vector per clip and layer; otherwise as `embed`. Raises EncoderError if it has no layers."""
        encoder = self.encoder
        if isinstance(encoder, Embedder):
            vectors = encoder.scene(list(clips), encoder.sample_rate, layers="all")
        elif self.layers and isinstance(encoder, LayeredEncoder):
            vectors = encoder.embed_layers(clips)
        else:
            raise EncoderError(f"{self.name}: gives no vectors of its layers; ask for the last one's alone")
        return self._checked(vectors, [len(clips), self.layers])

    def _checked(self, vectors: object, wanted: list[int]) -> Tensor:
        shape = list(vectors.shape) if isinstance(vectors, Tensor) else None
        if not isinstance(vectors, Tensor) or shape is None or shape[:-1] != wanted or not shape[-1]:
            found = f"a tensor of shape {shape}" if shape is not None else f"a {type(vectors).__name__}"
            raise EncoderError(
                f"{self.name}: gave {found} for {wanted[0]} clips instead of "
                f"[{', '.join(map(str, wanted))}, width]; correct the encoder"
            )
        return vectors.float()
