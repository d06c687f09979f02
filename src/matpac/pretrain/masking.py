"""The random split of a clip's patches into what the student sees and what it must predict."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class MaskSplit(NamedTuple):
    """Indices of visible and masked patches, both in shuffled order; together a permutation of all."""

    visible: Int[Tensor, "batch visible"]
    masked: Int[Tensor, "batch masked"]

    def restore(self) -> Int[Tensor, "batch token"]:
        """Inverse permutation: puts `cat([visible, masked])` back in the patches' order."""
        return torch.cat([self.visible, self.masked], dim=1).argsort(dim=1)


def visible_count(tokens: int, mask_ratio: float) -> int:
    """Number of visible patches: int(L · (1 − ratio)), as published (57 of 190 at 0.7)."""
    return int(tokens * (1 - mask_ratio))


def split_by_noise(noise: Float[Tensor, "batch token"], mask_ratio: float) -> MaskSplit:
    """Sort each clip's patches by noise; the first are visible, the rest masked."""
    order = noise.argsort(dim=1)
    keep = visible_count(noise.shape[1], mask_ratio)
    return MaskSplit(order[:, :keep], order[:, keep:])


def mask_noise(batch: int, tokens: int, seed: tuple[int, ...]) -> Float[Tensor, "batch token"]:
    """Uniform noise that depends on nothing but its arguments, drawn on the CPU, the same for every device.

    With a seed of (run's seed, step) and the global batch, a resumed run masks as the unbroken one, and so does
    the same batch on another number of processes.
    """
    return torch.rand(batch, tokens, generator=torch.Generator().manual_seed(mix_seed(seed)))


def mix_seed(seed: tuple[int, ...]) -> int:
    """One 63-bit seed out of several integers (FNV-1a, then a finaliser so that near seeds differ widely)."""
    state = 0xCBF29CE484222325
    for value in seed:
        for byte in int(value).to_bytes(8, "little", signed=True):
            state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    state ^= state >> 33
    state = (state * 0xFF51AFD7ED558CCD) & 0xFFFFFFFFFFFFFFFF
    return (state ^ (state >> 33)) >> 1


def gather_tokens(
    tokens: Float[Tensor, "batch token width"], index: Int[Tensor, "batch chosen"]
) -> Float[Tensor, "batch chosen width"]:
    """The tokens at the given indices of each clip."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
