"""Masks: a partition of the patches, of the papers' counts, that can be put back and repeated."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac.pretrain.masking import gather_tokens, mask_noise, mix_seed, split_by_noise, visible_count

ratios = st.floats(0.05, 0.95)


@given(tokens=st.integers(2, 200), batch=st.integers(1, 4), ratio=ratios, seed=st.integers(0, 2**40))
@settings(deadline=None)
def test_split_is_a_partition(tokens, batch, ratio, seed):
    split = split_by_noise(mask_noise(batch, tokens, (seed,)), ratio)
    assert split.visible.shape == (batch, int(tokens * (1 - ratio)))
    both = torch.cat([split.visible, split.masked], dim=1)
    assert torch.equal(both.sort(dim=1).values, torch.arange(tokens).expand(batch, -1))


@given(tokens=st.integers(2, 60), ratio=ratios)
@settings(deadline=None)
def test_restore_is_the_inverse(tokens, ratio):
    x = torch.randn(3, tokens, 2)
    split = split_by_noise(mask_noise(3, tokens, (1, 2)), ratio)
    parts = torch.cat([gather_tokens(x, split.visible), gather_tokens(x, split.masked)], dim=1)
    assert torch.equal(gather_tokens(parts, split.restore()), x)


def test_the_papers_counts():
    assert visible_count(190, 0.7) == 57


def test_noise_depends_on_its_seed_alone():
    first = mask_noise(4, 190, (0, 7))
    torch.rand(3)
    assert torch.equal(first, mask_noise(4, 190, (0, 7)))
    assert not torch.equal(first, mask_noise(4, 190, (0, 8)))


def test_every_patch_is_masked_equally_often():
    masked = split_by_noise(mask_noise(4_000, 20, (3,)), 0.7).masked
    share = torch.bincount(masked.flatten(), minlength=20) / 4_000
    assert ((share - 0.7).abs() < 5 * (0.7 * 0.3 / 4_000) ** 0.5).all()


def test_seeds_do_not_meet():
    seeds = {mix_seed((a, b)) for a in range(100) for b in range(100)}
    assert len(seeds) == 10_000
    assert max(seeds) < 2**63
