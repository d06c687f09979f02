"""What is evaluated: anything that turns waveforms into one vector each, by name."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matpac.audio import AudioError
from matpac.files.load import load
from matpac.model.embedder import Embedder
from matpac.model.encoders import EncoderError, NamedEncoder
from matpac.model.logmel import LogMel, LogMelConfig
from matpac.model.network import settings_key
from matpac.model.vit import SIZES, Encoder, EncoderConfig
from matpac.model.waveforms import as_clips, too_short
from matpac.pretrain.recipes import RECIPES

RANDOM, HEAR, LOGMEL = "random:", "hear:", "logmel"
"""How the names of encoders begin that no checkpoint is needed for; `logmel` may be followed by `:RECIPE`."""


MOST_SEED_DIGITS = 20
"""So many no longer fit 64 bits, which is what PyTorch takes."""


class LogMelStatistics:
    """Mean and standard deviation over time of every log-mel band: features without learning."""

    def __init__(self, config: LogMelConfig | None = None):
        self.logmel = LogMel(config)

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.logmel.config.sample_rate

    def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Float[Tensor, "clip width"]:
        """[clip, 2 · mels]: means, then standard deviations. Raises AudioError for a clip below a window."""
        waveforms, _ = as_clips(list(clips), self.sample_rate, self.sample_rate)
        rows = []
        for number, waveform in enumerate(waveforms):
            if len(waveform) < self.logmel.config.window:
                raise AudioError(f"clip {number}: {too_short(len(waveform), self.logmel.config)}")
            spectrogram = self.logmel(torch.from_numpy(waveform)[None])[0]
            rows.append(torch.cat([spectrogram.mean(-1), spectrogram.std(-1, correction=0)]))
        return torch.stack(rows) if rows else torch.empty(0, 2 * self.logmel.config.mels)


def untrained(encoder: EncoderConfig, logmel: LogMelConfig, seed: int) -> Embedder:
    """An encoder as it is before training, from the papers' random start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Embedder(Encoder(encoder), logmel)


def open_encoder(spec: str, device: str | torch.device = "cpu") -> NamedEncoder:
    """An encoder by name.

    Args:
        spec: what `matpac.load` takes; `random:SIZE[:seed]`, an untrained one of `matpac.model.vit.SIZES` or of
            a recipe (seed 0 unless said); `logmel[:RECIPE]`, statistics of the papers' front-end or of a recipe's;
            `hear:<module>[:weights]`, a module that follows HEAR. A file or folder of such a name is meant by
            "./name".
        device: where it computes.

    Raises:
        EncoderError: no such size, recipe or module, or a module that does not follow HEAR.
        CheckpointError, DownloadError: as `matpac.load`.
    """
    if spec.partition(":")[0] == LOGMEL:
        statistics = LogMelStatistics(_front_end(spec))
        return NamedEncoder(spec, statistics, settings_key({LOGMEL: asdict(statistics.logmel.config)}))
    if spec.startswith(HEAR):
        from matpac.probe.hear import open_hear

        module, _, weights = spec.removeprefix(HEAR).partition(":")
        encoder = open_hear(module, weights, device)
        return NamedEncoder(spec, encoder, encoder.key)
    return named_embedder(spec, _random(spec).to(device) if spec.startswith(RANDOM) else load(spec, device))


def named_embedder(name: str, embedder: Embedder) -> NamedEncoder:
    """An embedder that is at hand already, under a name for tables."""
    return NamedEncoder(name, embedder, embedder.key, embedder.depth)


def _front_end(spec: str) -> LogMelConfig:
    if spec == LOGMEL:
        return LogMelConfig()
    recipe = spec.removeprefix(f"{LOGMEL}:")
    if recipe not in RECIPES:
        raise EncoderError(f"{spec}: no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    return RECIPES[recipe]().logmel


def _random(spec: str) -> Embedder:
    size, _, seed = spec.removeprefix(RANDOM).partition(":")
    if size in SIZES:
        encoder, logmel = SIZES[size], LogMelConfig()
    elif size in RECIPES:
        recipe = RECIPES[size]()
        encoder, logmel = recipe.objective.encoder, recipe.logmel
    else:
        raise EncoderError(
            f"{spec}: no size {size!r}; there are {', '.join(SIZES)}, and each recipe's: {', '.join(RECIPES)}"
        )
    if seed and not (seed.isascii() and seed.isdecimal() and len(seed) < MOST_SEED_DIGITS):
        raise EncoderError(
            f"{spec}: seed {seed!r} is no whole number from 0 up of fewer than {MOST_SEED_DIGITS} digits; write "
            f"{RANDOM}{size}:0"
        )
    return untrained(encoder, logmel, int(seed or "0"))
