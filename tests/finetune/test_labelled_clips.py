"""Clips of an epoch: weights by the formula, draws without replacement as one by one, what each process gets."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from matpac.data.crops import StepBatches, Steps
from matpac.finetune.clips import epoch_order, label_weights, labelled_batches
from matpac.finetune.recipes import FinetunePlan, FinetuneRecipe


def weights_by_loop(labels: list[list[int]]) -> list[float]:
    counts = Counter(label for clip in labels for label in clip)
    return [sum(1000 / (counts[label] + 0.01) for label in clip) ** (1 / 1.5) for clip in labels]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 5), max_size=4, unique=True), min_size=1, max_size=30))
def test_weights_are_the_loop_of_the_formula(labels: list[list[int]]) -> None:
    table = np.zeros((len(labels), 6), bool)
    for row, clip in zip(table, labels, strict=True):
        row[clip] = True
    np.testing.assert_allclose(label_weights(table), weights_by_loop(labels))


@settings(deadline=None, max_examples=60)
@given(
    clips=st.integers(1, 40),
    share=st.floats(0, 1),
    weighted=st.booleans(),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 200),
)
def test_no_clip_twice_and_a_function_of_seed_and_epoch(
    clips: int, share: float, weighted: bool, seed: int, epoch: int
) -> None:
    count = max(1, int(share * clips))
    weights = np.random.default_rng(clips).exponential(size=clips) + 1e-3 if weighted else None
    before = None if weights is None else weights.copy()
    order = epoch_order(clips, seed, epoch, count, weights)
    assert order.dtype == np.int64
    assert len(order) == count == len(set(order.tolist()))
    assert 0 <= order.min() <= order.max() < clips
    np.testing.assert_array_equal(order, epoch_order(clips, seed, epoch, count, weights))
    np.testing.assert_array_equal(weights, before)


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(epoch_order(30, seed, epoch, 10).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def chance_of_sets(weights: list[float], count: int) -> dict[frozenset[int], float]:
    """By all orders in which the clips can be drawn one by one, each by its weight among those left."""
    chances: dict[frozenset[int], float] = {}
    for order in itertools.permutations(range(len(weights)), count):
        left, chance = sum(weights), 1.0
        for clip in order:
            chance *= weights[clip] / left
            left -= weights[clip]
        chances[frozenset(order)] = chances.get(frozenset(order), 0.0) + chance
    return chances


def test_draws_are_those_of_one_clip_after_the_other() -> None:
    weights, count, epochs = [1.0, 2.0, 3.0, 5.0, 0.5], 2, 6_000
    drawn = [tuple(epoch_order(5, 11, epoch, count, np.array(weights)).tolist()) for epoch in range(epochs)]
    chances = chance_of_sets(weights, count)
    assert math.isclose(sum(chances.values()), 1)
    seen = Counter(map(frozenset, drawn))
    expected = [epochs * chances[clips] for clips in chances]
    assert float(stats.chisquare([seen[clips] for clips in chances], expected)[1]) > 1e-3
    # which of two comes first must not depend on which is heavier
    heavy_first = Counter(order[0] == 3 for order in drawn if set(order) == {2, 3})
    assert stats.binomtest(heavy_first[True], heavy_first.total(), 0.5).pvalue > 1e-3


def test_rare_labels_are_drawn_as_often_as_by_numpy() -> None:
    weights = label_weights(np.eye(2, dtype=bool)[[0] * 90 + [1] * 10])
    rng = np.random.default_rng(5)
    found = np.array([(epoch_order(100, 1, epoch, 30, weights) >= 90).sum() for epoch in range(1_500)])
    numpys = np.array(
        [(rng.choice(100, 30, replace=False, p=weights / weights.sum()) >= 90).sum() for _ in range(1_500)]
    )
    assert found.mean() > 2 * 3  # plain sampling takes three of the ten
    error = math.sqrt(found.var() / 1_500 + numpys.var() / 1_500)
    assert abs(found.mean() - numpys.mean()) < 4 * error
    assert abs(found.std() / numpys.std() - 1) < 4 / math.sqrt(1_500)


@pytest.mark.parametrize("weighted", [False, True])
def test_processes_and_micro_batches_share_the_steps_of_one(weighted: bool) -> None:
    plan = FinetunePlan(FinetuneRecipe(epochs=3, batch_size=6, epoch_clips=18 if weighted else None), 23)
    weights = np.arange(1.0, 24.0) if weighted else None
    whole = list(labelled_batches(plan, weights, Steps(6, 5, 0, 9)))
    if not weighted:  # the same clips in the same steps as in pre-training
        assert whole == list(StepBatches(23, Steps(6, 5, 0, 9)))
    for processes, accumulate in ((2, 1), (1, 3), (3, 2)):
        parts = [
            list(labelled_batches(plan, weights, Steps(6, 5, 0, 9, rank, processes, accumulate)))
            for rank in range(processes)
        ]
        for step, keys in enumerate(whole):
            mine = slice(step * accumulate, (step + 1) * accumulate)
            assert [key for part in parts for micro_batch in part[mine] for key in micro_batch] == keys
    assert list(labelled_batches(plan, weights, Steps(6, 5, 4, 9))) == whole[4:]


def test_a_small_part_makes_batches_that_can_be_split() -> None:
    assert FinetunePlan(FinetuneRecipe(batch_size=32), 21, parts=4).batch_size == 20
