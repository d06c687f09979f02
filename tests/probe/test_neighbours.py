"""kNN against a slow loop and scikit-learn; few-shot against the formula; draws."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from helpers.array_task import array_task
from matpac.probe.neighbours import (
    FewShotConfig,
    NeighboursConfig,
    draw_examples,
    few_shot,
    fewest_examples,
    nearest_neighbours,
)
from matpac.tasks import Fold


def clips(count=120, dim=8, classes=4, spread=2.0, seed=0):
    """Features (float32), one label a clip, several a clip and which of those are known."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, count - classes)])
    centres = random.normal(size=(classes, dim))
    features = (centres[labels] + spread * random.normal(size=(count, dim))).astype(np.float32)
    targets = (features @ centres.T > 2).astype(np.int64)
    return features, labels, targets, random.random((count, classes)) < 0.4


def three_parts(count=120):
    order = np.random.default_rng(1).permutation(count)
    a, b, c = np.array_split(order, 3)
    return [Fold(a, b, c), Fold(np.concatenate([b, c]), a[:10], a[10:])]


def slow_votes(features, targets, known, train, query, k, temperature):
    """For each class, the share of the weighted votes of the k nearest clips that know it."""
    cosine = []
    for row in train:
        lengths = np.linalg.norm(features[row].astype(float)) * np.linalg.norm(features[query].astype(float))
        cosine.append(float(features[row].astype(float) @ features[query].astype(float)) / lengths)
    shares = []
    for number in range(targets.shape[1]):
        able = [(similarity, row) for similarity, row in zip(cosine, train, strict=True) if known[row, number]]
        nearest = sorted(able, reverse=True)[:k]
        weights = [np.exp(similarity / temperature) for similarity, _ in nearest]
        yes = [weight * targets[row, number] for weight, (_, row) in zip(weights, nearest, strict=True)]
        shares.append(sum(yes) / sum(weights) if weights else 0.0)
    return shares


@pytest.mark.parametrize("kind", ["single", "multi", "partial"])
def test_votes_are_those_of_a_slow_loop(kind):
    features, labels, targets, known = clips()
    seen = known if kind == "partial" else np.ones_like(known)
    wanted = np.eye(4, dtype=int)[labels] if kind == "single" else targets
    given = labels if kind == "single" else targets
    task = array_task(given, three_parts(), known if kind == "partial" else None)
    # several blocks, one of them smaller than k
    result = nearest_neighbours(features, task, NeighboursConfig(queries_at_once=7, train_at_once=9))
    assert result.scores.shape == (1, 2)
    assert np.isnan(result.ci95)
    for fold, split in enumerate(task.folds):
        slow = [slow_votes(features, wanted, seen, split.train, row, 10, 0.07) for row in split.test]
        np.testing.assert_allclose(result.predictions[fold][0], slow, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_scikit_learn_agrees(dtype):
    features, labels, _, _ = clips(300)
    features = features.astype(dtype)
    splits = three_parts(300)
    result = nearest_neighbours(features, array_task(labels, splits), NeighboursConfig(k=7, temperature=0.2))
    for fold, split in enumerate(splits):
        weights: Any = lambda apart: np.exp((1 - apart) / 0.2)  # noqa: E731 (its stub knows strings alone)
        model = KNeighborsClassifier(7, metric="cosine", weights=weights)
        model.fit(features[split.train].astype(np.float64), labels[split.train])
        votes = np.asarray(model.predict_proba(features[split.test].astype(np.float64)))
        np.testing.assert_allclose(result.predictions[fold][0], votes, atol=1e-5)
        assert result.scores[0, fold] == (votes.argmax(1) == labels[split.test]).mean()
    assert result.mean == result.scores.mean()


def test_a_class_that_nobody_knows_scores_nothing_and_few_clips_all_vote():
    features, _, targets, known = clips()
    split = three_parts()[0]
    known[split.train, 0] = False
    split = Fold(split.train, split.valid, split.test, untrained=(0,))
    result = nearest_neighbours(features, array_task(targets, [split], known), NeighboursConfig(k=1000))
    assert (result.predictions[0][0][:, 0] == 0).all()
    slow = [slow_votes(features, targets, known, split.train, row, 1000, 0.07) for row in split.test]
    np.testing.assert_allclose(result.predictions[0][0], slow, atol=1e-5)


def test_bad_numbers_and_bad_features_are_told():
    with pytest.raises(ValueError, match="k must be 1 or more"):
        NeighboursConfig(k=0)
    with pytest.raises(ValueError, match="shots and draws"):
        FewShotConfig(shots=(0,))
    features, labels, _, _ = clips()
    features[5, 0] = np.nan
    for probe in (nearest_neighbours, few_shot):
        with pytest.raises(ValueError, match="NaN"):
            probe(features, array_task(labels, three_parts()))


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(4, 30), min_size=1, max_size=4),
    shots=st.integers(1, 4),
    draws=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_draws_are_disjoint_while_clips_last_and_repeatable(sizes, shots, draws, seed):
    borders = np.cumsum([0, *sizes])
    members = {number: np.arange(*ends) for number, ends in enumerate(pairwise(borders))}
    drawn = draw_examples(members, shots, draws, seed)
    np.testing.assert_array_equal(drawn, draw_examples(members, shots, draws, seed))
    for number, rows in members.items():
        assert np.isin(drawn[:, number], rows).all()
        enough = len(rows) // shots
        for start in range(0, draws, enough):  # every run of draws that one shuffle has enough clips for
            some = drawn[start : start + enough, number].ravel()
            assert len(np.unique(some)) == len(some)


