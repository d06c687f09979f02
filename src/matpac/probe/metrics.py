"""Accuracy, macro mean average precision and macro ROC-AUC, with partial labels, as pure functions.

All three agree with scikit-learn's, ties in the scores included, and work on all classes at once. The macro
means are over the classes for which the metric is defined; the others are left out, and which ones is
returned.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Num, Shaped


@dataclass(frozen=True, eq=False)
class Score:
    """A metric and what it is made of; all values are fractions in [0, 1], or nan where undefined."""

    value: float
    """The metric itself; nan where every class is left out."""
    per_class: Float[np.ndarray, "class"]
    """The metric of each class, nan for those left out."""
    left_out: tuple[int, ...]
    """Classes without the metric: no clip, no positive or (ROC-AUC) no negative among the known labels."""


def accuracy(scores: Num[np.ndarray, "clip class"], labels: Integer[np.ndarray, "clip"]) -> Score:
    """Share of clips whose highest score is at their label; of equal scores the first class counts.

    ``per_class`` is the share among the clips of that class (its recall), so ``value`` is their mean weighted
    by the number of clips. Raises ValueError without clips, on NaN scores and on labels out of range.
    """
    clips, classes = scores.shape
    _require_no_nan(scores)
    if clips == 0:
        raise ValueError("accuracy of no clip at all: scores and labels are empty")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels {labels.min()} to {labels.max()}, but scores for classes 0 to {classes - 1}")
    right = scores.argmax(axis=1) == labels
    hits = np.bincount(labels[right], minlength=classes).astype(float)
    per_class, left_out = _ratio(hits, np.bincount(labels, minlength=classes))
    return Score(float(right.mean()), per_class, left_out)


def mean_average_precision(
    scores: Num[np.ndarray, "clip class"],
    targets: Shaped[np.ndarray, "clip class"],
    known: Bool[np.ndarray, "clip class"] | None = None,
) -> Score:
    """Macro mAP: the mean over classes of average precision, Σ (R_k - R_{k-1}) P_k over distinct scores.

    ``targets`` hold 0 and 1 (or booleans). Where ``known`` is False the label does not exist and the clip is
    not looked at for that class (partial labels as OpenMIC's; docs/evaluation.md). Classes without a known
    positive are left out. Raises ValueError on NaN scores and on other targets than 0 and 1.
    """
    ranking = _rank(scores, targets, known)
    found = ranking.positives_so_far + ranking.negatives_so_far
    precision = ranking.positives_so_far / np.maximum(found, 1)  # 0 / 0 while only unknown labels were passed
    # every positive counts with the precision at the end of its run of equal scores
    sums = (np.take_along_axis(precision, ranking.run_end, axis=0) * ranking.is_positive).sum(axis=0)
    return _macro(sums, ranking.is_positive.sum(axis=0))


def roc_auc(
    scores: Num[np.ndarray, "clip class"],
    targets: Shaped[np.ndarray, "clip class"],
    known: Bool[np.ndarray, "clip class"] | None = None,
) -> Score:
    """Macro ROC-AUC: the mean over classes of P(a positive scores above a negative), equal scores by half.

    Arguments and errors as for ``mean_average_precision``. Classes without a known positive or without a
    known negative are left out.
    """
    ranking = _rank(scores, targets, known)
    negatives = ranking.is_negative.sum(axis=0)
    # negatives ranked above each clip, those of its own run of equal scores by half
    until_end = np.take_along_axis(ranking.negatives_so_far, ranking.run_end, axis=0)
    before = ranking.negatives_so_far - ranking.is_negative
    above = (np.take_along_axis(before, ranking.run_start, axis=0) + until_end) / 2
    sums = ((negatives - above) * ranking.is_positive).sum(axis=0)
    return _macro(sums, ranking.is_positive.sum(axis=0) * negatives)


@dataclass(frozen=True, eq=False)
class _Ranking:
    """The clips of each class, highest score first; unknown labels are neither positive nor negative."""

    is_positive: Bool[np.ndarray, "clip class"]
    is_negative: Bool[np.ndarray, "clip class"]
    positives_so_far: Int[np.ndarray, "clip class"]
    negatives_so_far: Int[np.ndarray, "clip class"]
    run_start: Int[np.ndarray, "clip class"]
    run_end: Int[np.ndarray, "clip class"]


def _rank(
    scores: Num[np.ndarray, "clip class"],
    targets: Shaped[np.ndarray, "clip class"],
    known: Bool[np.ndarray, "clip class"] | None,
) -> _Ranking:
    _require_no_nan(scores)
    positive = targets.astype(bool)
    if targets.dtype != bool and not np.array_equal(targets, positive):
        raise ValueError("targets must be 0 or 1; mark unknown labels in `known` instead")
    clips = len(scores)
    order = np.argsort(scores, axis=0)[::-1]
    ranked = np.take_along_axis(scores, order, axis=0)
    positive = np.take_along_axis(positive, order, axis=0)
    negative = ~positive
    if known is not None:
        seen = np.take_along_axis(known, order, axis=0)
        positive, negative = positive & seen, negative & seen
    place = np.broadcast_to(np.arange(clips)[:, None], scores.shape)
    starts = np.ones(scores.shape, bool)
    starts[1:] = ranked[1:] != ranked[:-1]
    ends = np.ones(scores.shape, bool)
    ends[:-1] = starts[1:]
    return _Ranking(
        positive,
        negative,
        positive.cumsum(axis=0),
        negative.cumsum(axis=0),
        np.maximum.accumulate(np.where(starts, place, 0), axis=0),
        np.minimum.accumulate(np.where(ends, place, clips)[::-1], axis=0)[::-1],
    )


def _require_no_nan(scores: Num[np.ndarray, "clip class"]) -> None:
    bad = np.isnan(scores).any(axis=1)
    if bad.any():
        raise ValueError(f"scores of {bad.sum()} of {len(scores)} clips are NaN, first at clip {bad.argmax()}")


def _ratio(
    sums: Float[np.ndarray, "class"], counts: Int[np.ndarray, "class"]
) -> tuple[Float[np.ndarray, "class"], tuple[int, ...]]:
    """sums / counts with nan where nothing was counted, and which classes those are."""
    per_class = np.full(len(sums), np.nan)
    np.divide(sums, counts, out=per_class, where=counts > 0)
    return per_class, tuple(int(index) for index in np.flatnonzero(counts == 0))


def _macro(sums: Float[np.ndarray, "class"], counts: Int[np.ndarray, "class"]) -> Score:
    per_class, left_out = _ratio(sums, counts)
    defined = per_class[counts > 0]
    return Score(float(defined.mean()) if defined.size else float("nan"), per_class, left_out)
