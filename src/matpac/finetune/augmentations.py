"""What is done at random to a training batch: pure functions of the batch and of a generator's state.

The batch stays on its device and is never changed in place. Random numbers are drawn on the CPU, by the generator
that is given, so that one state gives one result whatever the device. Every function draws for each clip by
itself. Parts of one batch on several processes want generators of their own, seeded by (seed, step, rank).
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from matpac.model.logmel import LogMelConfig

WIDEST_SHARE = 0.5
"""Of an axis, at most, that SpecAugment blots out; ours: limits are given for clips of ten seconds, and a clip of
one second must keep something to be known by."""

CROP_SCALE = (0.6, 1.5)
"""Sides of a random box, as multiples of the spectrogram's (BYOL-A, arXiv 2103.06695)."""

CANVAS = 1.5
"""Length of the canvas that the box is drawn from, as a multiple of the spectrogram's (BYOL-A, as above)."""


class _Mix(NamedTuple):
    """Who is mixed with whom; a share of 1 leaves a clip as it is."""

    partner: Int[Tensor, " batch"]
    share: Float[Tensor, " batch"]


def _draw_mix(like: Tensor, alpha: float, probability: float, generator: torch.Generator) -> _Mix:
    if alpha < 0 or not 0 <= probability <= 1:
        raise ValueError(f"mixup needs alpha ≥ 0 and a probability in [0, 1], not {alpha} and {probability}")
    batch = len(like)
    partner = torch.randperm(batch, generator=generator)
    chosen = torch.rand(batch, generator=generator) < probability
    # torch draws no Beta by a generator of one's own; NumPy does, with a seed drawn by it
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    beta = np.random.default_rng(seed).beta(alpha, alpha, batch) if alpha else np.ones(batch)
    share = torch.where(chosen, torch.from_numpy(beta).float(), 1.0)
    return _Mix(partner.to(like.device), share.to(like.device))


def _convex(x: Float[Tensor, "batch size"], mix: _Mix) -> Float[Tensor, "batch size"]:
    share = mix.share[:, None].to(x.dtype)
    # where: NaN of a partner must not get into a clip that is not mixed
    return torch.where(share < 1, x[mix.partner].lerp(x, share), x)


def mixup_waveforms(
    waveforms: Float[Tensor, "batch samples"],
    targets: Float[Tensor, "batch class"],
    alpha: float,
    probability: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "batch samples"], Float[Tensor, "batch class"]]:
    """λx + (1−λ)x' with another clip of the batch, targets alike (mixup, arXiv 1710.09412).

    λ ~ Beta(alpha, alpha) for each clip; partners are a permutation of the batch, so that each clip is used
    twice at most, and one in so many meets itself. λ weighs amplitudes here and energies in `mixup_logmel`.

    Args:
        waveforms: in any unit.
        targets: 0 … 1, one or several labels a clip. NaN stands for an unknown label and makes what it is mixed
            into unknown.
        alpha: 0 mixes nothing.
        probability: that a clip is mixed at all.
        generator: of the CPU.

    Raises:
        ValueError: a negative alpha, or a probability outside [0, 1].
    """
    mix = _draw_mix(waveforms, alpha, probability, generator)
    return _convex(waveforms, mix), _convex(targets, mix)


def mixup_logmel(
    logmel: Float[Tensor, "batch mel frame"],
    targets: Float[Tensor, "batch class"],
    alpha: float,
    probability: float,
    generator: torch.Generator,
    frontend: LogMelConfig,
) -> tuple[Float[Tensor, "batch mel frame"], Float[Tensor, "batch class"]]:
    """The same on spectrograms: energies are mixed, not their logarithms.

    log(λ·exp a + (1−λ)·exp b) of the log-mel before its normalisation (log-mixup-exp of BYOL-A, arXiv 2103.06695,
    from whose authors M2D is): what two sounds at once look like, up to their phases. Since λ + (1−λ) = 1, the
    offset under the logarithm stays the front-end's, and its mean falls out. λ ~ Beta(alpha, alpha) as in
    mixup; partners and the rest are those of `mixup_waveforms`.

    Args:
        logmel: normalised.
        targets: as there.
        alpha: as there.
        probability: as there.
        generator: as there.
        frontend: whose deviation undoes the normalisation.

    Raises:
        ValueError: as there.
    """
    mix = _draw_mix(logmel, alpha, probability, generator)
    share = mix.share[:, None, None]
    own = logmel * frontend.std + share.log()
    other = logmel[mix.partner] * frontend.std + torch.log1p(-share)
    mixed = torch.where(share < 1, torch.logaddexp(own, other) / frontend.std, logmel)
    return mixed, _convex(targets, mix)


