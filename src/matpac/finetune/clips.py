"""A task as training sees it: readable clips, their lengths and targets, and the order in which they are drawn.

Order is a pure function of (weights, count, seed, epoch): a resumed run needs the step alone, and every process
knows the whole order and takes its own part of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from matpac.data.crops import StepBatches, Steps
from matpac.data.files import Clip, measure_clips
from matpac.errors import Skipped
from matpac.finetune.recipes import FinetunePlan, FinetuneRecipe
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import PATCH
from matpac.tasks import Fold, Task, TaskError, without

HELD = 0.95  # share of the clips that a crop holds whole, unless recipe or task give its length; default: most
# Weight of a clip: (Σ over its labels of 1000 / (clips of the label + 0.01))^(1/1.5), of M2D's AudioSet recipe as
# docs/finetuning.md gives it (the sum is AST's, arXiv 2104.01778).
PER_CLASS, RARE, SHARPNESS = 1000.0, 0.01, 1 / 1.5


@dataclass(frozen=True, eq=False)
class LabelledClips:
    """One fold of a task.

    Args:
        task: without the clips whose headers cannot be read.
        fold: of this task.
        durations: in seconds, at most the task's unit length.
    """

    task: Task
    fold: Fold
    durations: Float32[np.ndarray, " clip"]

    @property
    def skipped(self) -> list[Skipped]:
        """Clips of the task that cannot be used."""
        return [Skipped(path, reason) for path, reason in self.task.missing]

    def training_clips(self) -> list[Clip]:
        """Clips of the training part, in its order."""
        return [Clip(self.task.paths[row], float(self.durations[row])) for row in self.fold.train.tolist()]

    def targets(
        self, numbers: Sequence[int]
    ) -> tuple[Float32[Tensor, "batch class"], Float32[Tensor, "batch class"]]:
        """Labels of some training clips, by their numbers in the training part (all of AudioSet's take 8 GB).

        Returns:
            1 for a label that is known to hold, and 1 where it is known whether it holds.
        """
        rows = self.fold.train[list(numbers)]
        labels = torch.from_numpy(self.task.positives(rows)).float()
        known = self.task.known
        return labels, torch.ones_like(labels) if known is None else torch.from_numpy(known[rows]).float()


def read_labelled(task: Task, fold: str, cache: Path) -> LabelledClips:
    """One fold of a task with the lengths of its clips; headers are read once and kept in the file `cache`.

    Args:
        task: all clips that are on disk.
        fold: its name; empty for the first.
        cache: a Parquet file, written where it does not exist.

    Raises:
        TaskError: a label that is no text; no such fold; a part is empty without the clips that cannot be read.
    """
    for label in task.classes:  # names of folders need not be UTF-8, but no result could be written with them
        try:
            label.encode()
        except UnicodeEncodeError as error:
            raise TaskError(f"{task.name}: the label {label!r} is not UTF-8; rename its folder") from error
    number = task.folds.index(task.fold(fold))
    measured = measure_clips(task.paths, cache)
    reasons = {item.path: item.reason for item in measured.skipped}
    lengths = {clip.path: clip.duration for clip in measured.clips}
    usable = without(task, {row: reasons[path] for row, path in enumerate(task.paths) if path in reasons})
    seconds = np.array([lengths[path] for path in usable.paths], np.float32)
    if usable.unit_seconds is not None:
        seconds = np.minimum(seconds, np.float32(usable.unit_seconds))
    return LabelledClips(usable, usable.folds[number], seconds)


def crop_frames(recipe: FinetuneRecipe, clips: LabelledClips, logmel: LogMelConfig, longest: int) -> int:
    """Log-mel frames of a training crop: the recipe's, else what holds the unit or most clips, up to `longest`."""
    if recipe.frames is not None:
        return recipe.frames
    unit = clips.task.unit_seconds
    seconds = unit if unit is not None else float(np.quantile(clips.durations[clips.fold.train], HELD))
    frames = logmel.frames(round(seconds * logmel.sample_rate))
    return max(PATCH, min(frames // PATCH * PATCH, longest))


def sampling_weights(recipe: FinetuneRecipe, clips: LabelledClips) -> Float64[np.ndarray, " train"] | None:
    """Relative probability of drawing each training clip; None where all are alike.

    Raises:
        TaskError: training clips without any label, which a balanced recipe could never draw.
    """
    if not recipe.balanced:
        return None
    weights = label_weights(clips.task.positives(clips.fold.train))
    bare = np.flatnonzero(weights == 0)
    if bare.size:
        raise TaskError(
            f"{clips.task.name}: {bare.size} training clips have no label, first "
            f"{clips.task.paths[clips.fold.train[bare[0]]]}; a balanced recipe draws clips by their labels: "
            "label them, remove them, or pass --balanced false"
        )
    return weights


def label_weights(labels: Bool[np.ndarray, "clip class"]) -> Float64[np.ndarray, " clip"]:
    """Relative probability of drawing each clip: higher for rare labels, 0 without a label (see `PER_CLASS`)."""
    clips, classes = np.nonzero(labels)  # few of them hold: a product would turn the whole table into floats
    of_class = PER_CLASS / (np.bincount(classes, minlength=labels.shape[1]) + RARE)
    return np.bincount(clips, weights=of_class[classes], minlength=len(labels)) ** SHARPNESS


def epoch_order(
    clips: int, seed: int, epoch: int, count: int, weights: Float64[np.ndarray, " clip"] | None = None
) -> Int64[np.ndarray, " count"]:
    """Numbers of the `count` clips of one epoch, none twice, in the order in which they are trained on.

    Without weights, the first of a permutation, as in pre-training. With weights, clips drawn one after another,
    each by its weight among those that are left: the clips with the smallest Exp(1)/weight are exactly that
    (Efraimidis and Spirakis 2006). Then they are shuffled, since drawn first means heavy: an epoch would begin
    with the rare labels and end with the common ones.
    """
    rng = np.random.default_rng([seed, epoch])
    if weights is None:
        return rng.permutation(clips)[:count]
    chosen = np.argpartition(rng.exponential(size=clips) / weights, count - 1)[:count]
    return rng.permutation(np.sort(chosen))


def labelled_batches(plan: FinetunePlan, weights: np.ndarray | None, steps: Steps) -> StepBatches:
    """Keys of one process's micro-batches; a step's batch is the same however many processes share it.

    Args:
        plan: clips of an epoch.
        weights: of the training clips, for balanced drawing; None for equal ones.
        steps: this process's part of them.
    """
    count = plan.epoch_clips
    return StepBatches(count, steps, lambda epoch: epoch_order(plan.clips, steps.seed, epoch, count, weights))
