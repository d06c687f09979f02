"""Augmentations: the formulas by slow loops, what must not change, randomness that a generator's state decides."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from matpac.finetune import augmentations
from matpac.finetune.augmentations import (
    AugmentationConfig,
    augment,
    draw_mix,
    mix_energies,
    mix_linear,
    random_gain,
    random_resized_crop,
    roll,
    spec_augment,
    structured_patchout,
)
from matpac.model.logmel import LOG_OFFSET, LogMel, LogMelConfig
from matpac.model.vit import Encoder, EncoderConfig

FRONTEND = LogMelConfig()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed + 1_000))


Augmentation = Callable[[Tensor, torch.Generator], Tensor]
ON_LOGMEL: dict[str, Augmentation] = {
    "mix_energies": lambda x, g: mix_energies(x, draw_mix(len(x), 0.5, 0.8, g), FRONTEND.std),
    "spec_augment": lambda x, g: spec_augment(x, 8, 20, g),
    "random_resized_crop": random_resized_crop,
}
ON_WAVEFORMS: dict[str, Augmentation] = {
    "mix_linear": lambda x, g: mix_linear(x, draw_mix(len(x), 0.5, 0.8, g)),
    "random_gain": lambda x, g: random_gain(x, 6.0, g),
    "roll": roll,
}
ALL = [(f, (5, 16, 48)) for f in ON_LOGMEL.values()] + [(f, (5, 800)) for f in ON_WAVEFORMS.values()]


@pytest.mark.parametrize(("augmentation", "shape"), ALL, ids=[*ON_LOGMEL, *ON_WAVEFORMS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_type_and_input_are_kept_and_the_state_decides(
    augmentation: Augmentation, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = noise(*shape).to(dtype)
    before, state = x.clone(), torch.random.get_rng_state()
    first = augmentation(x, generator(1))
    assert first.shape == x.shape
    assert first.dtype == dtype
    assert first.isfinite().all()
    assert torch.equal(x, before)
    assert torch.equal(first, augmentation(x, generator(1)))
    assert not torch.equal(first, augmentation(x, generator(2)))
    assert torch.equal(torch.random.get_rng_state(), state)


@settings(deadline=None, max_examples=25)
@given(batch=st.integers(1, 4), bands=st.integers(1, 3), frames=st.integers(1, 40), seed=st.integers(0, 2**40))
def test_any_shape_works(batch: int, bands: int, frames: int, seed: int) -> None:
    x = noise(batch, bands * 16, frames)
    for augmentation in ON_LOGMEL.values():
        assert augmentation(x, generator(seed)).shape == x.shape
    for augmentation in ON_WAVEFORMS.values():
        assert augmentation(x[:, 0], generator(seed)).shape == (batch, frames)


# --- mixup -------------------------------------------------------------------------------------------------


def mixed_by_loop(x: Tensor, partners: list[int], shares: list[float]) -> np.ndarray:
    rows = x.double().numpy()
    return np.stack([share * rows[n] + (1 - share) * rows[partners[n]] for n, share in enumerate(shares)])


@settings(deadline=None, max_examples=40)
@given(batch=st.integers(1, 9), alpha=st.floats(0.05, 5), probability=st.floats(0, 1), seed=st.integers(0, 2**40))
def test_mixup_is_the_loop_of_its_formula(batch: int, alpha: float, probability: float, seed: int) -> None:
    mix = draw_mix(batch, alpha, probability, generator(seed))
    partners, shares = mix.partner.tolist(), mix.share.tolist()
    assert all(0 <= share <= 1 for share in shares)
    x, logmel = noise(batch, 30), noise(batch, 4, 6)
    np.testing.assert_allclose(mix_linear(x, mix), mixed_by_loop(x, partners, shares), atol=1e-5)
    energies = torch.exp(logmel.double() * FRONTEND.std + FRONTEND.mean).flatten(1)
    expected = (np.log(mixed_by_loop(energies, partners, shares)) - FRONTEND.mean) / FRONTEND.std
    np.testing.assert_allclose(mix_energies(logmel, mix, FRONTEND.std).flatten(1), expected, atol=1e-5)


def test_mixed_logmel_is_the_front_end_of_mixed_energies() -> None:
    """Also in silence, where the offset under the logarithm is all there is."""
    waveforms = torch.stack([noise(4_000) * 0.1, torch.zeros(4_000), noise(4_000, seed=5) * 1e-4])
    logmel = LogMel()(waveforms)
    mix = draw_mix(3, 1.0, 1.0, generator(3))
    energies = torch.exp(logmel.double() * FRONTEND.std + FRONTEND.mean) - LOG_OFFSET
    expected = mixed_by_loop(energies.flatten(1), mix.partner.tolist(), mix.share.tolist())
    again = torch.exp(mix_energies(logmel, mix, FRONTEND.std).double() * FRONTEND.std + FRONTEND.mean) - LOG_OFFSET
    np.testing.assert_allclose(again.flatten(1), expected, rtol=1e-4, atol=1e-9)


def test_shares_follow_the_beta_distribution_and_partners_are_a_permutation() -> None:
    batch = 3_000
    for alpha in (0.3, 0.8, 2.0):
        mix = draw_mix(batch, alpha, 1.0, generator(7))
        assert stats.kstest(mix.share.numpy(), "beta", (alpha, alpha)).pvalue > 1e-3
        assert sorted(mix.partner.tolist()) == list(range(batch))
    mixed = float((draw_mix(batch, 0.8, 0.25, generator(8)).share < 1).float().mean())
    assert abs(mixed - 0.25) < 5 * math.sqrt(0.25 * 0.75 / batch)


def test_unmixed_clips_stay_and_tiny_alpha_and_silence_stay_finite() -> None:
    x, logmel = noise(4, 100), noise(4, 10, 10)
    nothing = draw_mix(4, 0.5, 0.0, generator())
    assert torch.equal(mix_linear(x, nothing), x)
    assert torch.equal(mix_energies(logmel, nothing, FRONTEND.std), logmel)
    silent = noise(200, 16, 4)
    silent[::2] = -1e3
    assert mix_energies(silent, draw_mix(200, 0.01, 1.0, generator()), FRONTEND.std).isfinite().all()


@pytest.mark.parametrize("where", ["waveforms", "logmel"])
def test_labels_of_mixed_clips_are_known_as_far_as_both_know_them(where: str) -> None:
    targets, known = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    config = AugmentationConfig(mixup=where)  # type: ignore[arg-type]
    for seed in range(20):
        mix = draw_mix(2, 0.5, 1.0, generator(seed))
        examples = augment(noise(2, 8_000), (targets, known), LogMel(), config, EncoderConfig(), generator(seed))
        share = mix.share[0] if mix.partner[0] == 1 else 1.0
        torch.testing.assert_close(examples.known[0], torch.tensor([1.0, float(share)]))
        if share > 0:
            torch.testing.assert_close(examples.targets[0], torch.tensor([float(share), 1.0]))


# --- gain and roll -----------------------------------------------------------------------------------------


def test_gain_is_uniform_in_decibels() -> None:
    x = noise(4_000, 3)
    decibels = 20 * torch.log10(random_gain(x, 6.0, generator()) / x)
    torch.testing.assert_close(decibels, decibels[:, :1].expand(-1, 3), atol=1e-3, rtol=0)
    assert stats.kstest(decibels[:, 0].numpy(), "uniform", (-6, 12)).pvalue > 1e-3


def test_roll_rotates_each_clip_as_numpy_does_and_every_shift_is_as_likely() -> None:
    rolled = roll(torch.arange(8.0).expand(8_000, 8), generator()).numpy()
    for clip in rolled[:50]:
        np.testing.assert_array_equal(clip, np.roll(np.arange(8.0), int(np.flatnonzero(clip == 0)[0])))
    assert stats.chisquare(np.bincount(rolled[:, 0].astype(int), minlength=8)).pvalue > 1e-3


# --- SpecAugment -------------------------------------------------------------------------------------------


def masked(x: Tensor, changed: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Which bands and which frames of each clip are gone."""
    gone = x != changed
    return gone.all(dim=2).numpy(), gone.all(dim=1).numpy()


