"""The metrics against scikit-learn's, class by class, on random scores with many ties and unknown labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from matpac.probe.metrics import accuracy, mean_average_precision, roc_auc


@st.composite
def judged(draw):
    """Scores, targets and known labels; few distinct scores, so that most cases have ties."""
    clips, classes = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 4, 10, 10**6]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    scores = (random.integers(0, levels, (clips, classes)) / levels - 0.5).astype(dtype)
    targets = (random.random((clips, classes)) < draw(st.sampled_from([0.05, 0.5, 0.95]))).astype(np.int64)
    known = random.random((clips, classes)) < draw(st.sampled_from([0.1, 0.6, 1.0]))
    return scores, targets, known


def by_scikit_learn(metric, scores, targets, known):
    """Class by class on the known labels; nan where scikit-learn has no value."""
    function = average_precision_score if metric is mean_average_precision else roc_auc_score
    values = np.full(scores.shape[1], np.nan)
    for index in range(scores.shape[1]):
        seen = targets[known[:, index], index]
        if seen.any() and (metric is mean_average_precision or not seen.all()):
            values[index] = function(seen, scores[known[:, index], index])
    return values


@pytest.mark.parametrize("metric", [mean_average_precision, roc_auc])
@settings(deadline=None, max_examples=80)
@given(case=judged())
def test_macro_metrics_are_scikit_learns_on_the_known_labels(metric, case):
    scores, targets, known = case
    found, expected = metric(scores, targets, known), by_scikit_learn(metric, scores, targets, known)
    np.testing.assert_allclose(found.per_class, expected, rtol=1e-12, atol=1e-12)
    assert found.undefined == tuple(np.flatnonzero(np.isnan(expected)))
    value = np.nan if np.isnan(expected).all() else np.nanmean(expected)
    np.testing.assert_allclose(found.value, value, atol=1e-12)
    # what an unknown label says is ignored
    turned = metric(scores, np.where(known, targets, 1 - targets), known)
    np.testing.assert_array_equal(found.per_class, turned.per_class)


@settings(deadline=None)
@given(judged())
def test_all_known_is_the_same_as_no_mask_and_booleans_as_numbers(case):
    scores, targets, _ = case
    for metric in (mean_average_precision, roc_auc):
        plain = metric(scores, targets)
        masked = metric(scores, targets.astype(bool), np.ones(targets.shape, bool))
        np.testing.assert_array_equal(plain.per_class, masked.per_class)


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_accuracy_is_scikit_learns(clips, classes, seed):
    random = np.random.default_rng(seed)
    scores = random.integers(0, 3, (clips, classes)).astype(np.float32)
    labels = random.integers(0, classes, clips)
    chosen = np.array([row.tolist().index(max(row)) for row in scores])
    found = accuracy(scores, labels)
    assert found.value == pytest.approx(accuracy_score(labels, chosen))
    for index in range(classes):
        here = labels == index
        assert (index in found.undefined) == (not here.any())
        if here.any():
            assert found.per_class[index] == pytest.approx((chosen[here] == index).mean())


@pytest.mark.parametrize("metric", [mean_average_precision, roc_auc])
def test_nothing_known_is_undefined(metric):
    score = metric(np.zeros((3, 2)), np.ones((3, 2), int), np.zeros((3, 2), bool))
    assert np.isnan(score.value)
    assert score.undefined == (0, 1)


@pytest.mark.parametrize("metric", [mean_average_precision, roc_auc])
def test_bad_scores_and_targets_are_named(metric):
    with pytest.raises(ValueError, match="1 of 2 clips are NaN, first at clip 1"):
        metric(np.array([[0.0], [np.nan]]), np.array([[0], [1]]))
    with pytest.raises(ValueError, match="targets must be 0 or 1"):
        metric(np.array([[0.0], [1.0]]), np.array([[-1], [1]]))


def test_accuracy_refuses_nothing_nan_and_unknown_classes():
    with pytest.raises(ValueError, match="no clip at all"):
        accuracy(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match="are NaN, first at clip 0"):
        accuracy(np.array([[np.nan, 1.0]]), np.array([1]))
    with pytest.raises(ValueError, match="labels 0 to 2, but scores for classes 0 to 1"):
        accuracy(np.zeros((2, 2)), np.array([0, 2]))
