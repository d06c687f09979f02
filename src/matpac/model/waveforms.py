"""Waveforms as callers have them, as float32 mono clips at the encoder's rate."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from matpac.audio import AudioError, resample, unusable
from matpac.model.logmel import LogMelConfig

Waveform = np.ndarray | Tensor

Waveforms = Waveform | Sequence[Waveform]
"""One waveform [n], a batch [batch, n], or a list of waveforms of any lengths; floats in [-1, 1] or integers."""


def too_short(samples: int, config: LogMelConfig) -> str:
    """The reason why a clip has no frame."""
    have, need = 1000 * samples / config.sample_rate, 1000 * config.window / config.sample_rate
    return f"{have:.1f} ms of sound is shorter than one window ({need:g} ms); remove it or pad it"


def as_clips(waveform: Waveforms, sample_rate: int, target_rate: int) -> tuple[list[np.ndarray], bool]:
    """Waveforms of any accepted kind as float32 mono clips at the target rate, and whether a list came.

    Raises:
        AudioError: not one-dimensional clips, not numbers, or `unusable`; names the clip.
    """
    is_list = isinstance(waveform, (list, tuple))
    array = None if is_list else _array(waveform)
    rows = waveform if array is None else array if array.ndim == 2 else [array]
    clips = [resample(as_mono(row, f"clip {number}"), sample_rate, target_rate) for number, row in enumerate(rows)]
    return clips, is_list


def _array(waveform: object) -> np.ndarray:
    if isinstance(waveform, Tensor):
        return waveform.detach().cpu().float().numpy() if waveform.is_floating_point() else waveform.cpu().numpy()
    return np.asarray(waveform)


def as_mono(waveform: Waveform, name: str) -> Float32[np.ndarray, " samples"]:
    """One waveform of any accepted kind as float32; no copy where it is that already.

    Raises:
        AudioError: not one-dimensional, not numbers, or `unusable`; begins with `name`.
    """
    row = _array(waveform)
    if row.ndim != 1:
        raise AudioError(
            f"{name}: shape {row.shape} is not one mono waveform [samples]; "
            "average its channels, or pass a list of clips"
        )
    if row.dtype in (np.int16, np.int32):
        row = row / float(np.iinfo(row.dtype).max + 1)
    elif not np.issubdtype(row.dtype, np.floating):
        raise AudioError(f"{name}: {row.dtype} is no waveform; pass floats in [-1, 1], int16 or int32")
    if found := unusable(row):
        place, why = found
        raise AudioError(f"{name}: holds values that are {why}; the first is sample {place}")
    return np.ascontiguousarray(row, np.float32)
