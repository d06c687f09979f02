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


@settings(deadline=None, max_examples=150)
@given(judged())
def test_average_precision_is_scikit_learns_on_the_known_labels(case):
    scores, targets, known = case
    mine = mean_average_precision(scores, targets, known)
    expected = np.full(scores.shape[1], np.nan)
    for index in range(scores.shape[1]):
        seen = known[:, index]
        if targets[seen, index].any():
            expected[index] = average_precision_score(targets[seen, index], scores[seen, index])
    np.testing.assert_allclose(mine.per_class, expected, rtol=1e-12, atol=1e-12)
    assert mine.left_out == tuple(np.flatnonzero(np.isnan(expected)))
    if len(mine.left_out) < scores.shape[1]:
        assert mine.value == pytest.approx(np.nanmean(expected), abs=1e-12)
    else:
        assert np.isnan(mine.value)


@settings(deadline=None, max_examples=150)
@given(judged())
def test_roc_auc_is_scikit_learns_on_the_known_labels(case):
    scores, targets, known = case
    mine = roc_auc(scores, targets, known)
    expected = np.full(scores.shape[1], np.nan)
    for index in range(scores.shape[1]):
        seen = known[:, index]
        if len(np.unique(targets[seen, index])) == 2:
            expected[index] = roc_auc_score(targets[seen, index], scores[seen, index])
    np.testing.assert_allclose(mine.per_class, expected, rtol=1e-12, atol=1e-12)
    assert mine.left_out == tuple(np.flatnonzero(np.isnan(expected)))
    if len(mine.left_out) < scores.shape[1]:
        assert mine.value == pytest.approx(np.nanmean(expected), abs=1e-12)
    else:
        assert np.isnan(mine.value)


@settings(deadline=None)
@given(judged())
def test_all_known_is_the_same_as_no_mask_and_booleans_as_numbers(case):
    scores, targets, _ = case
    for metric in (mean_average_precision, roc_auc):
        plain = metric(scores, targets)
        masked = metric(scores, targets.astype(bool), np.ones(targets.shape, bool))
        np.testing.assert_array_equal(plain.per_class, masked.per_class)


@settings(deadline=None)
@given(judged())
def test_what_an_unknown_label_says_is_of_no_account(case):
    scores, targets, known = case
    turned = np.where(known, targets, 1 - targets)
    for metric in (mean_average_precision, roc_auc):
        np.testing.assert_array_equal(
            metric(scores, targets, known).per_class, metric(scores, turned, known).per_class
        )


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_accuracy_is_scikit_learns(clips, classes, seed):
    random = np.random.default_rng(seed)
    scores = random.integers(0, 3, (clips, classes)).astype(np.float32)
    labels = random.integers(0, classes, clips)
    chosen = np.array([row.tolist().index(max(row)) for row in scores])
    mine = accuracy(scores, labels)
    assert mine.value == pytest.approx(accuracy_score(labels, chosen))
    for index in range(classes):
        here = labels == index
        assert (index in mine.left_out) == (not here.any())
        if here.any():
            assert mine.per_class[index] == pytest.approx((chosen[here] == index).mean())


def test_classes_without_positives_are_left_out_and_told():
    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.4]])
    targets = np.array([[1, 0, 0], [0, 0, 0]])
    score = mean_average_precision(scores, targets)
    assert score.value == 1.0
    assert score.left_out == (1, 2)
    assert np.isnan(score.per_class[1:]).all()


def test_a_class_without_negatives_has_a_precision_but_no_roc_auc():
    scores, targets = np.array([[0.9], [0.2]]), np.array([[1], [1]])
    assert mean_average_precision(scores, targets).value == 1.0
    assert roc_auc(scores, targets).left_out == (0,)
    assert np.isnan(roc_auc(scores, targets).value)


@pytest.mark.parametrize("metric", [mean_average_precision, roc_auc])
def test_nothing_known_gives_nan_and_all_classes_left_out(metric):
    score = metric(np.zeros((3, 2)), np.ones((3, 2), int), np.zeros((3, 2), bool))
    assert np.isnan(score.value)
    assert score.left_out == (0, 1)


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
