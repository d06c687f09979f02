"""What a fine-tuning run leaves beside its weights: results.json, classes.csv and report.html."""

import csv
import io
import json
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from matpac import __version__
from matpac.atomic import escaped, write_text
from matpac.finetune.evaluation import PartScore
from matpac.finetune.job import Finetuned
from matpac.finetune.options import FinetuneOptions
from matpac.probe.results import by_class
from matpac.report import (
    CONFUSION_CLASSES,
    Panel,
    Report,
    Table,
    class_scores,
    confusion,
    confusion_counts,
    loss_curves,
)

PANELS = (
    Panel("Loss", {"loss": "training"}),
    Panel("Validation score", {"valid/score": "validation part"}),
    Panel("Learning rate", {"learning_rate": "of the head"}, smooth=False),
)


def write_results(done: Finetuned, score: PartScore, recipe: str, options: FinetuneOptions) -> None:
    """results.json and classes.csv in the run folder, each whole or not at all. Scores are shares."""
    task = done.clips.task
    classes = by_class(task.classes, score.per_class)
    record = {
        "task": task.name,
        "fold": done.clips.fold.name,
        "encoder": options.encoder,
        "recipe": recipe,
        "seed": options.seed,
        "metric": score.metric,
        "test": score.value,
        "roc_auc": score.roc_auc,
        "d_prime": score.d_prime,
        "validation": done.valid,
        "epoch": done.epoch,
        "tested": score.clips,
        "used": done.used,
        "total": task.total,
        "seconds": done.seconds,
        "per_class": classes,
        "notes": task.notes,
    }
    write_text(done.folder / "results.json", escaped(json.dumps(record, indent=2, ensure_ascii=False)) + "\n")
    text = io.StringIO()
    rows = [[name, "" if value is None else value] for name, value in classes.items()]
    csv.writer(text, lineterminator="\n").writerows([["class", score.metric], *rows])
    write_text(done.folder / "classes.csv", escaped(text.getvalue()))


def write_page(done: Finetuned, score: PartScore, options: FinetuneOptions, command: Sequence[str]) -> Path:
    """report.html in the run folder: scores, learning curves, classes, confusions; one file that stands alone."""
    task = done.clips.task
    report = Report(f"Fine-tuning on {task.name}", f"Test {score}; fold {done.clips.fold.name}.")
    report.section("Scores")
    rows = [
        [f"Test {score.metric}", f"{100 * score.value:.1f} %"],
        [f"Validation {score.metric}, epoch {done.epoch}", f"{100 * done.valid:.1f} %"],
    ]
    if score.roc_auc is not None:
        rows += [["Test ROC-AUC", f"{100 * score.roc_auc:.1f} %"], ["Test d′", f"{score.d_prime:.3f}"]]
    rows.append(["Clips used", f"{done.used} of {task.total}"])
    report.table(Table(["What", "Value"], rows))
    report.note("One run with one seed: differences from another run may be random. The test part chose nothing.")
    for note in task.notes:
        report.note(note)
    report.section("Learning")
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    report.figure(loss_curves(lines, PANELS), "Loss and validation score by step.", "Learning curves.")
    report.section("Classes")
    _classes(report, done, score)
    report.section("What was run")
    report.code(shlex.join(command))
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}"
    report.facts({"matpac": __version__, "versions": versions, "encoder": options.encoder, "seed": options.seed})
    return report.write(done.folder / "report.html")


def _classes(report: Report, done: Finetuned, score: PartScore) -> None:
    """Scores of each class, and which classes are confused."""
    task, found = done.clips.task, done.found
    scored = {name: value for name, value in by_class(task.classes, score.per_class).items() if value is not None}
    if scored:
        figure = class_scores(list(scored), np.array(list(scored.values())), metric=task.metric)
        report.figure(figure, "Scores of each class on the test part.", f"One bar per class of {task.name}.")
    classes = len(task.classes)
    if found is not None and task.kind == "single" and classes <= CONFUSION_CLASSES:
        matrix = confusion_counts(task.labels[found.rows], found.logits.argmax(1), classes)
        figure = confusion(matrix, task.classes)
        report.figure(figure, "Which classes are confused.", f"Confusion matrix of {task.name}.")
