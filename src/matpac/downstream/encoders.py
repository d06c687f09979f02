"""What is evaluated: anything that turns waveforms into one vector each."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matpac.embedder import Embedder
from matpac.logmel import LogMel, LogMelConfig
from matpac.vit import Encoder, EncoderConfig
from matpac.waveforms import as_clips


@runtime_checkable
class FrozenEncoder(Protocol):
    """The one interface of evaluation, so that comparisons are fair. `Embedder` has it."""

    @property
    def sample_rate(self) -> int:
        """In Hz, of the waveforms that `embed` takes."""
        ...

    def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Float[Tensor, "clip width"]:
        """One vector a clip, float32."""
        ...


class LogMelStatistics:
    """Mean and deviation over time of every log-mel band: the features that need no learning."""

    def __init__(self, config: LogMelConfig | None = None):
        self.logmel = LogMel(config)

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.logmel.config.sample_rate

    def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Float[Tensor, "clip width"]:
        """[clip, 2 · mels]: means, then deviations."""
        waveforms, _ = as_clips(list(clips), self.sample_rate, self.sample_rate)
        rows = []
        for waveform in waveforms:
            spectrogram = self.logmel(torch.from_numpy(waveform)[None])[0]
            rows.append(torch.cat([spectrogram.mean(-1), spectrogram.std(-1, correction=0)]))
        return torch.stack(rows)


def untrained(encoder: EncoderConfig, logmel: LogMelConfig, seed: int) -> Embedder:
    """An encoder as it is before training, from the papers' random start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Embedder(Encoder(encoder), logmel)
