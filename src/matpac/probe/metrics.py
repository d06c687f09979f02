"""Accuracy, macro mean average precision and macro ROC-AUC, with partial labels, as pure functions.

Macro means are over the classes for which the metric is defined.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Num, Shaped

from matpac.tasks import Task


@dataclass(frozen=True, eq=False)
class Score:
    """A metric and its parts; all values are in [0, 1], or nan where undefined.

    Args:
        value: the metric itself; nan where no class has it.
        per_class: the metric of each class, nan where it is undefined.
    """

    value: float
    per_class: Float[np.ndarray, "class"]

    @property
    def undefined(self) -> tuple[int, ...]:
        """Classes without the metric: no clip, no positive or (ROC-AUC) no negative among the known labels."""
        return tuple(np.flatnonzero(np.isnan(self.per_class)).tolist())


def task_score(task: Task, rows: Integer[np.ndarray, "part"], scores: Num[np.ndarray, "part class"]) -> Score:
    """Accuracy, or mAP where clips have several labels, for some clips of a task."""
    if task.kind == "single":
        return accuracy(scores, task.labels[rows])
    return mean_average_precision(scores, task.labels[rows], None if task.known is None else task.known[rows])


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
    return Score(float(right.mean()), _ratio(hits, np.bincount(labels, minlength=classes)))


def mean_average_precision(
    scores: Num[np.ndarray, "clip class"],
    targets: Shaped[np.ndarray, "clip class"],
    known: Bool[np.ndarray, "clip class"] | None = None,
) -> Score:
    """Macro mAP: the mean over classes of average precision, Σ (R_k - R_{k-1}) P_k over distinct scores.

    All classes at once: a probe needs it after every epoch of every head. ``targets`` hold 0 and 1 (or booleans).
    Where ``known`` is False the label does not exist and the clip is ignored for that class (partial labels as
    OpenMIC's; docs/evaluation.md). Raises ValueError on NaN scores and on other targets than 0 and 1.
    """
    positive, known = _judged(scores, targets, known)
    order = np.argsort(scores, axis=0)[::-1]
    ranked, positive, known = (np.take_along_axis(values, order, axis=0) for values in (scores, positive, known))
    precision = positive.cumsum(axis=0) / np.maximum(known.cumsum(axis=0), 1)  # 0 / 0 before any known label
    # every positive counts with the precision at the end of its run of equal scores
    ends = np.ones(scores.shape, bool)
    ends[:-1] = ranked[1:] != ranked[:-1]
    place = np.where(ends, np.arange(len(scores))[:, None], len(scores))
    run_end = np.minimum.accumulate(place[::-1], axis=0)[::-1]
    sums = (np.take_along_axis(precision, run_end, axis=0) * positive).sum(axis=0)
    return _macro(_ratio(sums, positive.sum(axis=0)))


def roc_auc(
    scores: Num[np.ndarray, "clip class"],
    targets: Shaped[np.ndarray, "clip class"],
    known: Bool[np.ndarray, "clip class"] | None = None,
) -> Score:
    """Macro ROC-AUC, each class's by scikit-learn: P(a positive scores above a negative), equal scores by half.

    Arguments and errors as for ``mean_average_precision``.
    """
    from sklearn.metrics import roc_auc_score

    positive, known = _judged(scores, targets, known)
    per_class = np.full(scores.shape[1], np.nan)
    for number, seen in enumerate(known.T):
        if 0 < positive[:, number].sum() < seen.sum():
            per_class[number] = roc_auc_score(positive[seen, number], scores[seen, number])
    return _macro(per_class)


def _judged(
    scores: Num[np.ndarray, "clip class"],
    targets: Shaped[np.ndarray, "clip class"],
    known: Bool[np.ndarray, "clip class"] | None,
) -> tuple[Bool[np.ndarray, "clip class"], Bool[np.ndarray, "clip class"]]:
    """Known positives and known labels, checked."""
    _require_no_nan(scores)
    positive = targets.astype(bool)
    if targets.dtype != bool and not np.array_equal(targets, positive):
        raise ValueError("targets must be 0 or 1; mark unknown labels in `known` instead")
    known = np.ones(scores.shape, bool) if known is None else known
    return positive & known, known


def _require_no_nan(scores: Num[np.ndarray, "clip class"]) -> None:
    bad = np.isnan(scores).any(axis=1)
    if bad.any():
        raise ValueError(f"scores of {bad.sum()} of {len(scores)} clips are NaN, first at clip {bad.argmax()}")


def _ratio(sums: Float[np.ndarray, "class"], counts: Int[np.ndarray, "class"]) -> Float[np.ndarray, "class"]:
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def _macro(per_class: Float[np.ndarray, "class"]) -> Score:
    defined = per_class[~np.isnan(per_class)]
    return Score(float(defined.mean()) if defined.size else float("nan"), per_class)
