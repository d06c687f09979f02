"""Augmentation of training batches: pure functions of the batch and of a generator's state.

A batch stays on its device and is never changed in place. Random numbers are drawn on the CPU by the given
generator, so that one state gives one result on every device. Each clip is drawn independently. Processes that
share a batch need generators of their own, seeded by (seed, step, rank).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from matpac.errors import MatpacError, require
from matpac.model.logmel import LogMel
from matpac.model.vit import PATCH, EncoderConfig

WIDEST_SHARE = (
    0.5  # of an axis, masked by SpecAugment; default: widths are given for 10 s, 1 s must keep something
)
CROP_SCALE = (0.6, 1.5)  # sides of a random box in spectrograms (BYOL-A, arXiv 2103.06695)
CANVAS = 1.5  # length of the canvas that the box is drawn from, in spectrograms (BYOL-A)


@dataclass(frozen=True)
class AugmentationConfig:
    """What happens to a training batch; validation and test clips stay as they are.

    Args:
        mixup: where clips are mixed in pairs, and their labels with them.
        mixup_alpha: both parameters of the Beta distribution that the share is drawn from.
        mixup_probability: probability that a clip is mixed.
        roll: whether clips are rotated in time by a random offset.
        gain_decibels: clips get louder or softer by up to this much.
        resized_crop: whether a random box of the log-mel is resized to the whole spectrogram.
        spec_frequency: widest masked band in mel bins (SpecAugment); 0 for none.
        spec_time: longest masked stretch in frames; 0 for none.
        patchout: share of the time steps that the network does not see, and does not compute (structured
            patch-out).
        drop_path: probability that the last block is skipped for a clip; rises linearly from 0 at the first.
    """

    mixup: Literal["off", "waveforms", "logmel"] = "off"
    mixup_alpha: float = 0.5
    mixup_probability: float = 1.0
    roll: bool = False
    gain_decibels: float = 0.0
    resized_crop: bool = False
    spec_frequency: int = 0
    spec_time: int = 0
    patchout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mixup_probability", "patchout", "drop_path"):
            if not 0 <= (value := getattr(self, name)) <= 1 or (name != "mixup_probability" and value == 1):
                raise MatpacError(f"augmentation.{name} must be a share from 0 to below 1, not {value}")
        require(self, "augmentation.", "at least 0", "gain_decibels", "spec_frequency", "spec_time")
        require(self, "augmentation.", "above 0", "mixup_alpha")


class Examples(NamedTuple):
    """What the network is trained on.

    Args:
        logmel: augmented spectrograms.
        targets: share of a label that holds, of what is known of it.
        known: how much of a label is known.
        kept: patches that the network sees; None for all.
    """

    logmel: Float[Tensor, "batch mel frame"]
    targets: Float[Tensor, "batch class"]
    known: Float[Tensor, "batch class"]
    kept: Int[Tensor, "batch kept"] | None

    def micro_batches(self, count: int) -> "list[Examples]":
        """The same in equal parts."""
        kept = [None] * count if self.kept is None else self.kept.chunk(count)
        logmel, targets, known = (part.chunk(count) for part in self[:3])
        return [Examples(*part) for part in zip(logmel, targets, known, kept, strict=True)]


def augment(
    waveforms: Float[Tensor, "batch samples"],
    labels: tuple[Float[Tensor, "batch class"], Float[Tensor, "batch class"]],
    frontend: LogMel,
    config: AugmentationConfig,
    encoder: EncoderConfig,
    generator: torch.Generator,
) -> Examples:
    """A batch as the recipe wants it, on the waveforms' device.

    Waveforms come first (roll, gain, mixup), then spectrograms (mixup, resized crop, SpecAugment), then patches. A
    label of a mixed clip is known as far as both clips know it, and holds as far as it holds where it is known.

    Args:
        waveforms: crops at the front-end's rate.
        labels: targets, 0 where unknown, and 1 where they are known.
        frontend: log-mel on the waveforms' device.
        config: of the recipe.
        encoder: its bands of patches.
        generator: on the CPU.
    """
    if config.roll:
        waveforms = roll(waveforms, generator)
    if config.gain_decibels:
        waveforms = random_gain(waveforms, config.gain_decibels, generator)
    both = torch.cat(labels, dim=1)
    mix = None
    if config.mixup != "off":
        mix = draw_mix(len(waveforms), config.mixup_alpha, config.mixup_probability, generator)
        both = mix_linear(both, mix)
    if mix is not None and config.mixup == "waveforms":
        waveforms = mix_linear(waveforms, mix)
    logmel = frontend(waveforms)
    if mix is not None and config.mixup == "logmel":
        logmel = mix_energies(logmel, mix, frontend.config.std)
    if config.resized_crop:
        logmel = random_resized_crop(logmel, generator)
    if config.spec_frequency or config.spec_time:
        logmel = spec_augment(logmel, config.spec_frequency, config.spec_time, generator)
    kept = None
    if config.patchout:
        shape = len(logmel), encoder.bands, logmel.shape[2] // PATCH
        kept = structured_patchout(*shape, config.patchout, generator).to(logmel.device)
    mixed, known = both.chunk(2, dim=1)
    return Examples(logmel, mixed / known.clamp_min(1e-6), known, kept)


class Mix(NamedTuple):
    """Which clip each is mixed with, on the CPU; with a share of 1 a clip stays as it is."""

    partner: Int[Tensor, " batch"]
    share: Float[Tensor, " batch"]


def draw_mix(batch: int, alpha: float, probability: float, generator: torch.Generator) -> Mix:
    """Partners and shares of mixup (arXiv 1710.09412).

    Shares are drawn from Beta(alpha, alpha) for each clip that is mixed. Partners are a permutation of the batch,
    so that each clip is used at most twice; a clip may be its own partner.
    """
    partner = torch.randperm(batch, generator=generator)
    chosen = torch.rand(batch, generator=generator) < probability
    # torch cannot draw Beta from a given generator; NumPy can, with a seed that this one draws
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    beta = np.random.default_rng(seed).beta(alpha, alpha, batch)
    return Mix(partner, torch.where(chosen, torch.from_numpy(beta).float(), 1.0))


def mix_linear(x: Float[Tensor, "batch size"], mix: Mix) -> Float[Tensor, "batch size"]:
    """λx + (1−λ)x' with the partner's x': of waveforms (λ weighs amplitudes) and of targets."""
    return x[mix.partner.to(x.device)].lerp(x, mix.share[:, None].to(x))


