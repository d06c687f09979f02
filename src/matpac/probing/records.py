"""What `matpac probe` writes of every encoder on every task: records as JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from matpac.downstream.probe import ProbeResult
from matpac.downstream.tasks import Task
from matpac.report import Result
from matpac.training.run import write_text


@dataclass(frozen=True)
class Record:
    """One encoder's score on one task by one probe. Scores are shares."""

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
    seconds: float = 0.0
    encoder_key: str = ""
    notes: list[str] = field(default_factory=list)

    def result(self) -> Result:
        """As the report draws it."""
        return Result.from_record(asdict(self))


def make_record(
    task: Task, encoder: str, key: str, probe: str, found: ProbeResult, seeds: Sequence[int], seconds: float
) -> Record:
    """A record of a trained probe's result."""
    scored = ~np.isnan(found.per_class)
    counts = scored.sum(axis=(0, 1))
    # a class that no test part has (or that has no positive there) has no score
    classes = np.where(
        counts, np.where(scored, found.per_class, 0).sum(axis=(0, 1)) / np.maximum(counts, 1), np.nan
    )
    return Record(
        task=task.name,
        encoder=encoder,
        probe=probe,
        metric=task.metric,
        mean=float(found.mean),
        ci95=None if math.isnan(found.ci95) else float(found.ci95),
        seeds=[int(seed) for seed in seeds],
        folds=list(task.fold_names),
        learning_rate=sorted({float(rate) for rate in np.ravel(found.learning_rates)}),
        used=len(task.paths),
        total=task.total,
        per_fold=[float(score) for score in found.scores.mean(axis=0)],
        per_class={
            name: None if math.isnan(score) else float(score)
            for name, score in zip(task.classes, classes.tolist(), strict=False)
        },
        seconds=seconds,
        encoder_key=key,
        notes=list(task.notes),
    )


def write_records(records: Sequence[Record], folder: Path) -> None:
    """results.json and results.csv, each whole or not at all."""
    rows = [asdict(record) for record in records]
    write_text(folder / "results.json", json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    columns = ("task", "encoder", "probe", "metric", "mean", "ci95", "used", "total", "seconds")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([row[column] for column in columns] for row in rows)
    write_text(folder / "results.csv", text.getvalue())
