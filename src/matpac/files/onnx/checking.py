"""Whether an exported file computes what the encoder computes: measured at every export."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from matpac.errors import MatpacError
from matpac.model.embedder import Embedder
from matpac.model.vit import PATCH

CLOSE = 1e-4
"""Largest difference of scenes, frames and logits from PyTorch's, as a share of the largest value where that is
above 1; ours: a tenth of what 16-bit numbers would cost (4e-6 is usual)."""

LEAST_COSINE = 0.99
"""Mean cosine of 8-bit scenes to float32's below which a file is refused; ours: neighbours would change."""


class ExportError(MatpacError):
    """An exported file that does not compute what its encoder does; nothing was written."""


@dataclass(frozen=True)
class Agreement:
    """Of a float32 file with PyTorch.

    Args:
        difference: the largest, see `CLOSE`.
        lengths: of the clips that were compared, in samples.
    """

    difference: float
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Cosines:
    """Of an 8-bit file's scenes to float32's, over some sounds."""

    mean: float
    least: float
    sounds: int


def check_lengths(embedder: Embedder) -> list[int]:
    """Samples of clips at and around every edge: one frame, one patch, one chunk, and a bit more than two."""
    frames, config = embedder.config.frames, embedder.logmel.config
    edges = {1, PATCH - 1, PATCH, PATCH + 1, frames // 2 + 3, frames - 1, frames, frames + 1, 2 * frames + 5}
    # half a hop more than the last frame needs, so that samples that no frame uses are there too
    return [config.samples(count) + config.hop // 2 for count in sorted(edge for edge in edges if edge > 0)]


def made_up_sounds(lengths: list[int], sample_rate: int) -> list[Float32[np.ndarray, " _"]]:
    """Sounds of given lengths (samples): gliding tones and noise that swell, from loud to nearly silent."""
    random = np.random.default_rng(0)
    sounds = []
    for number, samples in enumerate(lengths):
        time = np.arange(samples) / sample_rate
        pitch = random.uniform(80, 2_000)
        tone = np.sin(2 * np.pi * pitch * time * (1 + random.uniform(-0.2, 0.2) * time))
        noise = random.standard_normal(samples)
        swell = 0.5 + 0.5 * np.sin(2 * np.pi * random.uniform(0.5, 4) * time)
        loudness = 10.0 ** -(number % 4)
        sound = loudness * (0.5 * tone * swell + random.uniform(0, 0.3) * noise)
        sounds.append(sound.clip(-1, 1).astype(np.float32))
    return sounds


def check_agreement(mine: Embedder, theirs: Embedder) -> Agreement:
    """Compare an encoder with the float32 file made of it, over lengths, clip by clip and all together.

    Args:
        mine: PyTorch's.
        theirs: the file's.

    Raises:
        ExportError: they differ by more than `CLOSE`.
    """
    lengths = check_lengths(mine)
    sounds = made_up_sounds(lengths, mine.sample_rate)
    worst = 0.0
    for clips in ([sound] for sound in sounds):
        worst = max(worst, _difference(mine, theirs, clips))
    worst = max(worst, _difference(mine, theirs, sounds))
    if not worst <= CLOSE:
        raise ExportError(
            f"{mine.card.name}: the exported network differs by {worst:.2g} from PyTorch's, and {CLOSE:g} is "
            "allowed; nothing was written. Report it, with the encoder's configuration and onnxruntime's version"
        )
    return Agreement(worst, tuple(lengths))


def _difference(mine: Embedder, theirs: Embedder, clips: list[np.ndarray]) -> float:
    rate = mine.sample_rate
    pairs = [(mine.scene(clips, rate), theirs.scene(clips, rate))]
    pairs += zip(mine.frames(clips, rate)[0], theirs.frames(clips, rate)[0], strict=True)
    if mine.head is not None:
        pairs.append((mine.scene_logits(pairs[0][0]), theirs.scene_logits(pairs[0][1])))
    return max(relative_difference(one, other) for one, other in pairs)


def relative_difference(reference: Float[Tensor, "..."], other: Float[Tensor, "..."]) -> float:
    """The largest, as a share of the reference's largest value where that is above 1; infinite for NaN."""
    difference = (reference - other).abs().max() / reference.abs().max().clamp(min=1)
    return float(difference.nan_to_num(torch.inf, torch.inf))


def check_cosines(mine: Embedder, theirs: Embedder, sounds: list[Float32[np.ndarray, " _"]]) -> Cosines:
    """Compare scenes of an 8-bit file with the encoder's.

    Raises:
        ExportError: their mean cosine is below `LEAST_COSINE`.
    """
    one, other = (embedder.scene(sounds, mine.sample_rate) for embedder in (mine, theirs))
    cosines = torch.nn.functional.cosine_similarity(one.double(), other.double())
    found = Cosines(float(cosines.mean()), float(cosines.min()), len(sounds))
    if not found.mean >= LEAST_COSINE:
        raise ExportError(
            f"{mine.card.name}: in 8 bits its scenes turn away (mean cosine to float32 {found.mean:.4f}, and "
            f"{LEAST_COSINE} is asked for); nothing was written. Give sounds like yours (--calibrate FOLDER), or "
            "keep layers in float32 (--keep-float '*.mlp.fc2')"
        )
    return found
