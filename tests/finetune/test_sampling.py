"""Sampling: weights by the formula, draws without replacement as one by one, and what each process gets."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from matpac.data.crops import StepBatches
from matpac.data.files import DataError
from matpac.finetune.sampling import epoch_order, label_weights, rank_share

# --- weights -----------------------------------------------------------------------------------------------


def weights_by_loop(labels: list[list[int]]) -> list[float]:
    counts = Counter(label for clip in labels for label in clip)
    return [sum(1000 / (counts[label] + 0.01) for label in clip) ** (1 / 1.5) for clip in labels]


def test_weights_worked_out() -> None:
    """Three clips of the first label, one of them of the second too."""
    weights = label_weights(np.array([[1, 0], [1, 1], [1, 0]]))
    common, both = (1000 / 3.01) ** (2 / 3), (1000 / 3.01 + 1000 / 1.01) ** (2 / 3)
    np.testing.assert_allclose(weights, [common, both, common])
    assert both / common > 2


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True), min_size=1, max_size=30))
def test_weights_are_the_loop_of_the_formula(labels: list[list[int]]) -> None:
    table = np.zeros((len(labels), 6), np.int64)
    for row, clip in zip(table, labels, strict=True):
        row[clip] = 1
    np.testing.assert_allclose(label_weights(table), weights_by_loop(labels))
    np.testing.assert_allclose(label_weights(table.astype(bool)), weights_by_loop(labels))


def test_clips_without_labels_are_named() -> None:
    with pytest.raises(ValueError, match="2 clips have no label, so that they have no weight; the first: 1"):
        label_weights(np.array([[1, 0], [0, 0], [0, 1], [0, 0]]))
    with pytest.raises(ValueError, match="no clips to weigh"):
        label_weights(np.empty((0, 3), bool))


# --- order -------------------------------------------------------------------------------------------------


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
    if weights is not None:
        np.testing.assert_array_equal(weights, before)
    whole = epoch_order(clips, seed, epoch, None, weights)
    np.testing.assert_array_equal(np.sort(whole), np.arange(clips))


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
    observed = [seen[clips] for clips in chances]
    assert float(stats.chisquare(observed, expected)[1]) > 1e-3
    # which of two comes first doesn't tell which is heavier
    heavy_first = Counter(order[0] == 3 for order in drawn if set(order) == {2, 3})
    assert stats.binomtest(heavy_first[True], heavy_first.total(), 0.5).pvalue > 1e-3


def test_rare_labels_are_drawn_more_often_and_none_for_ever() -> None:
    """As often as numpy's own draws without replacement, by the weights of a corpus with a rare label."""
    weights = label_weights(np.eye(2, dtype=bool)[[0] * 90 + [1] * 10])
    rng = np.random.default_rng(5)
    ours = np.array([(epoch_order(100, 1, epoch, 30, weights) >= 90).sum() for epoch in range(1_500)])
    numpys = np.array(
        [(rng.choice(100, 30, replace=False, p=weights / weights.sum()) >= 90).sum() for _ in range(1_500)]
    )
    assert ours.mean() > 2 * 3  # plain sampling takes three of the ten
    error = math.sqrt(ours.var() / 1_500 + numpys.var() / 1_500)
    assert abs(ours.mean() - numpys.mean()) < 4 * error
    assert abs(ours.std() / numpys.std() - 1) < 4 / math.sqrt(1_500)


def test_equal_weights_are_a_plain_draw() -> None:
    inclusion = np.zeros(12)
    for epoch in range(2_000):
        inclusion[epoch_order(12, 2, epoch, 5, np.full(12, 0.1))] += 1
    assert (np.abs(inclusion / 2_000 - 5 / 12) < 5 * math.sqrt(0.25 / 2_000)).all()


def test_a_weight_of_zero_is_never_drawn() -> None:
    weights = np.array([0.0, 1.0, 1.0, 0.0, 1e-9])
    for epoch in range(50):
        assert set(epoch_order(5, 0, epoch, 3, weights).tolist()) == {1, 2, 4}
    with pytest.raises(DataError, match="an epoch of 4 clips cannot be drawn from 3 without replacement"):
        epoch_order(5, 0, 0, 4, weights)


def test_what_cannot_be_drawn() -> None:
    for weights in (None, np.ones(500)):
        with pytest.raises(DataError, match=r"of 200000 clips cannot be drawn from 500 .* from 1 to 500 clips"):
            epoch_order(500, 0, 0, 200_000, weights)
        with pytest.raises(DataError, match="an epoch of 0 clips"):
            epoch_order(500, 0, 0, 0, weights)
    for bad in (np.ones(4), np.array([1.0, -1.0, 1.0]), np.array([1.0, np.nan, 1.0])):
        with pytest.raises(ValueError, match="3 clips need as many finite weights that are not negative"):
            epoch_order(3, 0, 0, 2, bad)


# --- processes ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 60), world_size=st.integers(1, 4), share=st.integers(1, 5))
def test_ranks_split_each_batch_without_overlap(count: int, world_size: int, share: int) -> None:
    batch = world_size * share
    assume(count >= batch)
    order = epoch_order(100, 3, 1, count)
    shares = [rank_share(order, rank, world_size, batch) for rank in range(world_size)]
    assert all(one.shape == (count // batch, share) for one in shares)
    side_by_side = np.concatenate(shares, axis=1)
    np.testing.assert_array_equal(side_by_side, rank_share(order, 0, 1, batch))
    np.testing.assert_array_equal(side_by_side.ravel(), order[: count // batch * batch])


def test_batches_that_cannot_be() -> None:
    order = epoch_order(10, 0, 0)
    with pytest.raises(DataError, match="a batch of 5 can't be split equally over 2 processes"):
        rank_share(order, 0, 2, 5)
    with pytest.raises(DataError, match="too few clips for one batch: an epoch has 10, a batch has 12; lower"):
        rank_share(order, 0, 2, 12)
    with pytest.raises(ValueError, match="rank 2 of 2 processes"):
        rank_share(order, 2, 2, 4)


def test_steps_of_any_number_of_processes_are_those_of_pre_training() -> None:
    """All clips, unweighted: the same clips in the same steps as `StepBatches` gives."""
    steps = list(StepBatches(23, 6, 0, 1, 5, 0, 9))
    for world_size in (1, 2, 3):
        for step, keys in enumerate(steps):
            epoch, row = divmod(step, 3)
            order = epoch_order(23, 5, epoch)
            parts = [rank_share(order, rank, world_size, 6)[row] for rank in range(world_size)]
            assert [(epoch, clip) for clip in np.concatenate(parts).tolist()] == keys