def is_one_run(places: np.ndarray) -> bool:
    return int((np.diff(np.concatenate([[0], places.astype(int), [0]])) == 1).sum()) <= 1


@settings(deadline=None, max_examples=30)
@given(frequency=st.integers(0, 40), time=st.integers(0, 60), seed=st.integers(0, 2**40))
def test_spec_augment_puts_the_clips_mean_in_one_band_and_one_stretch(
    frequency: int, time: int, seed: int
) -> None:
    x = noise(3, 32, 50)
    changed = spec_augment(x, frequency, time, generator(seed))
    bands, times = masked(x, changed)
    gone = bands[:, :, None] | times[:, None, :]
    means = x.double().mean(dim=(1, 2)).numpy()
    for clip in range(3):
        assert is_one_run(bands[clip])
        assert is_one_run(times[clip])
        assert bands[clip].sum() <= min(frequency, 16)
        assert times[clip].sum() <= min(time, 25)
        np.testing.assert_array_equal((x != changed)[clip], gone[clip])
        np.testing.assert_allclose(changed[clip].numpy()[gone[clip]], means[clip], atol=1e-6)


def test_spec_augments_widths_and_positions_are_uniform() -> None:
    x = noise(6_000, 12, 16)
    bands, times = masked(x, spec_augment(x, 4, 0, generator()))
    assert not times.any()
    widths = bands.sum(axis=1)
    assert stats.chisquare(np.bincount(widths, minlength=5)).pvalue > 1e-3
    starts = np.bincount(bands[widths == 4].argmax(axis=1), minlength=9)
    assert len(starts) == 9  # also at the very end
    assert stats.chisquare(starts).pvalue > 1e-3


