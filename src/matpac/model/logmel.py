"""The front-end: waveform to normalised log-mel spectrogram (docs/method.md, section 1).

All constants are the published code's; the mel matrix is the one that librosa calls Slaney's.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.errors import MatpacError

HIGHEST_RATE = 1_000_000
"""Highest sample rate in Hz; default: above that of any sound file."""

LONGEST_WINDOW = 65_536
"""In samples; default: four seconds at 16 kHz, a bound against typing errors and hostile files."""

MOST_MELS = 1_024
"""Mel bands; a bound as `LONGEST_WINDOW`."""


@dataclass(frozen=True)
class LogMelConfig:
    """The front-end of the papers; another corpus may have its own mean and standard deviation.

    Args:
        sample_rate: in Hz.
        window: length of the periodic Hann window and of the Fourier transform, in samples (25 ms).
        hop: in samples (10 ms), at most the window.
        mels: number of mel bands, at most as many as the spectrum has bins.
        low: lower edge of the lowest band, in Hz.
        high: upper edge of the highest band, in Hz.
        mean: mean of log-mel that is subtracted; the default is AudioSet's, as published.
        std: standard deviation of log-mel that is divided by; the default is AudioSet's, as published.
    """

    sample_rate: int = 16_000
    window: int = 400
    hop: int = 160
    mels: int = 80
    low: float = 50.0
    high: float = 8_000.0
    mean: float = -7.056
    std: float = 4.193

    def __post_init__(self) -> None:
        bins = self.window // 2 + 1
        most = {
            "sample_rate": HIGHEST_RATE,
            "window": LONGEST_WINDOW,
            "hop": self.window,
            "mels": min(MOST_MELS, bins),
        }
        for name, bound in most.items():
            if not 1 <= (value := getattr(self, name)) <= bound:
                raise MatpacError(f"logmel.{name} must be between 1 and {bound}, not {value}")
        if not 0 <= self.low < self.high <= self.sample_rate / 2:
            raise MatpacError(
                f"logmel.low {self.low} and logmel.high {self.high} must be 0 ≤ low < high ≤ "
                f"{self.sample_rate / 2:g}, half of logmel.sample_rate"
            )
        if not math.isfinite(self.mean):
            raise MatpacError(f"logmel.mean must be a finite number, not {self.mean}")
        if not 0 < self.std < math.inf:
            raise MatpacError(f"logmel.std must be above 0 and finite, not {self.std}")

    def frames(self, samples: int) -> int:
        """Number of frames of `samples` samples: there is no padding, so less than a window has none."""
        return 0 if samples < self.window else 1 + (samples - self.window) // self.hop

    def samples(self, frames: int) -> int:
        """Smallest number of samples that has `frames` frames."""
        return 0 if frames <= 0 else self.window + (frames - 1) * self.hop


LOG_OFFSET = 1.1920929e-07
"""Added before the logarithm: float32's machine epsilon (published code)."""

# Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, logarithmic above.
_HZ_PER_MEL = 200.0 / 3.0
_BREAK_HZ = 1_000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _HZ_PER_MEL
    return _BREAK_MEL + math.log(hz / _BREAK_HZ) / _LOG_STEP


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _HZ_PER_MEL, logarithmic)


def mel_matrix(config: LogMelConfig) -> Float[np.ndarray, "mel bin"]:
    """Triangular filters on Slaney's scale, each of area one; equals `librosa.filters.mel`."""
    bins = np.linspace(0.0, config.sample_rate / 2, config.window // 2 + 1)
    edges = _mel_to_hz(np.linspace(_hz_to_mel(config.low), _hz_to_mel(config.high), config.mels + 2))
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * 2.0 / (upper - lower)).astype(np.float32)


def band_frequencies(config: LogMelConfig) -> Float[np.ndarray, " mel"]:
    """Centre of gravity of each mel band in Hz, low first."""
    matrix = mel_matrix(config)
    return (matrix @ np.linspace(0, config.sample_rate / 2, matrix.shape[1])) / matrix.sum(1)


def frame_centres(config: LogMelConfig, frames: int) -> Float[np.ndarray, " frame"]:
    """Centres of the windows of log-mel frames, in seconds."""
    return (np.arange(frames) * config.hop + config.window / 2) / config.sample_rate


class LogMel(nn.Module):
    """Waveforms to normalised log-mel spectrograms, always in float32."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: LogMelConfig | None = None):
        super().__init__()
        self.config = config or LogMelConfig()
        window = torch.hann_window(self.config.window, periodic=True)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_matrix(self.config)), persistent=False)

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def forward(self, waveform: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch mel frame"]:
        """Log-mel of mono waveforms in [-1, 1] at the configured rate.

        Raises:
            ValueError: the waveforms are shorter than one window.
        """
        c = self.config
        if waveform.shape[-1] < c.window:
            raise ValueError(f"waveform of {waveform.shape[-1]} samples is shorter than one window ({c.window})")
        spectrum = torch.stft(
            waveform.float(), c.window, c.hop, window=self.window, center=False, return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        return (torch.log(self.filters @ power + LOG_OFFSET) - c.mean) / c.std
