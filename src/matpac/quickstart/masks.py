"""What a pre-trained model saw of one clip, and how well it predicted the rest."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from matpac.audio import read
from matpac.files.tensor_files import read_tensors
from matpac.model.logmel import LogMel, band_frequencies, frame_centres
from matpac.pretrain import Objective, Temperatures
from matpac.pretrain.losses import HARD_TEMPERATURE
from matpac.pretrain.masking import mask_noise, split_by_noise
from matpac.pretrain.recipes import Recipe


@dataclass(frozen=True)
class MaskedClip:
    """One clip through the pretext task."""

    logmel: Float[np.ndarray, "mel frame"]
    masked: Bool[np.ndarray, "band step"]
    error: Float[np.ndarray, "band step"]
    """2 − 2·cos between target and best hypothesis, nan where the patch was visible."""
    times: Float[np.ndarray, " frame"]
    frequencies: Float[np.ndarray, " mel"]


def predict_masked(checkpoint: Path, recipe: Recipe, clip: Path, seed: int = 0) -> MaskedClip:
    """Mask one clip and predict it with the model of a training checkpoint."""
    objective = Objective(recipe.objective).eval()
    objective.load_state_dict(read_tensors(checkpoint / "model.safetensors")[0])
    encoder, config = recipe.objective.encoder, recipe.logmel
    waveform = np.resize(read(clip, config.sample_rate), recipe.crop_samples)
    logmel = LogMel(config)(torch.from_numpy(waveform)[None])
    split = split_by_noise(mask_noise(1, encoder.tokens, (seed,)), recipe.objective.mask_ratio)
    with torch.inference_mode():
        # so cold, the loss of a token is its best hypothesis's
        output = objective(logmel, split, Temperatures(HARD_TEMPERATURE, recipe.schedule.teacher_temperature_end))
    assert output.prediction is not None
    error = torch.full((encoder.tokens,), torch.nan)
    error[split.masked[0]] = output.prediction[0]
    masked = torch.zeros(encoder.tokens, dtype=torch.bool)
    masked[split.masked[0]] = True
    grid = (encoder.bands, encoder.steps)
    return MaskedClip(
        logmel[0].numpy(),
        masked.view(grid).numpy(),
        error.view(grid).numpy(),
        frame_centres(config, encoder.frames),
        band_frequencies(config),
    )