# --- random resized crop -----------------------------------------------------------------------------------


def cubic(x: float, a: float = -0.75) -> float:
    """Keys' kernel with the constant that images are resized with."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def resized_by_loop(line: np.ndarray, size: int) -> np.ndarray:
    out = np.zeros(size)
    for place in range(size):
        centre = (place + 0.5) * len(line) / size - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            out[place] += cubic(centre - tap) * line[min(max(tap, 0), len(line) - 1)]
    return out


def boxes_of(logmel: Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple[list[np.ndarray], np.ndarray]:
    """The boxes that a random resized crop takes, and what it makes of them."""
    boxes = []
    interpolate = augmentations.F.interpolate

    def spy(box: Tensor, *args: object, **options: object) -> Tensor:
        boxes.append(box[0, 0].double().numpy())
        return interpolate(box, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(augmentations.F, "interpolate", spy)
    return boxes, random_resized_crop(logmel, generator(4)).numpy()


def test_resized_crop_is_a_box_resized_by_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(6, 16, 20)
    boxes, changed = boxes_of(x, monkeypatch)
    canvases = np.pad(x.double().numpy(), ((0, 0), (0, 0), (5, 5)))  # 1.5 times as long, the clip in the middle
    for canvas, box, result in zip(canvases, boxes, changed, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(canvas, box.shape)
        assert np.isclose(windows, box).all(axis=(2, 3)).any()
        columns = np.stack([resized_by_loop(row, 20) for row in box])
        rows = np.stack([resized_by_loop(column, 16) for column in columns.T], axis=1)
        np.testing.assert_allclose(result, rows, atol=1e-4)


def test_boxes_have_the_published_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, _ = boxes_of(torch.zeros(800, 80, 200), monkeypatch)
    heights, widths = np.array([box.shape for box in boxes]).T
    assert (heights.min(), heights.max(), widths.min()) == (48, 80, 120)
    assert 295 < widths.max() <= 300
    assert abs((heights == 80).mean() - 0.5 / 0.9) < 0.09  # U(0.6, 1.5) above 1 keeps all bands
    assert stats.kstest(widths, "uniform", (120, 180)).pvalue > 1e-4


# --- structured patch-out ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 4),
    bands=st.integers(1, 6),
    steps=st.integers(1, 62),
    ratio=st.floats(0, 0.99),
    seed=st.integers(0, 2**40),
)
def test_patchout_keeps_whole_steps(batch: int, bands: int, steps: int, ratio: float, seed: int) -> None:
    kept = structured_patchout(batch, bands, steps, ratio, generator(seed))
    n_steps = max(1, steps - round(ratio * steps))
    assert kept.shape == (batch, bands * n_steps)
    for row in kept.numpy():
        assert (np.diff(row) > 0).all()
        grid = np.zeros(bands * steps, bool)
        grid[row] = True
        grid = grid.reshape(bands, steps)
        assert grid.any(axis=0).sum() == n_steps
        assert (grid.all(axis=0) == grid.any(axis=0)).all()


def test_patchout_halves_the_papers_tokens_and_every_step_is_as_likely() -> None:
    kept = structured_patchout(3_000, 5, 62, 0.5, generator())
    assert kept.shape == (3_000, 155)
    counts = torch.bincount((kept[:, :31] % 62).flatten(), minlength=62)
    assert ((counts / 3_000 - 0.5).abs() < 5 * math.sqrt(0.25 / 3_000)).all()
    assert len({tuple(row) for row in kept[:50].tolist()}) == 50


def test_patchout_counts_patches_as_the_encoder_does() -> None:
    """The kept tokens of a clip are those of its kept columns, whatever the dropped ones hold."""
    encoder = Encoder(EncoderConfig(width=16, depth=1, heads=2, mels=32, frames=96)).eval()
    logmel = noise(1, 32, 96)
    kept = structured_patchout(1, 2, 6, 0.5, generator(1))
    columns = {int(index) % 6 for index in kept[0]}
    other = logmel.clone()
    for column in set(range(6)) - columns:
        other[:, :, column * 16 : (column + 1) * 16] = 9.0
    before, after = (encoder.patch_tokens(x)[0, kept[0]] for x in (logmel, other))
    assert torch.equal(before, after)
    assert before.shape == (6, 16)
