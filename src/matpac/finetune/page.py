"""The page of a fine-tuning run: scores, learning curves, classes, confusions."""

import json
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from matpac import __version__
from matpac.finetune.finetune import Finetuned, Tested
from matpac.finetune.options import FinetuneOptions
from matpac.probe.scores import by_class
from matpac.report import CONFUSION_CLASSES, Report, Table, class_scores, confusion, confusion_counts, loss_curves

PANELS = (
    ("Loss", {"loss": "training"}),
    ("Validation score", {"valid/score": "validation part"}),
    ("Learning rate", {"learning_rate": "of the head"}),
)
"""Of the learning curves."""


def write_page(done: Finetuned, test: Tested, options: FinetuneOptions, command: Sequence[str]) -> Path:
    """`report.html` in the run folder, one file without outside resources."""
    task, score = done.clips.task, test.score
    report = Report(
        f"Fine-tuning on {task.name}",
        f"Test {score}; fold {done.clips.fold}.",
    )
    report.section("Scores")
    rows = [
        [f"Test {score.metric}", f"{100 * score.value:.1f} %"],
        [f"Validation {score.metric}, epoch {done.epoch}", f"{100 * done.valid:.1f} %"],
    ]
    if score.roc_auc is not None:
        rows += [["Test ROC-AUC", f"{100 * score.roc_auc:.1f} %"], ["Test d′", f"{score.d_prime:.3f}"]]
    rows.append(["Clips used", f"{done.used} of {task.total}"])
    report.table(Table(["What", "Value"], rows))
    report.note("One run with one seed: a difference from another run may be chance. The test part chose nothing.")
    for note in task.notes:
        report.note(note)
    report.section("Learning")
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    report.figure(loss_curves(lines, PANELS), "Loss and validation score by step.", "Learning curves.")
    report.section("Classes")
    _classes(report, done, test)
    report.section("What was run")
    report.code(shlex.join(command))
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}"
    report.facts({"matpac": __version__, "versions": versions, "encoder": options.encoder, "seed": options.seed})
    return report.write(done.folder / "report.html")


def _classes(report: Report, done: Finetuned, test: Tested) -> None:
    """Scores of single classes, and what is taken for what."""
    task, score = done.clips.task, test.score
    named = [(name, value) for name, value in by_class(task.classes, score.per_class).items() if value is not None]
    if named:
        names, values = zip(*named, strict=True)
        report.figure(
            class_scores(list(names), np.array(values), metric=task.metric),
            "Scores of single classes on the test part.",
            f"One bar a class of {task.name}.",
        )
    rows, classes = test.prediction.rows, len(task.classes)
    if task.kind == "single" and classes <= CONFUSION_CLASSES:
        matrix = confusion_counts(task.labels[rows], test.prediction.logits.argmax(1), classes)
        report.figure(
            confusion(matrix, task.classes), "What is taken for what.", f"Confusion matrix of {task.name}."
        )