def test_seeds_draw_differently_and_too_few_clips_are_told():
    members = {0: np.arange(50), 4: np.arange(50, 100)}
    assert (draw_examples(members, 5, 10, 1) != draw_examples(members, 5, 10, 2)).any()
    with pytest.raises(ValueError, match="class 4 has 3 training clips: too few for 5"):
        draw_examples({0: np.arange(9), 4: np.arange(3)}, 5, 1, 0)


def slow_prototypes(features, examples, test):
    """Cosine similarity to class means, written out clip by clip in float64."""
    features = features.astype(np.float64)
    centre = features[sorted({row for of_class in examples for row in of_class})].mean(0)
    scores = np.empty((len(test), len(examples)))
    for number, of_class in enumerate(examples):
        prototype = sum((features[row] - centre) / np.linalg.norm(features[row] - centre) for row in of_class)
        for place, row in enumerate(test):
            apart = features[row] - centre
            scores[place, number] = apart @ prototype / np.linalg.norm(apart) / np.linalg.norm(prototype)
    return scores


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_few_shot_is_the_formula(kind):
    features, labels, targets, known = clips()
    split = three_parts()[1]
    config = FewShotConfig(shots=(1, 3), draws=4, seed=7)
    if kind == "single":
        results = few_shot(features, array_task(labels, [split]), config)
        members = {number: split.train[labels[split.train] == number] for number in range(4)}
    else:
        results = few_shot(features, array_task(targets, [split], known), config)
        positive = (targets == 1) & known
        members = {number: split.train[positive[split.train, number]] for number in range(4)}
    assert list(results) == [1, 3]
    for shots, result in results.items():
        assert result.scores.shape == (4, 1)
        assert np.isfinite(result.ci95)
        drawn = draw_examples(members, shots, 4, 7)
        for draw in range(4):
            slow = slow_prototypes(features, drawn[draw], split.test)
            np.testing.assert_allclose(result.predictions[0][draw], slow, atol=1e-5)


def test_more_examples_help_and_draws_repeat():
    features, labels, _, _ = clips(600, spread=1.5)
    results = few_shot(features, array_task(labels, three_parts(600)))
    again = few_shot(features, array_task(labels, three_parts(600)))
    assert results[1].scores.shape == (10, 2)
    assert results[1].mean < results[5].mean < results[10].mean
    np.testing.assert_array_equal(results[5].scores, again[5].scores)


def test_untrained_classes_are_never_chosen_and_a_small_class_names_its_fold():
    features, labels, _, _ = clips()
    split = three_parts()[0]
    without = Fold(split.train[labels[split.train] != 0], split.valid, split.test, untrained=(0,))
    result = few_shot(features, array_task(labels, [without]), FewShotConfig(shots=(2,)))[2]
    assert (result.predictions[0][:, :, 0] == -1).all()
    assert (result.predictions[0].argmax(axis=2) > 0).all()
    with pytest.raises(ValueError, match=r"split 0: class 1 has \d+ training clips: too few for 30"):
        few_shot(features, array_task(labels, [without]), FewShotConfig(shots=(30,)))


def test_the_fewest_examples_are_of_a_class_that_has_any():
    labels = np.array([0, 0, 0, 1, 1, 2, 0, 1, 2])
    split = Fold(np.arange(5), np.array([5]), np.array([6, 7, 8]), untrained=(2,))
    assert fewest_examples(array_task(labels, [split])) == 2
    less = Fold(np.array([0, 1, 3]), np.array([5]), np.array([6, 7]), untrained=(2,))
    assert fewest_examples(array_task(labels, [split, less])) == 1
    several, known = np.ones((9, 2), np.uint8), np.ones((9, 2), bool)
    several[:3, 0], known[:1, 1] = 0, False
    assert fewest_examples(array_task(several, [split])) == 2
    known[3:, 0] = False
    assert fewest_examples(array_task(several, [split], known)) == 4
