"""Frozen features per layer and token, a batch at a time and standardised on the way, from wherever they come."""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

BYTES_AT_ONCE = 2**24
"""Standardised float32 features held at once on a CPU; a larger batch is taken through in blocks.

Ours: measured, what stays near the cores' caches from one operation to the next is a third quicker than 2^26."""

BYTES_AT_ONCE_ACCELERATOR = 2**28
"""The same on a GPU, which wants more at once; ours."""


class TokenSource(ABC):
    """The tokens of a task's clips, read whenever they are needed."""

    def __init__(self, clips: int, layers: int, longest: int, dim: int, at_least: int = 1) -> None:
        self.clips, self.layers, self.longest, self.dim, self.at_least = clips, layers, longest, dim, at_least
        """``longest``: tokens that a clip can have; ``at_least``: clips worth reading at once, however large."""

    def check(self) -> None:  # noqa: B027 (what is checked when it is read has nothing to add)
        """Raise ValueError on NaN or infinity in a clip's tokens."""

    @abstractmethod
    def read(self, rows: Int[Tensor, "part"]) -> tuple[Float[Tensor, "layer part token dim"], Int[Tensor, "part"]]:
        """Float32 tokens of these clips in memory of their own, 0 behind a clip's end, and how many each has.

        They reach to the longest clip among them. Layers come first, so that one layer of all is one matrix.
        """


class StoredTokens(TokenSource):
    """Tokens of an array, which may be a memory map larger than memory.

    What lies behind a clip's end is never looked at and may be anything. Raises ValueError on another shape or
    kind of number, and on lengths that are not from 1 to the array's.
    """

    def __init__(
        self, tokens: Float[np.ndarray, "..."], lengths: Integer[np.ndarray, "..."] | None = None
    ) -> None:
        if tokens.ndim != 4 or 0 in tokens.shape:
            raise ValueError(f"tokens must be [clip, layer, token, dim], not {list(tokens.shape)}")
        if tokens.dtype not in (np.float32, np.float16):
            raise ValueError(f"tokens must be float32 or float16, not {tokens.dtype}")
        clips, layers, longest, dim = tokens.shape
        lengths = np.full(clips, longest) if lengths is None else lengths
        if lengths.shape != (clips,) or lengths.min() < 1 or lengths.max() > longest:
            raise ValueError(
                f"lengths must be [{clips}] from 1 to {longest} tokens; they are {list(lengths.shape)} "
                f"from {lengths.min(initial=longest)} to {lengths.max(initial=0)}"
            )
        super().__init__(clips, layers, int(lengths.max()), dim)
        self._lengths = torch.from_numpy(lengths.astype(np.int64))
        with warnings.catch_warnings():
            # read-only memory maps are welcome: nothing here writes to the features
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self._tokens = torch.from_numpy(tokens)

    def check(self) -> None:
        """As ``TokenSource``."""
        for row, length in enumerate(self._lengths.tolist()):
            finite = self._tokens[row, :, :length].isfinite().flatten(1).all(dim=1)
            if not finite.all():
                raise ValueError(
                    f"features of clip {row} hold NaN or infinity in layer {int(finite.int().argmin())}"
                )

    def read(self, rows: Int[Tensor, "part"]) -> tuple[Float[Tensor, "layer part token dim"], Int[Tensor, "part"]]:
        """As ``TokenSource``."""
        lengths = self._lengths[rows]
        longest = int(lengths.max())
        values = torch.empty(self.layers, len(rows), longest, self.dim)
        for place, row in enumerate(rows.tolist()):  # widened and put in place in one pass
            values[:, place] = self._tokens[row, :, :longest]
        if (absent := _absent(lengths)) is not None:
            values.masked_fill_(absent, 0)
        return values, lengths


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Standardised features of some clips; what is beyond a clip's length is 0."""

    values: Float[Tensor, "clip layer token dim"]
    """A view of layers first, as ``TokenSource.read`` has them."""
    present: Bool[Tensor, "clip token"]
    """Which tokens exist; each clip has one at least."""


class TokenReader:
    """Reads clips of a source and scales each layer and dimension by what ``fit`` saw.

    Batches reach to the longest clip among them, so how far an array is padded changes nothing.
    """

    def __init__(self, source: TokenSource, device: torch.device) -> None:
        self.source, self.device = source, device
        room = BYTES_AT_ONCE if device.type == "cpu" else BYTES_AT_ONCE_ACCELERATOR
        self.clips_at_once = max(source.at_least, room // (4 * source.layers * source.longest * source.dim))
        self.mean, self.scale = (
            fill(source.layers, 1, 1, source.dim, device=device) for fill in (torch.zeros, torch.ones)
        )

    def fit(self, rows: Int[Tensor, "train"]) -> None:
        """Take mean and (population) deviation of the tokens of these clips, in one pass.

        A constant feature is divided by 1; constant is what varies by less than float32 can tell from its mean.
        Blocks are summed as float32 about their own mean and joined as float64 (Chan, Golub, LeVeque 1979).
        """
        mean = torch.zeros(self.mean.shape, dtype=torch.float64)
        squares, seen = torch.zeros_like(mean), 0
        for block in rows.split(self.clips_at_once):
            values, lengths = self.source.read(block)
            count = int(lengths.sum())
            about = values.sum(dim=(1, 2), keepdim=True) / count
            values.sub_(about)
            if (absent := _absent(lengths)) is not None:
                values.masked_fill_(absent, 0)
            rest = values.sum(dim=(1, 2), keepdim=True).double()  # what rounding left of the mean
            apart = about.double() + rest / count - mean
            squares += values.square_().sum(dim=(1, 2), keepdim=True).double() - rest.square() / count
            squares += apart.square() * (seen * count / (seen + count))
            mean += apart * (count / (seen + count))
            seen += count
        scale = (squares.clamp_(min=0) / seen).sqrt_()
        scale[scale <= torch.finfo(torch.float32).eps * mean.abs()] = 1.0
        self.mean, self.scale = mean.float().to(self.device), scale.float().to(self.device)

    def __call__(self, rows: Int[Tensor, "part"]) -> TokenBatch:
        """These clips, standardised, on the device."""
        values, lengths = self.source.read(rows)
        values = values.to(self.device).sub_(self.mean).div_(self.scale)
        absent = _absent(lengths)
        if absent is None:  # saves a pass over memory with most corpora, whose clips have one length
            present = torch.ones(values.shape[1:3], dtype=torch.bool, device=self.device)
        else:
            absent = absent.to(self.device)
            values.masked_fill_(absent, 0)
            present = ~absent[..., 0]
        return TokenBatch(values.transpose(0, 1), present)


def _absent(lengths: Int[Tensor, "part"]) -> Bool[Tensor, "part token 1"] | None:
    """What lies behind the clips' ends; None where nothing does."""
    longest = int(lengths.max())
    if int(lengths.min()) == longest:
        return None
    return (torch.arange(longest) >= lengths[:, None])[..., None]
