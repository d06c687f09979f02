"""Interval and paired test against scipy and numbers from a table of Student's t."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from matpac.probe.compare import confidence_interval, paired_test


def test_interval_of_three_runs_by_hand():
    # t(0.975, 2 degrees of freedom) = 4.3027 in any table; deviation of 1, 2, 3 is 1
    mean, half_width = confidence_interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2.0
    assert half_width == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)


@settings(deadline=None)
@given(st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_interval_is_scipys(runs, seed):
    values = np.random.default_rng(seed).normal(0.7, 0.1, runs)
    mean, half_width = confidence_interval(values)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high))


def test_interval_without_spread():
    mean, half_width = confidence_interval(np.array([0.7]))
    assert mean == 0.7
    assert np.isnan(half_width)
    assert confidence_interval(np.full(3, 0.1)) == (pytest.approx(0.1), 0.0)


@pytest.mark.parametrize("values", [[], [0.5, float("nan")]])
def test_interval_refuses_what_is_no_score(values):
    with pytest.raises(ValueError, match="one or more finite values"):
        confidence_interval(np.array(values, float))


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(2, 6), st.floats(-0.2, 0.2), st.integers(0, 2**32 - 1))
def test_paired_test_is_scipys(seeds, folds, shift, seed):
    random = np.random.default_rng(seed)
    first = random.normal(0.7, 0.05, (seeds, folds))
    second = first + shift + random.normal(0, 0.02, (seeds, folds))
    mine = paired_test(first, second, ("ours", "theirs"))
    oracle = stats.ttest_rel(first.ravel(), second.ravel())
    low, high = oracle.confidence_interval(0.95)
    assert mine.p_value == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-15)
    assert (mine.difference - mine.ci95, mine.difference + mine.ci95) == pytest.approx((low, high))
    assert mine.beyond_noise == (oracle.pvalue < 0.05)
    if oracle.pvalue < 0.05:
        better, worse = ("ours", "theirs") if first.mean() > second.mean() else ("theirs", "ours")
        assert mine.verdict.startswith(f"{better} is above {worse}")
    else:
        assert mine.verdict.endswith("within the noise")


def test_the_same_scores_are_no_difference():
    scores = np.random.default_rng(0).random((3, 5))
    test = paired_test(scores, scores.copy())
    assert (test.difference, test.ci95, test.p_value) == (0.0, 0.0, 1.0)
    assert "score the same on all 15 pairs" in test.verdict


def test_a_constant_difference_has_no_spread_to_test_against():
    scores = np.random.default_rng(0).random((3, 5))
    test = paired_test(scores + 0.1, scores)  # equal up to rounding
    assert test.difference == pytest.approx(0.1)
    assert test.ci95 == 0.0
    assert np.isnan(test.p_value)
    assert not test.beyond_noise
    assert "first - second is +0.1000 on each of 15 pairs" in test.verdict


def test_one_pair_cannot_be_tested():
    test = paired_test(np.array([[0.8]]), np.array([[0.7]]))
    assert np.isnan(test.p_value)
    assert np.isnan(test.ci95)
    assert "no test is possible" in test.verdict


def test_other_seeds_or_folds_cannot_be_paired():
    with pytest.raises(ValueError, match="same seeds and folds"):
        paired_test(np.zeros((3, 5)), np.zeros((3, 4)))
