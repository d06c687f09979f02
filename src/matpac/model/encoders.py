"""What is asked of an encoder that need not be one of this package: a vector for each of a list of waveforms."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from matpac.errors import MatpacError


class EncoderError(MatpacError):
    """An encoder that is not available or gives no usable vectors; the message names it."""


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