def mix_energies(
    logmel: Float[Tensor, "batch mel frame"], mix: Mix, std: float
) -> Float[Tensor, "batch mel frame"]:
    """λ·exp a + (1−λ)·exp b of spectrograms, under the logarithm (log-mixup-exp of BYOL-A, arXiv 2103.06695).

    What two sounds at once look like, up to their phases. Since λ + (1−λ) = 1, the offset under the logarithm
    stays the front-end's, and the mean of its normalisation cancels.

    Args:
        logmel: normalised.
        mix: from `draw_mix`.
        std: standard deviation of the front-end's normalisation.
    """
    share = mix.share[:, None, None].to(logmel)
    own = logmel * std + share.log()
    partner = logmel[mix.partner.to(logmel.device)] * std + torch.log1p(-share)
    return torch.where(share < 1, torch.logaddexp(own, partner) / std, logmel)


def random_gain(
    waveforms: Float[Tensor, "batch samples"], decibels: float, generator: torch.Generator
) -> Float[Tensor, "batch samples"]:
    """Each clip louder or softer, uniform in ±`decibels`; not clipped: floats may exceed one."""
    gain = decibels * (2 * torch.rand(len(waveforms), 1, generator=generator) - 1)
    return waveforms * (10 ** (gain / 20)).to(waveforms)


def roll(waveforms: Float[Tensor, "batch samples"], generator: torch.Generator) -> Float[Tensor, "batch samples"]:
    """Each clip rotated in time by any number of samples: what leaves at the end comes back in front."""
    length = waveforms.shape[-1]
    shift = torch.randint(length, (len(waveforms), 1), generator=generator).to(waveforms.device)
    return waveforms.gather(-1, (torch.arange(length, device=waveforms.device) - shift) % length)


