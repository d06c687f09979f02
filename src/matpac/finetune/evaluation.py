"""The score of an encoder with a head on a part of a task, by the path that `matpac.load` gives."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Integer

from matpac.errors import Skipped, describe_skipped
from matpac.model.embedder import Embedder
from matpac.model.gather import Mean
from matpac.probe.metrics import roc_auc, task_score
from matpac.tasks import Task, TaskError
from matpac.vectors.road import Road

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric


@dataclass(frozen=True, eq=False)
class Prediction:
    """Logits of a part of a task.

    Args:
        logits: of the clips that could be decoded.
        rows: their numbers in the task.
        skipped: the other clips.
    """

    logits: Float[np.ndarray, "clip class"]
    rows: Integer[np.ndarray, " clip"]
    skipped: list[Skipped]


@dataclass(frozen=True, eq=False)
class PartScore:
    """Score of a part of a task; scores are shares.

    Args:
        metric: accuracy or mAP.
        value: of the whole part.
        per_class: NaN for a class without clips.
        clips: that were scored.
        roc_auc: macro; None for one label per clip, and where no class has clips with and without it.
    """

    metric: str
    value: float
    per_class: Float[np.ndarray, " class"]
    clips: int
    roc_auc: float | None = None

    @property
    def d_prime(self) -> float | None:
        """√2 · Φ⁻¹(ROC-AUC), as AudioSet's papers report it: how far two normal distributions are apart."""
        if self.roc_auc is None:
            return None
        from scipy.stats import norm

        return math.sqrt(2) * float(norm.ppf(self.roc_auc))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval (Wilson's) of an accuracy: what another test part of the same size could have given."""
        if self.metric != "accuracy":
            return None
        from scipy.stats import binomtest

        found = binomtest(round(self.value * self.clips), self.clips).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        text = f"{self.metric} {100 * self.value:.1f} % of {self.clips} clips"
        if self.interval is not None:
            text += f" (95 % interval {100 * self.interval[0]:.0f}–{100 * self.interval[1]:.0f} %)"
        if self.roc_auc is not None:
            text += f", ROC-AUC {100 * self.roc_auc:.1f} %, d′ {self.d_prime:.3f}"
        return text


def predict(
    embedder: Embedder, task: Task, rows: Integer[np.ndarray, " part"], fabric: "Fabric | None" = None
) -> Prediction:
    """Logits of whole clips (cut or padded to the task's unit), shared over the processes of `fabric`.

    Raises:
        TaskError: not one clip could be decoded.
    """
    rank, world = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    mine = rows[rank::world].tolist()
    logits: dict[int, np.ndarray] = {}
    reasons: dict[int, str] = {}
    road = Road(embedder, Mean, unit_seconds=task.unit_seconds)
    for number, row in zip(mine, road.rows(task.paths[number] for number in mine), strict=True):
        if row.vectors is None:
            reasons[number] = row.error
        else:
            logits[number] = embedder.scene_logits(row.vectors)[0].numpy()
    if world > 1:
        parts = [(logits, reasons)] * world
        torch.distributed.all_gather_object(parts, (logits, reasons))
        for other_logits, other_reasons in parts:
            logits |= other_logits
            reasons |= other_reasons
    skipped = [Skipped(task.paths[number], reasons[number]) for number in sorted(reasons)]
    if not logits:
        raise TaskError(f"{task.name}: none of {len(rows)} clips could be decoded; {describe_skipped(skipped)}")
    decoded = np.array([number for number in rows.tolist() if number in logits])
    return Prediction(np.stack([logits[number] for number in decoded.tolist()]), decoded, skipped)


def score(task: Task, part: str, found: Prediction) -> PartScore:
    """Accuracy, or mAP with ROC-AUC and d′, by the metrics of `matpac.probe`.

    Args:
        task: its labels.
        part: its name, for errors.
        found: logits of the part, as far as it could be decoded.

    Raises:
        TaskError: no clip that has a label was decoded, so that there is nothing to score.
        ValueError: logits that are NaN.
    """
    result = task_score(task, found.rows, found.logits)
    if math.isnan(result.value):
        raise TaskError(
            f"{task.name}: no clip of its {part} part that has a label could be decoded, so that there is no "
            f"{task.metric}; {describe_skipped(found.skipped)}; repair these files and continue with --resume"
        )
    known = None if task.known is None else task.known[found.rows]
    area = math.nan if task.kind == "single" else roc_auc(found.logits, task.labels[found.rows], known).value
    clips = len(found.rows)
    return PartScore(task.metric, result.value, result.per_class, clips, None if math.isnan(area) else area)
