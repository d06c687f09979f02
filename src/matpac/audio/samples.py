"""Arrays of samples: resampling, whole or as a stream, and samples that no network can take."""

import math

import numpy as np
import soxr
from jaxtyping import Float, Float32

SAMPLE_RATE = 16_000  # Hz; input of every published checkpoint (docs/method.md, section 1)
RESAMPLER = "HQ"  # soxr's 20-bit quality, its default
# Above the full scale of 32-bit integers read as floats (2.1e9), and so small that the power spectrum of the
# longest window (65 536 samples) stays far inside float32: (1e10 · 65 536)² = 4e29.
LOUDEST = 1e10


def resample(
    waveform: Float32[np.ndarray, " samples"], from_rate: int, to_rate: int
) -> Float32[np.ndarray, " resampled"]:
    """The waveform at another rate (Hz), by soxr; the same array where the rates are equal."""
    _check_rates(from_rate, to_rate)
    if from_rate == to_rate or not len(waveform):
        return waveform
    return soxr.resample(waveform, from_rate, to_rate, quality=RESAMPLER)


class Resampler:
    """A stream at another rate (Hz); the pieces, joined, are `resample` of the whole."""

    def __init__(self, from_rate: int, to_rate: int):
        _check_rates(from_rate, to_rate)
        self._stream = None
        if from_rate != to_rate:
            self._stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=RESAMPLER)

    def push(
        self, block: Float32[np.ndarray, " samples"], last: bool = False
    ) -> Float32[np.ndarray, " resampled"]:
        """What is ready after this block: the filter waits for a little of the next, unless this is the last."""
        return block if self._stream is None else self._stream.resample_chunk(block, last=last)

    def finish(self) -> Float32[np.ndarray, " resampled"]:
        """What was still waiting; for a stream whose last block was not pushed as such."""
        return self.push(np.empty(0, np.float32), last=True)


def _check_rates(from_rate: int, to_rate: int) -> None:
    if from_rate <= 0 or to_rate <= 0:
        raise ValueError(f"sample rates are positive, not {from_rate} and {to_rate} Hz")


def unusable(samples: Float[np.ndarray, " samples"]) -> tuple[int, str] | None:
    """Index of the first sample that is not finite, or so large that its power is not; and which of the two."""
    if not len(samples) or -LOUDEST <= float(samples.min()) <= float(samples.max()) <= LOUDEST:  # False for NaN
        return None
    place = int((np.abs(samples.astype(np.float64)) <= LOUDEST).argmin())
    value = float(samples[place])
    if math.isfinite(value):
        return place, f"too large to be sound ({value:g}, not within ±{LOUDEST:g})"
    return place, "not finite (NaN or infinite)"
