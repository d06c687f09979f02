"""Making an encoder easy to round: the same function, with its activations' outliers moved into the weights.

A token's activations share one scale when they are rounded to 8 bits, so that a channel that is a hundred times
louder than the others leaves them no digits. Dividing it in the norm's weights and multiplying it in the columns
of the matrix that follows changes nothing but that (SmoothQuant, arXiv 2211.10438).
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.model.embedder import Embedder
from matpac.model.linear import Linear
from matpac.model.vit import Block, Encoder

STRENGTH = 0.5
"""Share of the difficulty that goes to the weights (SmoothQuant's α; its authors' default, and 0.7 does no better
here)."""

SMALLEST = 1e-5
"""Below this a channel counts as silent, or a column as empty (SmoothQuant's published code)."""


def smoothed(embedder: Embedder, sounds: Sequence[Float[np.ndarray, " _"]]) -> Embedder:
    """A copy whose activations, on sounds like these, have channels of like size before every matrix after a norm.

    Args:
        embedder: is not changed.
        sounds: at the encoder's rate; the largest value of every channel on them is measured.

    Raises:
        AudioError: a sound is too short for a frame.
    """
    largest = _largest_activations(embedder, sounds)
    copy = deepcopy(embedder)
    with torch.no_grad():
        for (norm, linear), loud in zip(_pairs(copy.encoder), largest, strict=True):
            weight = linear.weight.abs().amax(0).clamp(min=SMALLEST)
            scale = loud.clamp(min=SMALLEST) ** STRENGTH / weight ** (1 - STRENGTH)
            norm.weight.div_(scale)
            norm.bias.div_(scale)
            linear.weight.mul_(scale)
    return copy


def _pairs(encoder: Encoder) -> Iterator[tuple[nn.LayerNorm, Linear]]:
    """Every norm with the matrix that alone takes what it gives."""
    for block in encoder.transformer.blocks:
        assert isinstance(block, Block)
        yield block.norm1, block.attn.qkv
        yield block.norm2, block.mlp.fc1


def _largest_activations(
    embedder: Embedder, sounds: Sequence[Float[np.ndarray, " _"]]
) -> list[Float[Tensor, " width"]]:
    """The largest absolute value of every channel after every norm."""
    largest: dict[int, Tensor] = {}

    def watch(number: int, norm: nn.LayerNorm) -> torch.utils.hooks.RemovableHandle:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found = output.abs().flatten(0, -2).amax(0)
            largest[number] = torch.maximum(largest[number], found) if number in largest else found

        return norm.register_forward_hook(note)

    handles = [watch(number, norm) for number, (norm, _) in enumerate(_pairs(embedder.encoder))]
    try:
        embedder.scene(list(sounds), embedder.sample_rate)
    finally:
        for handle in handles:
            handle.remove()
    return [largest[number] for number in range(len(handles))]
