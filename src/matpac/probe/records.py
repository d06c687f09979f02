"""What `matpac probe` writes about every encoder on every task: records as JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from matpac.atomic import escaped, write_text
from matpac.probe.metrics import roc_auc
from matpac.probe.results import ProbeResult, by_class
from matpac.report import Result
from matpac.tasks import Task


@dataclass(frozen=True)
class Record:
    """One encoder's score on one task by one probe. Scores are shares.

    Args:
        task: its name.
        encoder: its name.
        probe: `linear`, `knn`, `few_shot_5` (shots), `layer_7` (from 1), `weighting`, `attention`, `prototypes`.
        metric: accuracy or mAP.
        mean: over seeds and folds.
        ci95: half width of the 95 % interval over seeds (few-shot: over draws); None with a single run.
        seeds: of the probe.
        folds: their names.
        learning_rate: the distinct ones chosen on validation; none for a probe without training.
        used: clips that could be used.
        total: clips of the task.
        per_fold: means over seeds.
        per_class: means over seeds and folds; None for a class without test clips.
        roc_auc: macro, mean over seeds and folds, where clips have several labels.
        layer_weights: each layer's share, summing to 1: mean over seeds and folds (`weighting`), and over the
            gates of all classes (`prototypes`).
        seconds: of the probe; of the linear one with embedding.
        encoder_key: SHA-256 over weights and settings.
        notes: of the task.
    """

    task: str
    encoder: str
    probe: str
    metric: str
    mean: float
    ci95: float | None
    seeds: list[int]
    folds: list[str]
    learning_rate: list[float]
    used: int
    total: int
    per_fold: list[float] = field(default_factory=list)
    per_class: dict[str, float | None] = field(default_factory=dict)
    roc_auc: float | None = None
    layer_weights: list[float] = field(default_factory=list)
    seconds: float = 0.0
    encoder_key: str = ""
    notes: list[str] = field(default_factory=list)

    def result(self) -> Result:
        """As the report draws it."""
        return Result.from_record(asdict(self))


def make_record(
    task: Task, encoder: str, key: str, probe: str, found: ProbeResult, embedding: float = 0
) -> Record:
    """A record of a probe's result on the clips of `task`; `embedding` seconds are added to its own."""
    scored = ~np.isnan(found.per_class)
    counts = scored.sum(axis=(0, 1))
    sums = np.where(scored, found.per_class, 0).sum(axis=(0, 1))
    # a class that no test part has (or that has no positive there) has no score
    classes = np.where(counts, sums / np.maximum(counts, 1), np.nan)
    layers = found.learned.get("layers")
    return Record(
        task=task.name,
        encoder=encoder,
        probe=probe,
        metric=task.metric,
        mean=found.mean,
        ci95=None if math.isnan(found.ci95) else found.ci95,
        seeds=[int(seed) for seed in found.seeds],
        folds=[fold.name for fold in task.folds],
        learning_rate=np.unique(found.learning_rates).tolist(),
        used=len(task.paths),
        total=task.total,
        per_fold=found.scores.mean(axis=0).tolist(),
        per_class=by_class(task.classes, classes),
        roc_auc=_roc_auc(task, found) if task.kind == "multi" else None,
        layer_weights=[] if layers is None else layers.reshape(-1, layers.shape[-1]).mean(axis=0).tolist(),
        seconds=found.seconds + embedding,
        encoder_key=key,
        notes=list(task.notes),
    )


def _roc_auc(task: Task, found: ProbeResult) -> float | None:
    """Mean over seeds and folds; None where a test part has no class with both answers."""
    values = []
    for split, runs in zip(task.folds, found.predictions, strict=True):
        known = None if task.known is None else task.known[split.test]
        values += [roc_auc(run, task.labels[split.test], known).value for run in runs]
    mean = float(np.mean(values))
    return None if math.isnan(mean) else mean


def write_records(records: Sequence[Record], folder: Path) -> None:
    """results.json and results.csv, each whole or not at all; names' bytes that are not UTF-8 are escaped."""
    rows = [asdict(record) for record in records]
    write_text(folder / "results.json", escaped(json.dumps(rows, indent=2, ensure_ascii=False)) + "\n")
    columns = ("task", "encoder", "probe", "metric", "mean", "ci95", "roc_auc", "used", "total", "seconds")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([row[column] for column in columns] for row in rows)
    write_text(folder / "results.csv", escaped(text.getvalue()))
