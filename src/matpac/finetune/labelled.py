"""A task as training sees it: clips that can be read, their lengths, their targets, and batches of crops."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor
from torch.utils.data import Sampler

from matpac.data.crops import Key
from matpac.data.files import Clip, measure_clips
from matpac.errors import Skipped
from matpac.finetune.plan import FinetunePlan
from matpac.finetune.recipes import FinetuneRecipe
from matpac.finetune.sampling import epoch_order, label_weights, rank_share
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import PATCH
from matpac.tasks import Task, TaskError, read_task, without
from matpac.tasks.splits import Split

MOST = 0.95
"""Share of the clips that a crop holds whole, where neither recipe nor task says how long it is; ours."""


@dataclass(frozen=True, eq=False)
class LabelledClips:
    """One fold of a task."""

    task: Task
    """Without the clips whose headers can't be read."""
    split: Split
    fold: str
    durations: Float32[np.ndarray, " clip"]
    """In seconds, at most the task's unit length."""
    left_out: list[Skipped]

    def training_clips(self) -> list[Clip]:
        """Of the training part, in its order."""
        return [Clip(self.task.paths[row], float(self.durations[row])) for row in self.split.train.tolist()]

    def targets(
        self, numbers: Sequence[int]
    ) -> tuple[Float32[Tensor, "batch class"], Float32[Tensor, "batch class"]]:
        """Of some clips of the training part, by their numbers there: 1 for a label that holds, and 1 where it is
        known whether it does. (Not of all at once: AudioSet's would take eight gigabytes.)
        """
        rows, classes = self.split.train[list(numbers)], len(self.task.classes)
        labels = torch.from_numpy(self.task.labels[rows].astype(np.int64))
        if self.task.kind == "single":
            labels = torch.nn.functional.one_hot(labels, classes)
        if self.task.known is None:
            return labels.float(), torch.ones(labels.shape)
        known = torch.from_numpy(self.task.known[rows].astype(np.float32))
        return labels.float() * known, known

    def label_matrix(self) -> Bool[np.ndarray, "train class"]:
        """Which labels the training clips are known to have."""
        labels = self.task.labels[self.split.train]
        if self.task.kind == "single":
            return labels[:, None] == np.arange(len(self.task.classes))
        known = self.task.known
        return labels.astype(bool) if known is None else labels.astype(bool) & known[self.split.train]


def read_labelled(name: str, root: str, fold: str, cache: Path) -> LabelledClips:
    """A task's clips and lengths; headers are read once and kept in the Parquet file `cache`.

    Raises:
        TaskError: as `read_task`; a label that is no text; no such fold; a part is empty without the clips that
            can't be read.
    """
    task = read_task(name, root)
    _require_text(task, root)
    if fold and fold not in task.fold_names:
        raise TaskError(f"{task.name}: no fold {fold!r}; there are {', '.join(task.fold_names)}")
    number = task.fold_names.index(fold) if fold else 0
    measured = measure_clips(task.paths, cache)
    reasons = {item.path: item.reason for item in measured.skipped}
    bad = {row: reasons[path] for row, path in enumerate(task.paths) if path in reasons}
    lengths = {clip.path: clip.duration for clip in measured.clips}
    usable = without(task, bad)
    seconds = np.array([lengths[path] for path in usable.paths], np.float32)
    if usable.unit_seconds is not None:
        seconds = np.minimum(seconds, np.float32(usable.unit_seconds))
    left_out = [Skipped(path, reason) for path, reason in usable.missing]
    return LabelledClips(usable, usable.splits[number], usable.fold_names[number], seconds, left_out)


def _require_text(task: Task, root: str) -> None:
    """Every label can be written: names of folders need not be UTF-8."""
    for label in task.classes:
        try:
            label.encode()
        except UnicodeEncodeError as error:
            raise TaskError(
                f"{root}: the label {label!r} is not UTF-8, and no result could be written with it; rename its "
                "folder"
            ) from error


def crop_frames(recipe: FinetuneRecipe, clips: LabelledClips, logmel: LogMelConfig, longest: int) -> int:
    """Log-mel frames of a training crop: the recipe's, else what holds the unit or most clips, up to `longest`."""
    if recipe.frames is not None:
        return recipe.frames
    unit = clips.task.unit_seconds
    seconds = unit if unit is not None else float(np.quantile(clips.durations[clips.split.train], MOST))
    frames = logmel.frames(round(seconds * logmel.sample_rate))
    return max(PATCH, min(frames // PATCH * PATCH, longest))


def sampling_weights(recipe: FinetuneRecipe, clips: LabelledClips) -> np.ndarray | None:
    """By the rarity of the labels where the recipe is balanced; None for all alike.

    Raises:
        TaskError: a balanced recipe and training clips without any label, which it could never draw.
    """
    if not recipe.balanced:
        return None
    labels = clips.label_matrix()
    bare = np.flatnonzero(~labels.any(axis=1))
    if bare.size:
        path = clips.task.paths[clips.split.train[bare[0]]]
        raise TaskError(
            f"{clips.task.name}: {bare.size} training clips have no label, first {path}; a balanced recipe draws "
            "clips by their labels: label them, take them out, or pass --balanced false"
        )
    return label_weights(labels)


class LabelledBatches(Sampler[list[Key]]):
    """Keys of one process's batches for the steps first_step … plan.steps − 1; a step's batch is the same however
    many processes share it.

    Args:
        plan: batch size and steps.
        weights: of the training clips, for balanced drawing; None for all alike.
        seed: of the order.
        rank: of this process.
        first_step: where a resumed run goes on.
    """

    def __init__(
        self, plan: FinetunePlan, weights: np.ndarray | None, seed: int, rank: int = 0, first_step: int = 0
    ) -> None:
        self.plan, self.weights, self.seed, self.rank, self.first_step = plan, weights, seed, rank, first_step

    def __len__(self) -> int:
        return max(0, self.plan.steps - self.first_step)

    def __iter__(self) -> Iterator[list[Key]]:
        plan, per_epoch = self.plan, self.plan.steps_per_epoch
        epoch, batches = -1, np.empty((0, 0), np.int64)
        for step in range(self.first_step, plan.steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = epoch_order(plan.clips, self.seed, epoch, plan.epoch_clips, self.weights)
                batches = rank_share(order, self.rank, plan.processes, plan.batch_size)
            yield [(epoch, number) for number in batches[step % per_epoch].tolist()]