def random_gain(
    waveforms: Float[Tensor, "batch samples"], decibels: float, generator: torch.Generator
) -> Float[Tensor, "batch samples"]:
    """Each clip louder or softer, uniform in ±`decibels`; not clipped: floats may exceed one."""
    gain = decibels * (2 * torch.rand(len(waveforms), 1, generator=generator) - 1)
    return waveforms * (10 ** (gain / 20)).to(waveforms)


def roll(
    x: Float[Tensor, "batch *channel time"], generator: torch.Generator
) -> Float[Tensor, "batch *channel time"]:
    """Each clip (waveform or log-mel) round in time by any number of samples or frames: its end goes in front."""
    length = x.shape[-1]
    shift = torch.randint(length, (len(x), 1), generator=generator).to(x.device)
    source = (torch.arange(length, device=x.device) - shift) % length
    return x.gather(-1, source.view(len(x), *[1] * (x.ndim - 2), length).expand(x.shape))


def _pick(spare: Int[Tensor, " batch"], generator: torch.Generator) -> Int[Tensor, " batch"]:
    """A uniform integer 0 … spare for each clip."""
    uniform = torch.rand(len(spare), generator=generator, dtype=torch.float64)
    return (uniform * (spare + 1)).long().clamp(max=spare)


def _stretches(batch: int, size: int, limit: int, generator: torch.Generator) -> Bool[Tensor, "batch {size}"]:
    widest = torch.full((batch,), min(limit, int(size * WIDEST_SHARE)))
    width = _pick(widest, generator)
    start = _pick(size - width, generator)
    place = torch.arange(size)
    return (place >= start[:, None]) & (place < (start + width)[:, None])


def spec_augment(
    logmel: Float[Tensor, "batch mel frame"], frequency_width: int, time_width: int, generator: torch.Generator
) -> Float[Tensor, "batch mel frame"]:
    """SpecAugment (arXiv 1904.08779): one band and one stretch of time of each clip at the clip's mean.

    Widths are uniform from 0 to the limit, places uniform over all that fit. The paper's zero is its clips' mean,
    since it normalises each; here the mean is taken of each clip before anything is blotted out.

    Args:
        logmel: normalised or not.
        frequency_width: widest band, in mel bands; more than half of them counts as half (`WIDEST_SHARE`).
        time_width: longest stretch, in frames; likewise.
        generator: of the CPU.

    Raises:
        ValueError: a negative width.
    """
    if frequency_width < 0 or time_width < 0:
        raise ValueError(f"SpecAugment's widths must not be negative: {frequency_width}, {time_width}")
    batch, mels, frames = logmel.shape
    bands = _stretches(batch, mels, frequency_width, generator).to(logmel.device)
    times = _stretches(batch, frames, time_width, generator).to(logmel.device)
    return torch.where(bands[:, :, None] | times[:, None, :], logmel.mean((1, 2), keepdim=True), logmel)


