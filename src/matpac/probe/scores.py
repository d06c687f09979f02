"""What any probe gives: its test scores by seed, fold and class, with their mean and interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from matpac.probe.compare import confidence_interval
from matpac.probe.targets import Targets
from matpac.tasks import Fold


@dataclass(frozen=True, eq=False)
class ProbeScores:
    """Test scores of a probe: accuracy (``single``) or mAP (``multi``), in [0, 1]."""

    scores: Float[np.ndarray, "seed fold"]
    """One row a seed; without training one a draw (few-shot), or one alone where nothing is random (kNN)."""
    per_class: Float[np.ndarray, "seed fold class"]
    """The metric's per-class values, nan where a fold's test part leaves the class out."""
    left_out: tuple[tuple[int, ...], ...]
    """Per fold, the classes its test part has no (known positive) clip of."""
    predictions: tuple[Float[np.ndarray, "seed _ class"], ...]
    """Per fold, what each class scores (trained heads: logits) on the test part, in order of ``Fold.test``."""
    seconds: float

    @property
    def mean(self) -> float:
        """Mean over seeds of the mean over folds."""
        return float(self.scores.mean())

    @property
    def ci95(self) -> float:
        """Half width of the 95 % interval, Student t over seeds, of the mean over folds; nan with one seed."""
        return confidence_interval(self.scores.mean(axis=1))[1]


@dataclass(frozen=True, eq=False)
class ProbeResult(ProbeScores):
    """Of a trained probe: test scores of the heads chosen on validation, and how they were trained."""

    learning_rates: Float[np.ndarray, "seed fold"]
    """The rate chosen on validation (of equal ones the smallest)."""
    valid_scores: Float[np.ndarray, "seed fold rate"]
    """The best validation metric of every rate of the grid."""
    best_epochs: Int[np.ndarray, "seed fold"]
    """The epoch whose weights the chosen head has, counted from 1."""
    epochs: Int[np.ndarray, "seed fold"]
    """How many epochs the chosen head was trained."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """Of one (seed, fold): the head whose rate was best on validation."""

    learning_rate: float
    valid_scores: Float[np.ndarray, "rate"]
    best_epoch: int
    epochs: int
    logits: Float[np.ndarray, "test class"]


def by_class(classes: Sequence[str], per_class: Float[np.ndarray, " class"]) -> dict[str, float | None]:
    """Scores by class name; None for a class that no test clip has, and for those beyond the last one heard of."""
    padded = [*per_class.tolist(), *[math.nan] * (len(classes) - len(per_class))]
    return {name: None if math.isnan(value) else value for name, value in zip(classes, padded, strict=True)}


def score_predictions(
    predictions: Sequence[Float[np.ndarray, "seed _ class"]],
    targets: Targets,
    splits: Sequence[Fold],
    seconds: float,
) -> ProbeScores:
    """The metric of what a probe says of each fold's test part."""
    folds = [
        [targets.metric(run, split.test) for run in runs] for runs, split in zip(predictions, splits, strict=True)
    ]
    return ProbeScores(
        scores=np.array([[score.value for score in fold] for fold in folds]).T,
        per_class=np.array([[score.per_class for score in fold] for fold in folds]).swapaxes(0, 1),
        left_out=tuple(fold[0].left_out for fold in folds),
        predictions=tuple(predictions),
        seconds=seconds,
    )


def score_chosen(
    grid: Sequence[Sequence[Chosen]], targets: Targets, splits: Sequence[Fold], seconds: float
) -> ProbeResult:
    """The result of the chosen heads [seed][fold]."""
    predictions = [np.stack([row[fold].logits for row in grid]) for fold in range(len(splits))]
    return ProbeResult(
        **vars(score_predictions(predictions, targets, splits, seconds)),
        learning_rates=np.array([[head.learning_rate for head in row] for row in grid]),
        valid_scores=np.array([[head.valid_scores for head in row] for row in grid]),
        best_epochs=np.array([[head.best_epoch for head in row] for row in grid]),
        epochs=np.array([[head.epochs for head in row] for row in grid]),
    )
