"""Parts drawn at random where a corpus brings none: validation clips, folds, or all three parts.

All draws use one seed, whatever the seed of the probe, so that every encoder and every probe seed sees the same
clips and comparisons are paired.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Shaped

from matpac.tasks.task import Fold, TaskError

SPLIT_SEED = 0
VALIDATION_SHARE = 0.1
"""A random tenth of the training part (docs/evaluation.md)."""
TEST_SHARE = 0.1
"""Test share of a corpus without any split: 80/10/10, as Speech Commands and many others."""


def hold_out(
    labels: Shaped[np.ndarray, "..."],
    indices: Integer[np.ndarray, " part"],
    share: float = VALIDATION_SHARE,
    seed: int = SPLIT_SEED,
    groups: Shaped[np.ndarray, " clip"] | None = None,
) -> tuple[Integer[np.ndarray, " kept"], Integer[np.ndarray, " held"]]:
    """(kept, held out): a random share of the clips `indices`, every class on both sides where it can be.

    With one label per clip and no groups: exactly the share (rounded, but at least one clip of each class that
    has two), each class in proportion. Otherwise iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011):
    whole groups, or clips, go where their rarest label is wanted most; shares and classes are then as near as it
    gets. Of few groups, all of which are wanted for training, the one nearest to the share is held out all the
    same. `labels` [clip] or [clip, class] and `groups` are of all clips.
    """
    generator = np.random.default_rng(seed)
    part = labels[indices].astype(np.int64)
    if groups is None and labels.ndim == 1:
        held = _in_proportion(part, share, generator)
    elif groups is None:
        held = _iterative(part, np.ones(len(part), np.int64), share, generator)
    else:
        names, unit = np.unique(groups[indices], return_inverse=True)
        if labels.ndim == 1:
            part = np.eye(int(labels.max()) + 1, dtype=np.int64)[part]
        positives = np.zeros((len(names), part.shape[1]), np.int64)
        np.add.at(positives, unit, part)
        held = _iterative(positives, np.bincount(unit), share, generator)[unit]
    return indices[~held], indices[held]


def split_by_fold(
    labels: Shaped[np.ndarray, "..."],
    folds: Shaped[np.ndarray, " clip"],
    groups: Shaped[np.ndarray, " clip"] | None = None,
) -> list[Fold]:
    """Each fold once as test, the others as training part, of which a tenth is held out as validation."""
    found = []
    for name in np.unique(folds):
        train, valid = hold_out(labels, np.flatnonzero(folds != name), groups=groups)
        found.append(Fold(train, valid, np.flatnonzero(folds == name), name=str(name)))
    return found


def stratified_folds(
    labels: Integer[np.ndarray, " clip"], count: int, classes: Sequence[str]
) -> Int[np.ndarray, " clip"]:
    """A fold number, from 1, for each clip: scikit-learn's StratifiedKFold, shuffled.

    Raises:
        TaskError: a class has fewer clips than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    require_clips(labels, classes, count, f"{count} folds")
    folds = np.zeros(len(labels), np.int64)
    parts = StratifiedKFold(count, shuffle=True, random_state=SPLIT_SEED).split(np.zeros(len(labels)), labels)
    for number, (_, test) in enumerate(parts, start=1):
        folds[test] = number
    return folds


def three_parts(
    labels: Shaped[np.ndarray, "..."],
    classes: Sequence[str],
    groups: Shaped[np.ndarray, " clip"] | None = None,
) -> Fold:
    """80/10/10 of all clips, stratified as `hold_out` does it.

    Raises:
        TaskError: with one label per clip, a class has fewer than three clips (groups).
    """
    if labels.ndim == 1:
        units = labels
        if groups is not None:
            pairs = np.stack([labels, np.unique(groups, return_inverse=True)[1]], axis=1)
            units = np.unique(pairs, axis=0)[:, 0]
        unit = "clips" if groups is None else "groups"
        require_clips(units, classes, 3, "training, validation and test", unit)
    rest, test = hold_out(labels, np.arange(len(labels)), TEST_SHARE, groups=groups)
    train, valid = hold_out(labels, rest, VALIDATION_SHARE / (1 - TEST_SHARE), groups=groups)
    return Fold(train, valid, test, name="random")


def require_clips(
    labels: Integer[np.ndarray, " clip"], classes: Sequence[str], least: int, purpose: str, unit: str = "clips"
) -> None:
    """Raise a TaskError that names the first class with fewer clips than `least`."""
    counts = np.bincount(labels, minlength=len(classes))
    few = np.flatnonzero((counts > 0) & (counts < least))
    if few.size:
        raise TaskError(
            f"class {classes[few[0]]!r} has {counts[few[0]]} {unit}, too few for {purpose} "
            f"({few.size} of {len(classes)} classes have fewer than {least}); add clips, or remove it"
        )


def _in_proportion(
    labels: Integer[np.ndarray, " clip"], share: float, generator: np.random.Generator
) -> Bool[np.ndarray, " clip"]:
    """Largest remainder over classes, at least one clip and never the last one of a class."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    quota = counts * share
    take = np.where(counts >= 2, np.maximum(np.floor(quota).astype(np.int64), 1), 0)
    remaining = max(0, round(len(labels) * share) - int(take.sum()))
    order = generator.permutation(len(counts))  # equal remainders in random order
    order = order[np.argsort((take - quota)[order], kind="stable")]
    take[order[:remaining]] += 1
    take = np.minimum(take, counts - 1)
    shuffle = generator.permutation(len(labels))
    shuffle = shuffle[np.argsort(inverse[shuffle], kind="stable")]
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.zeros(len(labels), bool)
    held[shuffle[place < np.repeat(take, counts)]] = True
    return held


def _iterative(
    positives: Int[np.ndarray, "unit class"],
    sizes: Int[np.ndarray, " unit"],
    share: float,
    generator: np.random.Generator,
) -> Bool[np.ndarray, " unit"]:
    """Which units (clips or groups, with their counts of positives and of clips) are held out."""
    total, left = positives.sum(axis=0), (positives > 0).sum(axis=0)
    wanted = np.where(left >= 2, np.maximum(total * share, 1.0), 0.0)
    want: Float[np.ndarray, "side class"] = np.stack([total - wanted, wanted])
    room = np.array([sizes.sum() * (1 - share), sizes.sum() * share])
    side = np.full(len(positives), -1)
    order = generator.permutation(len(positives))

    def assign(unit: int, to: int) -> None:
        side[unit] = to
        want[to] -= positives[unit]
        room[to] -= sizes[unit]
        left[positives[unit] > 0] -= 1

    while left.any():
        rarest = int(np.where(left > 0, left, left.max() + 1).argmin())
        for unit in order[(positives[order, rarest] > 0) & (side[order] < 0)].tolist():
            assign(unit, int(want[1, rarest] >= want[0, rarest]))
    for unit in order[side[order] < 0].tolist():  # without any label
        assign(unit, int(room[1] > room[0]))
    held = side == 1
    if not held.any() and len(held) >= 2:
        held[order[_nearest(positives[order], sizes[order], share)]] = True
    return held


def _nearest(positives: Int[np.ndarray, "unit class"], sizes: Int[np.ndarray, " unit"], share: float) -> int:
    """The unit with labels nearest to the share that leaves every class to the others, if there is one."""
    total = positives.sum(axis=0)
    fit = ((positives < total) | (total == 0)).all(axis=1) & positives.any(axis=1)
    return int(np.lexsort((np.abs(sizes - sizes.sum() * share), ~fit))[0])