def _sides(size: int, scale: tuple[float, float], batch: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
    low, high = scale
    uniform = torch.rand(batch, generator=generator, dtype=torch.float64)
    return ((low + (high - low) * uniform) * size).long().clamp(min=1)


def random_resized_crop(
    logmel: Float[Tensor, "batch mel frame"],
    generator: torch.Generator,
    frequency_scale: tuple[float, float] = CROP_SCALE,
    time_scale: tuple[float, float] = CROP_SCALE,
    canvas: float = CANVAS,
) -> Float[Tensor, "batch mel frame"]:
    """A random box of each clip at the whole clip's size: other pitch and other tempo (BYOL-A, arXiv 2103.06695).

    The spectrogram lies in the middle of a longer canvas of zeros (the corpus' mean where log-mel is normalised).
    The box is U(frequency_scale) × U(time_scale) as large as the spectrogram, no larger than the canvas, anywhere
    in it; it is resized by bicubic interpolation.

    Args:
        logmel: normalised.
        generator: of the CPU.
        frequency_scale: lowest and highest; above 1 counts as 1, so that many boxes keep all bands.
        time_scale: lowest and highest.
        canvas: its length in spectrograms, from 1 up.

    Raises:
        ValueError: a canvas below 1, or scales that are not positive and ascending.
    """
    for low, high in (frequency_scale, time_scale):
        if not 0 < low <= high or canvas < 1:
            raise ValueError(
                f"a random resized crop needs 0 < lowest ≤ highest scale, not {low}, {high}, and canvas ≥ 1, "
                f"not {canvas}"
            )
    batch, mels, frames = logmel.shape
    length = int(frames * canvas)
    before = (length - frames) // 2
    field = F.pad(logmel, (before, length - frames - before))
    heights = _sides(mels, frequency_scale, batch, generator).clamp(max=mels)
    widths = _sides(frames, time_scale, batch, generator).clamp(max=length)
    tops = _pick(mels - heights, generator)
    starts = _pick(length - widths, generator)
    boxes = torch.stack([tops, tops + heights, starts, starts + widths], dim=1).tolist()
    resized = [
        F.interpolate(clip[None, None, top:bottom, start:end], (mels, frames), mode="bicubic")
        for clip, (top, bottom, start, end) in zip(field, boxes, strict=True)
    ]
    return torch.cat(resized)[:, 0]


def structured_patchout(
    batch: int, bands: int, steps: int, ratio: float, generator: torch.Generator, band_ratio: float = 0.0
) -> Int[Tensor, "batch kept"]:
    """Indices of the patches that stay when whole time steps are left out (PaSST, arXiv 2110.05069).

    Every clip loses others, and as many: the encoder has that much less to compute. round(ratio · steps) steps go,
    one stays at least.

    Args:
        batch: number of clips.
        bands: patches along frequency.
        steps: patches along time.
        ratio: of the steps that go, 0 ≤ ratio < 1.
        generator: of the CPU.
        band_ratio: of the bands that go besides, as in PaSST; without them every band of a step is seen.

    Returns:
        sorted indices into frequency-major patches (f · steps + t), on the CPU.

    Raises:
        ValueError: a ratio outside [0, 1).
    """
    kept_bands = _subset(batch, bands, band_ratio, generator)
    kept_steps = _subset(batch, steps, ratio, generator)
    return (kept_bands[:, :, None] * steps + kept_steps[:, None, :]).flatten(1)


def _subset(batch: int, size: int, ratio: float, generator: torch.Generator) -> Int[Tensor, "batch kept"]:
    if not 0 <= ratio < 1:
        raise ValueError(f"the share that is left out must be in [0, 1), not {ratio}")
    keep = max(1, size - round(ratio * size))
    return torch.rand(batch, size, generator=generator).argsort(dim=1)[:, :keep].sort(dim=1).values


def drop_path(
    x: Float[Tensor, "batch *rest"], probability: float, training: bool, generator: torch.Generator | None = None
) -> Float[Tensor, "batch *rest"]:
    """A residual branch left out for some clips, the others' scaled by 1/(1 − p): stochastic depth per sample.

    Huang et al. 2016 (arXiv 1603.09382), with the scaling at training instead of at test, as ViTs have it.

    Args:
        x: what the branch adds.
        probability: p, that a clip goes without; 0 ≤ p < 1.
        training: False returns `x` as it is.
        generator: of the CPU; None takes torch's global one of the CPU.

    Raises:
        ValueError: a probability outside [0, 1).
    """
    if not 0 <= probability < 1:
        raise ValueError(f"drop-path's probability must be in [0, 1), not {probability}")
    if not training or probability == 0:
        return x
    kept = torch.rand(len(x), generator=generator) >= probability
    scale = (kept / (1 - probability)).to(x)
    return x * scale.view(-1, *[1] * (x.ndim - 1))
