"""What every probe gives: its test scores by seed, fold and class, with their mean and interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from matpac.probe.compare import confidence_interval
from matpac.probe.metrics import task_score
from matpac.tasks import Task


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """Test scores of a probe: accuracy or mAP, in [0, 1]. What a probe without training lacks is empty.

    Args:
        scores: one row per seed; per draw for few-shot, a single one where nothing is random (kNN).
        per_class: the metric's per-class values, nan for classes that a fold's test part does not have.
        undefined: per fold, the classes without a (known positive) test clip.
        predictions: per fold, what each class scores (trained heads: logits) on the test part, in its order.
        seconds: that the probe took.
        seeds: of training or of draws.
        learning_rates: the rate chosen on validation.
        valid_scores: the best validation metric of every rate of the grid.
        best_epochs: the epoch whose weights the chosen head has, counted from 1.
        epochs: how many epochs the chosen head was trained.
        learned: what the chosen heads learned, by name (`Head.learned`).
    """

    scores: Float[np.ndarray, "seed fold"]
    per_class: Float[np.ndarray, "seed fold class"]
    undefined: tuple[tuple[int, ...], ...]
    predictions: tuple[Float[np.ndarray, "seed _ class"], ...]
    seconds: float
    seeds: tuple[int, ...] = ()
    learning_rates: Float[np.ndarray, "..."] = field(default_factory=lambda: np.empty((0, 0)))
    valid_scores: Float[np.ndarray, "..."] = field(default_factory=lambda: np.empty((0, 0, 0)))
    best_epochs: Int[np.ndarray, "..."] = field(default_factory=lambda: np.empty((0, 0), int))
    epochs: Int[np.ndarray, "..."] = field(default_factory=lambda: np.empty((0, 0), int))
    learned: Mapping[str, Float[np.ndarray, "seed fold ..."]] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over seeds of the mean over folds."""
        return float(self.scores.mean())

    @property
    def ci95(self) -> float:
        """Half width of the 95 % interval, Student t over seeds, of the mean over folds; nan with one seed."""
        return confidence_interval(self.scores.mean(axis=1))[1]


def score_predictions(
    predictions: Sequence[Float[np.ndarray, "seed _ class"]], task: Task, seconds: float, **training: Any
) -> ProbeResult:
    """The metric of a probe's predictions for each fold's test part."""
    folds = [
        [task_score(task, split.test, run) for run in runs]
        for runs, split in zip(predictions, task.folds, strict=True)
    ]
    return ProbeResult(
        scores=np.array([[score.value for score in fold] for fold in folds]).T,
        per_class=np.array([[score.per_class for score in fold] for fold in folds]).swapaxes(0, 1),
        undefined=tuple(fold[0].undefined for fold in folds),
        predictions=tuple(predictions),
        seconds=seconds,
        **training,
    )


def by_class(classes: Sequence[str], per_class: Float[np.ndarray, " class"]) -> dict[str, float | None]:
    """Scores by class name; None for a class that no test clip has, and for those the probe has no output for."""
    padded = [*per_class.tolist(), *[math.nan] * (len(classes) - len(per_class))]
    return {name: None if math.isnan(value) else value for name, value in zip(classes, padded, strict=True)}
