"""Parts drawn at random: shares, classes and groups, on random label sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from matpac.tasks import TaskError
from matpac.tasks.splits import hold_out, split_by_fold, stratified_folds, three_parts

some = settings(deadline=None, max_examples=60)
single = st.lists(st.integers(0, 5), min_size=12, max_size=150).map(np.array)


@some
@given(single, st.floats(0.05, 0.5), st.integers(0, 5))
def test_one_label_share_and_classes(labels, share, seed):
    indices = np.arange(len(labels))
    kept, held = hold_out(labels, indices, share, seed)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), indices)
    counts, taken = (np.bincount(labels[rows], minlength=6) for rows in (indices, held))
    for count, got in zip(counts, taken, strict=True):
        if count < 2:
            assert got == 0
        else:
            assert max(1, np.floor(count * share)) <= got <= min(count - 1, max(1, np.ceil(count * share)))


def test_the_share_is_exact_where_classes_are_large():
    labels = np.repeat(np.arange(50), 32)  # ESC-50's training part
    kept, held = hold_out(labels, np.arange(1600))
    assert (len(kept), len(held)) == (1440, 160)
    assert set(np.bincount(labels[held]).tolist()) == {3, 4}


@some
@given(st.integers(0, 1000), st.booleans())
def test_groups_are_never_parted(seed, several):
    random = np.random.default_rng(seed)
    groups = random.integers(0, 25, 120)
    labels = (random.random((120, 4)) < 0.3).astype(np.uint8) if several else random.integers(0, 4, 120)
    indices = np.flatnonzero(random.random(120) < 0.8)
    kept, held = hold_out(labels, indices, 0.2, seed, groups)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), indices)
    assert not set(groups[kept]) & set(groups[held])
    assert 0.05 < len(held) / len(indices) < 0.45


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("sizes", [[10, 10], [10, 10, 10], [12, 9, 3, 10]])
def test_of_few_groups_one_is_held_out(sizes, several):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.eye(2, dtype=np.uint8)[np.arange(len(groups)) % 2] if several else np.arange(len(groups)) % 2
    kept, held = hold_out(labels, np.arange(len(groups)), groups=groups)
    assert len(set(groups[held])) == 1
    assert len(held) == min(sizes)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(groups)))
    assert len(hold_out(labels, np.flatnonzero(groups == 0), groups=groups)[1]) == 0, "one group can't be parted"


def test_the_group_that_is_held_out_leaves_every_class_in_training():
    groups, labels = np.repeat(np.arange(3), [4, 20, 20]), np.tile([0, 1], 22)
    labels[:4] = [0, 1, 2, 2]  # the nearest to a tenth, and the only one with class 2
    kept, held = hold_out(labels, np.arange(44), groups=groups)
    assert set(groups[held]) in ({1}, {2})
    assert set(labels[kept]) == {0, 1, 2}


@some
@given(st.integers(0, 1000))
def test_every_tag_is_on_both_sides(seed):
    random = np.random.default_rng(seed)
    labels = (random.random((400, 12)) < np.linspace(0.02, 0.4, 12)).astype(np.uint8)
    kept, held = hold_out(labels, np.arange(400), 0.1, seed)
    common = labels.sum(axis=0) >= 8
    assert (labels[held].sum(axis=0)[common] > 0).all()
    assert (labels[kept].sum(axis=0)[common] > 0).all()
    assert 0.06 < len(held) / 400 < 0.2


def test_folds_are_those_of_scikit_learn_and_cover_every_clip_once():
    labels = np.repeat(np.arange(3), [30, 50, 17])
    folds = stratified_folds(labels, 10, ["a", "b", "c"])
    expected = StratifiedKFold(10, shuffle=True, random_state=0).split(labels, labels)
    splits = split_by_fold(labels, folds)
    assert [fold.name for fold in splits] == [str(number) for number in range(1, 11)]
    for fold, (_, test) in zip(splits, expected, strict=True):
        assert np.array_equal(fold.test, test)
        assert np.array_equal(np.sort(np.concatenate([fold.train, fold.valid, test])), np.arange(97))
    with pytest.raises(TaskError, match="class 'c' has 17 clips"):
        stratified_folds(labels, 18, ["a", "b", "c"])


@some
@given(single)
def test_three_parts_have_every_class(labels):
    counts = np.bincount(labels, minlength=6)
    if ((counts > 0) & (counts < 3)).any():
        with pytest.raises(TaskError, match="too few for training, validation and test"):
            three_parts(labels, "abcdef")
        return
    parts = list(three_parts(labels, "abcdef").parts.values())
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for rows in parts:
        assert set(labels[rows]) == set(labels)