def spec_augment(
    logmel: Float[Tensor, "batch mel frame"], frequency_width: int, time_width: int, generator: torch.Generator
) -> Float[Tensor, "batch mel frame"]:
    """SpecAugment (arXiv 1904.08779): one band and one stretch of time of each clip at the clip's mean.

    Widths are uniform from 0 to the limit, positions uniform over all that fit. The paper's zero is its clips'
    mean, since it normalises each; here the mean of each clip is taken before masking.

    Args:
        logmel: normalised or not.
        frequency_width: widest band, in mel bins; at most half of them (`WIDEST_SHARE`).
        time_width: longest stretch, in frames; likewise.
        generator: on the CPU.
    """
    batch, mels, frames = logmel.shape
    bands = _stretches(batch, mels, frequency_width, generator).to(logmel.device)
    times = _stretches(batch, frames, time_width, generator).to(logmel.device)
    return torch.where(bands[:, :, None] | times[:, None, :], logmel.mean((1, 2), keepdim=True), logmel)


def _stretches(batch: int, size: int, limit: int, generator: torch.Generator) -> Bool[Tensor, "batch {size}"]:
    width = _pick(torch.full((batch,), min(limit, int(size * WIDEST_SHARE))), generator)
    start = _pick(size - width, generator)
    position = torch.arange(size)
    return (position >= start[:, None]) & (position < (start + width)[:, None])


def _pick(largest: Int[Tensor, " batch"], generator: torch.Generator) -> Int[Tensor, " batch"]:
    """A uniform integer 0 … largest for each clip."""
    uniform = torch.rand(len(largest), generator=generator, dtype=torch.float64)
    return (uniform * (largest + 1)).long().clamp(max=largest)


def random_resized_crop(
    logmel: Float[Tensor, "batch mel frame"], generator: torch.Generator
) -> Float[Tensor, "batch mel frame"]:
    """A random box of each clip at the whole clip's size: other pitch and other tempo (BYOL-A, arXiv 2103.06695).

    The spectrogram lies in the middle of a canvas of zeros, `CANVAS` times as long (zero is the corpus' mean where
    log-mel is normalised). Each side of the box is U(`CROP_SCALE`) of the spectrogram's, at most the canvas'; the
    box lies anywhere in it and is resized by bicubic interpolation.
    """
    batch, mels, frames = logmel.shape
    length = int(frames * CANVAS)
    before = (length - frames) // 2
    canvas = F.pad(logmel, (before, length - frames - before))
    heights = _sides(mels, batch, generator).clamp(max=mels)
    widths = _sides(frames, batch, generator).clamp(max=length)
    tops = _pick(mels - heights, generator)
    starts = _pick(length - widths, generator)
    boxes = torch.stack([tops, tops + heights, starts, starts + widths], dim=1).tolist()
    resized = [
        F.interpolate(clip[None, None, top:bottom, start:end], (mels, frames), mode="bicubic")
        for clip, (top, bottom, start, end) in zip(canvas, boxes, strict=True)
    ]
    return torch.cat(resized)[:, 0]


def _sides(size: int, batch: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
    low, high = CROP_SCALE
    uniform = torch.rand(batch, generator=generator, dtype=torch.float64)
    return ((low + (high - low) * uniform) * size).long().clamp(min=1)


def structured_patchout(
    batch: int, bands: int, steps: int, ratio: float, generator: torch.Generator
) -> Int[Tensor, "batch kept"]:
    """Patches that stay when whole time steps are dropped (PaSST, arXiv 2110.05069); every band of a step stays.

    Each clip loses other steps, but the same number: round(ratio · steps), and one stays at least.

    Returns:
        sorted indices into frequency-major patches (f · steps + t), on the CPU.
    """
    keep = max(1, steps - round(ratio * steps))
    kept = torch.rand(batch, steps, generator=generator).argsort(dim=1)[:, :keep].sort(dim=1).values
    return (torch.arange(bands)[:, None] * steps + kept[:, None, :]).flatten(1)
