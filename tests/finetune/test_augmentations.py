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
    drop_path,
    mixup_logmel,
    mixup_waveforms,
    random_gain,
    random_resized_crop,
    roll,
    spec_augment,
)
from matpac.model.logmel import LogMelConfig

FRONTEND = LogMelConfig()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed + 1_000))


ON_LOGMEL: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "mixup": lambda x, g: mixup_logmel(x, torch.zeros(len(x), 1), 0.5, 0.8, g, FRONTEND)[0],
    "spec_augment": lambda x, g: spec_augment(x, 8, 20, g),
    "random_resized_crop": random_resized_crop,
    "roll": roll,
}
ON_WAVEFORMS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "mixup": lambda x, g: mixup_waveforms(x, torch.zeros(len(x), 1), 0.5, 0.8, g)[0],
    "random_gain": lambda x, g: random_gain(x, 6.0, g),
    "roll": roll,
    "drop_path": lambda x, g: drop_path(x, 0.5, True, g),
}
ALL = [(f, (5, 16, 48)) for f in ON_LOGMEL.values()] + [(f, (5, 800)) for f in ON_WAVEFORMS.values()]
NAMES = [f"{name}-logmel" for name in ON_LOGMEL] + [f"{name}-waveforms" for name in ON_WAVEFORMS]


