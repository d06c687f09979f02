"""What the encoder leaves out while it is trained: patches (structured patch-out) and branches (drop-path)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from matpac.finetune.augmentations import drop_path, structured_patchout
from matpac.model.vit import Encoder, EncoderConfig


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed + 1_000))


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 4),
    bands=st.integers(1, 6),
    steps=st.integers(1, 62),
    ratio=st.floats(0, 0.99),
    band_ratio=st.sampled_from([0.0, 0.0, 0.4]),
    seed=st.integers(0, 2**40),
)
def test_patchout_keeps_whole_steps_and_bands(
    batch: int, bands: int, steps: int, ratio: float, band_ratio: float, seed: int
) -> None:
    kept = structured_patchout(batch, bands, steps, ratio, generator(seed), band_ratio)
    n_steps = max(1, steps - round(ratio * steps))
    n_bands = max(1, bands - round(band_ratio * bands))
    assert kept.shape == (batch, n_bands * n_steps)
    for row in kept.numpy():
        assert (np.diff(row) > 0).all()
        grid = np.zeros(bands * steps, bool)
        grid[row] = True
        grid = grid.reshape(bands, steps)
        assert grid.any(axis=0).sum() == n_steps
        assert grid.any(axis=1).sum() == n_bands
        assert grid.sum() == n_steps * n_bands  # so they are all the crossings


def test_patchout_halves_the_papers_tokens_and_every_step_is_as_likely() -> None:
    kept = structured_patchout(3_000, 5, 62, 0.5, generator())
    assert kept.shape == (3_000, 155)
    counts = torch.bincount((kept[:, :31] % 62).flatten(), minlength=62)
    assert ((counts / 3_000 - 0.5).abs() < 5 * math.sqrt(0.25 / 3_000)).all()
    assert len({tuple(row) for row in kept[:50].tolist()}) == 50
    whole = structured_patchout(2, 5, 4, 0.0, generator())
    assert torch.equal(whole, torch.arange(20).expand(2, -1))
    with pytest.raises(ValueError, match=r"must be in \[0, 1\), not 1"):
        structured_patchout(2, 5, 4, 1, generator())


def test_patchout_counts_patches_as_the_encoder_does() -> None:
    """The kept tokens of a clip are those of its kept columns, whatever the dropped ones hold."""
    encoder = Encoder(EncoderConfig(width=16, depth=1, heads=2, mels=32, frames=96)).eval()
    logmel = noise(1, 32, 96)
    kept = structured_patchout(1, 2, 6, 0.5, generator(1))
    columns = sorted({int(index) % 6 for index in kept[0]})
    other = logmel.clone()
    for column in set(range(6)) - set(columns):
        other[:, :, column * 16 : (column + 1) * 16] = 9.0
    before, after = (encoder.patch_tokens(x)[0, kept[0]] for x in (logmel, other))
    assert torch.equal(before, after)
    assert before.shape == (6, 16)


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_drop_path_leaves_out_clips_and_keeps_the_mean(probability: float) -> None:
    x = noise(4_000, 2, 3).abs() + 0.1
    changed = drop_path(x, probability, True, generator())
    gone = (changed == 0).flatten(1)
    assert torch.equal(gone.all(dim=1), gone.any(dim=1))
    stays = ~gone[:, 0]
    torch.testing.assert_close(changed[stays], x[stays] / (1 - probability))
    assert abs(1 - float(stays.float().mean()) - probability) < 5 * math.sqrt(0.25 / 4_000)
    assert abs(float(changed.mean() / x.mean()) - 1) < 5 * math.sqrt(probability / (1 - probability) / 4_000) * 1.5


def test_drop_path_gradient_flows_through_kept_clips_alone() -> None:
    x = noise(50, 4).requires_grad_()
    changed = drop_path(x, 0.5, True, generator())
    changed.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad == 0, changed == 0)
    assert x.grad.unique().tolist() == [0.0, 2.0]


def test_drop_path_does_nothing_in_evaluation_or_at_zero() -> None:
    x = noise(8, 4)
    assert drop_path(x, 0.9, False, generator()) is x
    assert drop_path(x, 0.0, True, generator()) is x
    torch.manual_seed(3)
    first = drop_path(x, 0.5, True)
    torch.manual_seed(3)
    assert torch.equal(first, drop_path(x, 0.5, True))
    with pytest.raises(ValueError, match=r"must be in \[0, 1\), not 1"):
        drop_path(x, 1.0, True, generator())
