"""From a batch of crops to a loss: augmentation in its order, the network, the loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from matpac.finetune.augmentations import (
    mixup_logmel,
    mixup_waveforms,
    random_gain,
    random_resized_crop,
    roll,
    spec_augment,
    structured_patchout,
)
from matpac.finetune.recipes import AugmentationConfig
from matpac.model.logmel import LogMel
from matpac.model.vit import PATCH, EncoderConfig
from matpac.tasks.splits import Kind


@dataclass(frozen=True, eq=False)
class Examples:
    """What the network is trained on."""

    logmel: Float[Tensor, "batch mel frame"]
    targets: Float[Tensor, "batch class"]
    """Shares of a label that hold, of those known."""
    known: Float[Tensor, "batch class"]
    """How much is known of a label."""
    kept: Int[Tensor, "batch kept"] | None
    """Patches that the network sees; None for all."""


def augmented(
    waveforms: Float[Tensor, "batch samples"],
    targets: Float[Tensor, "batch class"],
    known: Float[Tensor, "batch class"],
    frontend: LogMel,
    config: AugmentationConfig,
    encoder: EncoderConfig,
    generator: torch.Generator,
) -> Examples:
    """A batch as the recipe wants it, on the waveforms' device.

    Sound first (roll, gain, mixup), then the spectrogram (mixup, resized crop, SpecAugment), then patches. Of
    mixed clips a label is known as far as both are, and holds as far as it holds in those that know it.
    """
    if config.roll:
        waveforms = roll(waveforms, generator)
    if config.gain_decibels:
        waveforms = random_gain(waveforms, config.gain_decibels, generator)
    both = torch.cat([targets, known], dim=1)
    alpha, probability = config.mixup_alpha, config.mixup_probability
    if config.mixup == "waveforms":
        waveforms, both = mixup_waveforms(waveforms, both, alpha, probability, generator)
    logmel = frontend(waveforms)
    if config.mixup == "logmel":
        logmel, both = mixup_logmel(logmel, both, alpha, probability, generator, frontend.config)
    if config.resized_crop:
        logmel = random_resized_crop(logmel, generator)
    if config.spec_frequency or config.spec_time:
        logmel = spec_augment(logmel, config.spec_frequency, config.spec_time, generator)
    kept = None
    if config.patchout:
        steps = logmel.shape[2] // PATCH
        kept = structured_patchout(len(logmel), encoder.bands, steps, config.patchout, generator).to(logmel.device)
    mixed, known = both.chunk(2, dim=1)
    return Examples(logmel, mixed / known.clamp_min(1e-6), known, kept)


def cross_entropy(
    logits: Float[Tensor, "batch class"],
    targets: Float[Tensor, "batch class"],
    known: Float[Tensor, "batch class"],
) -> Float[Tensor, ""]:
    """For labels that exclude each other; `targets` sum to 1, all are known."""
    return F.cross_entropy(logits, targets)


def binary_cross_entropy(
    logits: Float[Tensor, "batch class"],
    targets: Float[Tensor, "batch class"],
    known: Float[Tensor, "batch class"],
) -> Float[Tensor, ""]:
    """For labels that may hold together: the mean over those that are known, as far as they are."""
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1e-6)


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
LOSSES: dict[Kind, Loss] = {"single": cross_entropy, "multi": binary_cross_entropy}
"""By the kind of the task (docs/finetuning.md)."""