@pytest.mark.parametrize(("augment", "shape"), ALL, ids=NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_type_and_input_are_kept_and_the_state_decides(
    augment: Callable[[Tensor, torch.Generator], Tensor], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = noise(*shape).to(dtype)
    before, state = x.clone(), torch.random.get_rng_state()
    first = augment(x, generator(1))
    assert first.shape == x.shape
    assert first.dtype == dtype
    assert first.isfinite().all()
    assert torch.equal(x, before)
    assert torch.equal(first, augment(x, generator(1)))
    assert not torch.equal(first, augment(x, generator(2)))
    assert torch.equal(torch.random.get_rng_state(), state)


@settings(deadline=None, max_examples=25)
@given(batch=st.integers(1, 4), bands=st.integers(1, 3), frames=st.integers(1, 40), seed=st.integers(0, 2**40))
def test_any_shape_will_do(batch: int, bands: int, frames: int, seed: int) -> None:
    x = noise(batch, bands * 16, frames)
    for augment in ON_LOGMEL.values():
        assert augment(x, generator(seed)).shape == x.shape
    for augment in ON_WAVEFORMS.values():
        assert augment(x[:, 0], generator(seed)).shape == (batch, frames)


# --- gain and roll -----------------------------------------------------------------------------------------


def test_gain_is_uniform_in_decibels() -> None:
    x = noise(4_000, 3)
    changed = random_gain(x, 6.0, generator())
    decibels = 20 * torch.log10(changed / x)
    torch.testing.assert_close(decibels, decibels[:, :1].expand(-1, 3), atol=1e-3, rtol=0)
    assert stats.kstest(decibels[:, 0].numpy(), "uniform", (-6, 12)).pvalue > 1e-3
    assert torch.equal(random_gain(x, 0.0, generator()), x)


@settings(deadline=None, max_examples=40)
@given(batch=st.integers(1, 4), channels=st.integers(0, 3), length=st.integers(1, 20), seed=st.integers(0, 2**40))
def test_roll_turns_each_clip_as_numpy_does(batch: int, channels: int, length: int, seed: int) -> None:
    shape = (batch, *([channels] if channels else []), length)
    x = torch.arange(math.prod(shape)).float().view(shape)
    rolled = roll(x, generator(seed))
    for before, after in zip(x.numpy(), rolled.numpy(), strict=True):
        first = before.reshape(-1, length)[0, 0]
        shift = int(np.flatnonzero(after.reshape(-1, length)[0] == first)[0])
        np.testing.assert_array_equal(after, np.roll(before, shift, axis=-1))


def test_every_shift_is_as_likely() -> None:
    rolled = roll(torch.arange(8.0).expand(8_000, 8), generator())
    counts = torch.bincount(rolled[:, 0].long(), minlength=8).numpy()
    assert stats.chisquare(counts).pvalue > 1e-3


# --- SpecAugment -------------------------------------------------------------------------------------------


def blotted(x: Tensor, changed: Tensor) -> tuple[np.ndarray, np.ndarray]:
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
    bands, times = blotted(x, changed)
    gone = bands[:, :, None] | times[:, None, :]
    means = x.double().mean(dim=(1, 2)).numpy()
    for clip in range(3):
        assert is_one_run(bands[clip])
        assert is_one_run(times[clip])
        assert bands[clip].sum() <= min(frequency, 16)
        assert times[clip].sum() <= min(time, 25)
        np.testing.assert_array_equal((x != changed)[clip], gone[clip])
        np.testing.assert_allclose(changed[clip].numpy()[gone[clip]], means[clip], atol=1e-6)


def test_spec_augments_widths_and_places_are_uniform() -> None:
    x = noise(6_000, 12, 16)
    bands, times = blotted(x, spec_augment(x, 4, 0, generator()))
    assert not times.any()
    widths = bands.sum(axis=1)
    assert stats.chisquare(np.bincount(widths, minlength=5)).pvalue > 1e-3
    starts = bands[widths == 4].argmax(axis=1)
    assert stats.chisquare(np.bincount(starts, minlength=9)).pvalue > 1e-3
    assert len(np.bincount(starts)) == 9  # also at the very end


def test_spec_augment_at_zero_is_the_identity_and_negative_widths_are_refused() -> None:
    x = noise(3, 16, 20)
    assert torch.equal(spec_augment(x, 0, 0, generator()), x)
    with pytest.raises(ValueError, match="must not be negative"):
        spec_augment(x, -1, 0, generator())


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


def test_resized_crop_is_a_box_resized_by_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(6, 16, 20)
    boxes = []
    interpolate = augmentations.F.interpolate

    def spy(box: Tensor, *args: object, **options: object) -> Tensor:
        boxes.append(box[0, 0].double().numpy())
        return interpolate(box, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(augmentations.F, "interpolate", spy)
    changed = random_resized_crop(x, generator(4))
    canvases = np.pad(x.double().numpy(), ((0, 0), (0, 0), (5, 5)))  # 1.5 times as long, the clip in the middle
    for canvas, box, result in zip(canvases, boxes, changed.numpy(), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(canvas, box.shape)
        assert np.isclose(windows, box).all(axis=(2, 3)).any()
        columns = np.stack([resized_by_loop(row, 20) for row in box])
        rows = np.stack([resized_by_loop(column, 16) for column in columns.T], axis=1)
        np.testing.assert_allclose(result, rows, atol=1e-4)
    assert len({box.shape for box in boxes}) > 3


def test_boxes_have_the_published_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[tuple[int, ...]] = []

    def spy(box: Tensor, size: tuple[int, int], mode: str) -> Tensor:
        sides.append(tuple(box.shape[2:]))
        return box.new_zeros(1, 1, *size)

    monkeypatch.setattr(augmentations.F, "interpolate", spy)
    random_resized_crop(torch.zeros(800, 80, 200), generator())
    heights, widths = np.array(sides).T
    assert (heights.min(), heights.max(), widths.min()) == (48, 80, 120)
    assert 295 < widths.max() <= 300
    assert abs((heights == 80).mean() - 0.5 / 0.9) < 0.09  # U(0.6, 1.5) above 1 keeps all bands
    assert stats.kstest(widths, "uniform", (120, 180)).pvalue > 1e-4


def test_the_whole_box_is_the_identity() -> None:
    x = noise(3, 32, 48)
    same = random_resized_crop(x, generator(), frequency_scale=(1, 1), time_scale=(1, 1), canvas=1)
    torch.testing.assert_close(same, x)
    for scale, canvas in (((0.0, 1.0), 1.5), ((1.0, 0.5), 1.5), ((0.6, 1.5), 0.9)):
        with pytest.raises(ValueError, match="random resized crop needs"):
            random_resized_crop(x, generator(), time_scale=scale, canvas=canvas)
