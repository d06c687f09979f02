"""Monitors against loops over numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac.pretrain.monitors import agreement, deviation, perplexity, wins

seeds = st.integers(0, 2**31)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, batch=st.integers(1, 4), tokens=st.integers(1, 5), width=st.integers(1, 6))
def test_deviation(seed: int, batch: int, tokens: int, width: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(batch, tokens, width)).astype(np.float32)
    units = [v / math.sqrt(sum(x * x for x in v)) for clip in vectors for v in clip]
    spread = 0.0
    for dimension in range(width):
        column = [unit[dimension] for unit in units]
        mean = sum(column) / len(column)
        spread += math.sqrt(sum((x - mean) ** 2 for x in column) / len(column))
    expected = spread / width * math.sqrt(width)
    assert deviation(torch.from_numpy(vectors)).item() == pytest.approx(expected, abs=1e-5)


def test_deviation_of_a_collapse_is_0_and_of_an_even_spread_1() -> None:
    assert deviation(torch.randn(16).expand(8, 5, 16)).item() == pytest.approx(0, abs=1e-6)
    lengths = torch.rand(8, 5, 1) + 0.1  # one direction, many lengths: as dead
    assert deviation(torch.randn(16) * lengths).item() == pytest.approx(0, abs=1e-6)
    even = torch.randn(200, 100, 16, generator=torch.Generator().manual_seed(0))
    assert deviation(even).item() == pytest.approx(1, abs=0.01)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, tokens=st.integers(1, 6), classes=st.integers(1, 6))
def test_perplexity(seed: int, tokens: int, classes: int) -> None:
    rows = np.random.default_rng(seed).dirichlet(np.ones(classes), tokens)
    entropy = 0.0
    for column in rows.T:
        share = sum(column) / tokens
        entropy -= share * math.log(share) if share else 0
    found = perplexity(torch.from_numpy(rows).float()).item()
    assert found == pytest.approx(math.exp(entropy), rel=1e-4)


def test_perplexity_of_one_class_is_1_and_of_all_their_number() -> None:
    assert perplexity(torch.eye(7)).item() == pytest.approx(7)
    assert perplexity(torch.eye(7)[:1].expand(5, 7)).item() == pytest.approx(1)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, tokens=st.integers(1, 9), classes=st.integers(1, 4))
def test_agreement(seed: int, tokens: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    teacher, student = rng.random((tokens, classes)), rng.normal(size=(tokens, classes))
    same = sum(list(t).index(max(t)) == list(s).index(max(s)) for t, s in zip(teacher, student, strict=True))
    assert agreement(torch.from_numpy(teacher), torch.from_numpy(student)).item() == pytest.approx(same / tokens)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, batch=st.integers(1, 3), masked=st.integers(1, 9), hypotheses=st.integers(1, 5))
def test_wins(seed: int, batch: int, masked: int, hypotheses: int) -> None:
    winner = np.random.default_rng(seed).integers(0, hypotheses, (batch, masked))
    expected = [sum(w == h for row in winner for w in row) / (batch * masked) for h in range(hypotheses)]
    assert wins(torch.from_numpy(winner), hypotheses).tolist() == pytest.approx(expected)
