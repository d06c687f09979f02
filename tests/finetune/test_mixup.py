"""Mixup of waveforms and of energies: the formula by a slow loop, its distribution, and unknown labels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from matpac.finetune.augmentations import mixup_logmel, mixup_waveforms
from matpac.model.logmel import LOG_OFFSET, LogMel, LogMelConfig

FRONTEND = LogMelConfig()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed + 1_000))


def labels(batch: int, classes: int, seed: int = 0) -> Tensor:
    return (torch.rand(batch, classes, generator=generator(seed + 2_000)) < 0.4).float()


def mixed_by_loop(x: Tensor, partners: list[int], shares: list[float]) -> np.ndarray:
    rows = x.double().numpy()
    return np.stack([share * rows[n] + (1 - share) * rows[partners[n]] for n, share in enumerate(shares)])


def drawn(batch: int, alpha: float, probability: float, seed: int) -> tuple[list[int], list[float]]:
    """Partners and shares, read off clips that are one-hot: the formula is seen from outside."""
    mixed, _ = mixup_waveforms(torch.eye(batch), torch.zeros(batch, 1), alpha, probability, generator(seed))
    shares = mixed.diagonal().tolist()
    others = mixed - torch.diag(mixed.diagonal())
    return others.argmax(dim=1).tolist(), shares


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 9),
    alpha=st.floats(0.05, 5),
    probability=st.floats(0, 1),
    classes=st.integers(1, 4),
    seed=st.integers(0, 2**40),
)
def test_mixup_is_the_loop_of_its_formula(
    batch: int, alpha: float, probability: float, classes: int, seed: int
) -> None:
    partners, shares = drawn(batch, alpha, probability, seed)
    assert all(0 <= share <= 1 for share in shares)
    x, targets = noise(batch, 30), labels(batch, classes)
    mixed, mixed_targets = mixup_waveforms(x, targets, alpha, probability, generator(seed))
    np.testing.assert_allclose(mixed, mixed_by_loop(x, partners, shares), atol=1e-5)
    np.testing.assert_allclose(mixed_targets, mixed_by_loop(targets, partners, shares), atol=1e-6)
    assert mixed_targets.min() >= 0
    assert mixed_targets.max() <= 1

    logmel = noise(batch, 4, 6)
    energies = torch.exp(logmel.double() * FRONTEND.std + FRONTEND.mean).flatten(1)
    expected = (np.log(mixed_by_loop(energies, partners, shares)) - FRONTEND.mean) / FRONTEND.std
    mixed, mixed_targets = mixup_logmel(logmel, targets, alpha, probability, generator(seed), FRONTEND)
    np.testing.assert_allclose(mixed.flatten(1), expected, atol=1e-5)
    np.testing.assert_allclose(mixed_targets, mixed_by_loop(targets, partners, shares), atol=1e-6)


def test_mixed_logmel_is_the_front_end_of_mixed_energies() -> None:
    """Also in silence, where the offset under the logarithm is all there is."""
    frontend = LogMel()
    waveforms = torch.stack([noise(4_000) * 0.1, torch.zeros(4_000), noise(4_000, seed=5) * 1e-4])
    logmel = frontend(waveforms)
    energies = torch.exp(logmel.double() * FRONTEND.std + FRONTEND.mean) - LOG_OFFSET
    partners, shares = drawn(3, 1.0, 1.0, seed=3)
    mixed, _ = mixup_logmel(logmel, torch.zeros(3, 1), 1.0, 1.0, generator(3), FRONTEND)
    expected = mixed_by_loop(energies.flatten(1), partners, shares)
    again = torch.exp(mixed.double() * FRONTEND.std + FRONTEND.mean) - LOG_OFFSET
    np.testing.assert_allclose(again.flatten(1), expected, rtol=1e-4, atol=1e-9)


def test_shares_are_of_the_beta_distribution_and_partners_a_permutation() -> None:
    batch = 3_000
    for alpha in (0.3, 0.8, 2.0):
        mixed, _ = mixup_waveforms(torch.eye(batch), torch.zeros(batch, 1), alpha, 1.0, generator(7))
        shares = mixed.diagonal().numpy()
        assert stats.kstest(shares, "beta", (alpha, alpha)).pvalue > 1e-3
        # every clip is a partner once: the columns of λ and 1 − λ sum to what the permutation leaves
        assert ((mixed > 0).sum(dim=0) <= 2).all()
    mixed, _ = mixup_waveforms(torch.eye(batch), torch.zeros(batch, 1), 0.8, 0.25, generator(8))
    share_mixed = float((mixed.diagonal() < 1).float().mean())
    assert abs(share_mixed - 0.25) < 5 * math.sqrt(0.25 * 0.75 / batch)


def test_mixup_keeps_mean_energy_between_those_of_its_clips() -> None:
    x = noise(64, 16, 20)
    mixed, targets = mixup_logmel(x, torch.eye(64), 0.5, 1.0, generator(), FRONTEND)
    energies, before = (torch.exp(one.double() * FRONTEND.std) for one in (mixed, x))
    assert energies.max() <= before.max() * (1 + 1e-5)
    assert energies.min() >= before.min() * (1 - 1e-5)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(64))  # of one label each: a distribution


def test_mixup_at_zero_is_the_identity() -> None:
    x, targets = noise(4, 100), labels(4, 3)
    for alpha, probability in ((0.0, 1.0), (0.5, 0.0)):
        same, same_targets = mixup_waveforms(x, targets, alpha, probability, generator())
        assert torch.equal(same, x)
        assert torch.equal(same_targets, targets)
        logmel = x.view(4, 10, 10)
        assert torch.equal(mixup_logmel(logmel, targets, alpha, probability, generator(), FRONTEND)[0], logmel)


def test_tiny_alpha_and_silence_stay_finite() -> None:
    x = noise(200, 16, 4)
    x[::2] = -1e3
    mixed, _ = mixup_logmel(x, torch.zeros(200, 1), 0.01, 1.0, generator(), FRONTEND)
    assert mixed.isfinite().all()


def test_unknown_labels_stay_unknown_and_do_not_spread_to_unmixed_clips() -> None:
    targets = torch.tensor([[1.0, 0.0], [float("nan"), 1.0], [0.0, 0.0], [1.0, 1.0]])
    seen = set()
    for seed in range(60):
        partners, shares = drawn(4, 0.5, 0.5, seed)
        _, mixed = mixup_waveforms(noise(4, 10), targets, 0.5, 0.5, generator(seed))
        for clip in range(4):
            unknown = clip == 1 or (shares[clip] < 1 and partners[clip] == 1)
            assert bool(mixed[clip, 0].isnan()) == unknown
            seen.add((clip == 1, unknown))
        assert not mixed[:, 1].isnan().any()
    assert seen == {(True, True), (False, True), (False, False)}


@pytest.mark.parametrize(("alpha", "probability"), [(-0.1, 1.0), (0.5, 1.1), (0.5, -0.1)])
def test_mixup_refuses_what_is_no_distribution(alpha: float, probability: float) -> None:
    with pytest.raises(ValueError, match=r"alpha ≥ 0 and a probability in \[0, 1\]"):
        mixup_waveforms(noise(2, 5), labels(2, 1), alpha, probability, generator())
