"""Frozen features per layer and token, read from a memory map a batch at a time and standardised on the way."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

BYTES_AT_ONCE = 2**26
"""Standardised float32 features held at once; a larger batch is taken through in blocks."""


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Standardised features of some clips; what is beyond a clip's length is 0."""

    values: Float[Tensor, "clip layer token dim"]
    present: Bool[Tensor, "clip token"]
    """Which tokens exist; each clip has one at least."""


class TokenReader:
    """Reads clips out of ``tokens`` (float32 or float16) and scales each layer and dimension.

    Batches reach to the longest clip among them, so how far the array is padded changes nothing. Mean and
    deviation (population) are those of the tokens of the clips given to ``fit``.
    """

    def __init__(
        self,
        tokens: Float[np.ndarray, "clip layer token dim"],
        lengths: Integer[np.ndarray, "clip"],
        device: torch.device,
    ) -> None:
        self.device = device
        self.lengths = torch.from_numpy(lengths.astype(np.int64))
        with warnings.catch_warnings():
            # read-only memory maps are welcome: nothing here writes to the features
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.tokens = torch.from_numpy(tokens)
        _, layers, _, dim = tokens.shape
        self.clips_at_once = max(1, BYTES_AT_ONCE // (4 * layers * int(lengths.max()) * dim))
        self.mean, self.scale = torch.zeros(layers, 1, dim), torch.ones(layers, 1, dim)

    def fit(self, rows: Int[Tensor, "train"]) -> None:
        """Take mean and deviation from these clips; a constant feature is divided by 1.

        Constant is what varies by less than float32 can tell from its mean. Sums are float64.
        """
        blocks = rows.split(max(1, self.clips_at_once // 2))
        count = int(self.lengths[rows].sum())
        mean = torch.zeros(self.mean.shape, dtype=torch.float64)
        for block in blocks:
            values, present = self._read(block)
            mean += values.double().masked_fill_(~present[:, None, :, None], 0).sum(dim=(0, 2))[:, None] / count
        squares = torch.zeros_like(mean)
        for block in blocks:
            values, present = self._read(block)
            apart = (values.double() - mean).masked_fill_(~present[:, None, :, None], 0)
            squares += apart.square_().sum(dim=(0, 2))[:, None] / count
        scale = squares.sqrt_()
        scale[scale <= torch.finfo(torch.float32).eps * mean.abs()] = 1.0
        self.mean, self.scale = mean.float(), scale.float()

    def __call__(self, rows: Int[Tensor, "part"]) -> TokenBatch:
        """These clips, standardised, on the device."""
        values, present = self._read(rows)
        values = values.sub_(self.mean).div_(self.scale)
        if not present.all():  # a pass over memory, which most corpora's clips of one length don't need
            values.masked_fill_(~present[:, None, :, None], 0)
        return TokenBatch(values.to(self.device), present.to(self.device))

    def _read(
        self, rows: Int[Tensor, "part"]
    ) -> tuple[Float[Tensor, "part layer token dim"], Bool[Tensor, "part token"]]:
        """A float32 copy, and which tokens exist."""
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        values = self.tokens[:, :, :longest][rows].float()
        return values, torch.arange(longest) < lengths[:, None]


def check_tokens(tokens: Float[np.ndarray, "..."], lengths: Integer[np.ndarray, "..."], clips: int) -> None:
    """Raise a ValueError that names what is wrong with tokens [clip, layer, token, dim] and their lengths.

    What lies beyond a clip's length is never looked at and may be anything.
    """
    if tokens.ndim != 4 or 0 in tokens.shape or len(tokens) != clips:
        raise ValueError(f"tokens of {clips} clips must be [clip, layer, token, dim], not {list(tokens.shape)}")
    if tokens.dtype not in (np.float32, np.float16):
        raise ValueError(f"tokens must be float32 or float16, not {tokens.dtype}")
    if lengths.shape != (clips,) or lengths.min() < 1 or lengths.max() > tokens.shape[2]:
        raise ValueError(
            f"lengths must be [{clips}] from 1 to {tokens.shape[2]} tokens; they are {list(lengths.shape)} "
            f"from {lengths.min(initial=tokens.shape[2])} to {lengths.max(initial=0)}"
        )
    for row in range(clips):
        finite = np.isfinite(tokens[row, :, : lengths[row]]).all(axis=(1, 2))
        if not finite.all():
            raise ValueError(f"features of clip {row} hold NaN or infinity in layer {int(finite.argmin())}")
