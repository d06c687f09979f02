"""Frozen features of a task's clips, per layer and token: read a batch at a time and standardised on the way."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

from matpac.tasks import Task

BYTES_AT_ONCE = 2**24
"""Standardised float32 features held at once on a CPU; larger batches are read in blocks.

Measured: what stays near the cores' caches from one operation to the next is a third quicker than 2^26."""

BYTES_AT_ONCE_ACCELERATOR = 2**28
"""The same on a GPU; default; GPUs need more work at once."""


class Scaler(NamedTuple):
    """Mean and population standard deviation of each layer and dimension; leading dimensions are groups."""

    mean: Float[Tensor, "*group layer dim"]
    scale: Float[Tensor, "*group layer dim"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Standardised features of some clips for each group of heads.

    Args:
        values: 0 beyond a clip's last token; layers come first, so that one layer of all clips is one matrix.
        present: which tokens exist, at least one per clip; None where all do.
    """

    values: Float[Tensor, "group layer clip token dim"]
    present: Bool[Tensor, "group clip token"] | None


class Inputs:
    """Features [clip, layer, token, dim], which may be a memory map larger than memory and are never copied whole.

    Args:
        values: float32, or float16 widened a batch at a time. Whatever lies beyond a clip's tokens is ignored.
        lengths: tokens of each clip; None for all.
        device: where batches go.
        bytes_at_once: of a block of standardised features; the default depends on the device.

    Raises:
        ValueError: another shape or type, lengths that don't fit, or NaN or infinity; names the clip.
    """

    def __init__(
        self,
        values: Shaped[np.ndarray, "..."],
        lengths: Integer[np.ndarray, "..."] | None = None,
        device: str | torch.device = "cpu",
        bytes_at_once: int | None = None,
    ) -> None:
        if values.ndim != 4 or 0 in values.shape:
            raise ValueError(f"features must be [clip, layer, token, dim], not {list(values.shape)}")
        if values.dtype not in (np.float32, np.float16):
            raise ValueError(f"features must be float32 or float16, not {values.dtype}")
        self.clips, self.layers, longest, self.dim = values.shape
        lengths = np.full(self.clips, longest) if lengths is None else lengths
        if lengths.shape != (self.clips,) or lengths.min() < 1 or lengths.max() > longest:
            raise ValueError(
                f"lengths must be [{self.clips}] from 1 to {longest} tokens; they are {list(lengths.shape)} "
                f"from {lengths.min(initial=longest)} to {lengths.max(initial=0)}"
            )
        self.longest, self.device = int(lengths.max()), torch.device(device)
        self._lengths = torch.from_numpy(lengths.astype(np.int64))
        with warnings.catch_warnings():
            # read-only memory maps are welcome: nothing here writes to the features
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self._values = torch.from_numpy(values)
        if bytes_at_once is None:
            bytes_at_once = BYTES_AT_ONCE if self.device.type == "cpu" else BYTES_AT_ONCE_ACCELERATOR
        self.clips_at_once = max(1, bytes_at_once // (4 * self.layers * self.longest * self.dim))
        self._buffer = torch.empty(0)
        self._require_finite()

    def require_fit(self, task: Task) -> None:
        """Raise ValueError where these are not one row per clip of the task."""
        if self.clips != len(task.paths):
            raise ValueError(f"features of {self.clips} clips for a task of {len(task.paths)}")

    def fit(self, rows: Int[Tensor, "train"]) -> Scaler:
        """Mean and standard deviation over the tokens of these clips, in one pass; constant features divide by 1.

        Constant is what varies by less than float32 can tell from its mean. Blocks are summed as float32 about
        their own mean and joined as float64 (Chan, Golub, LeVeque 1979).
        """
        mean = torch.zeros(self.layers, self.dim, dtype=torch.float64)
        squares, seen = torch.zeros_like(mean), 0
        for block in rows.split(self.clips_at_once):
            (values,), absent = self._read(block[None])
            count = int(self._lengths[block].sum())
            about = values.sum(dim=(1, 2)) / count
            values.sub_(about[:, None, None])
            if absent is not None:
                values.masked_fill_(absent[0, ..., None], 0)
            rest = values.sum(dim=(1, 2)).double()  # what rounding left of the mean
            apart = about.double() + rest / count - mean
            squares += values.square_().sum(dim=(1, 2)).double() - rest.square() / count
            squares += apart.square() * (seen * count / (seen + count))
            mean += apart * (count / (seen + count))
            seen += count
        scale = (squares.clamp_(min=0) / seen).sqrt_()
        scale[scale <= torch.finfo(torch.float32).eps * mean.abs()] = 1.0
        return Scaler(mean.float(), scale.float())

    def batch(self, index: Int[Tensor, "group clip"], scaler: Scaler) -> Batch:
        """These clips, standardised by each group's scaler, on the device; the next call overwrites them."""
        values, absent = self._read(index)
        values = values.to(self.device)
        values.sub_(scaler.mean[:, :, None, None]).div_(scaler.scale[:, :, None, None])
        if absent is None:  # saves a pass over memory with most corpora, whose clips have one length
            return Batch(values, None)
        absent = absent.to(self.device)
        return Batch(values.masked_fill_(absent[:, None, ..., None], 0), ~absent)

    def _read(
        self, index: Int[Tensor, "group clip"]
    ) -> tuple[Float[Tensor, "group layer clip token dim"], Bool[Tensor, "group clip token"] | None]:
        """Float32 values in a buffer that the next call overwrites, up to the longest clip; and what is absent."""
        lengths = self._lengths[index]
        longest = int(lengths.max())
        shape = (len(index), self.layers, index.shape[1], longest, self.dim)
        size = int(np.prod(shape))
        if len(self._buffer) < size:
            self._buffer = torch.empty(size)  # fresh pages for every batch would cost a third of a linear step
        values, source = self._buffer[:size].view(shape), self._values[:, :, :longest]
        if self.layers == 1 and source.dtype == torch.float32:
            torch.index_select(source[:, 0], 0, index.flatten(), out=values.view(-1, longest, self.dim))
        else:
            rows = source.index_select(0, index.flatten()).unflatten(0, index.shape)
            values.copy_(rows.transpose(1, 2))
        if int(lengths.min()) == longest:
            return values, None
        absent = torch.arange(longest) >= lengths[..., None]
        return values.masked_fill_(absent[:, None, ..., None], 0), absent

    def _require_finite(self) -> None:
        bad, first = 0, (0, 0)
        for block in torch.arange(self.clips).split(self.clips_at_once):
            (values,), _ = self._read(block[None])
            finite = np.all(np.isfinite(values.numpy()), axis=(2, 3))
            if not finite.all():
                clips = ~finite.all(axis=0)
                place = int(clips.argmax())
                first = first if bad else (int(block[place]), int(np.argmin(finite[:, place])))
                bad += int(clips.sum())
        if bad:
            raise ValueError(
                f"features of {bad} of {self.clips} clips hold NaN or infinity, first clip {first[0]}, "
                f"layer {first[1]}"
            )
