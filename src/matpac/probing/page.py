"""The page of `matpac probe`: scores beside published ones, and what is behind them."""

import platform
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from matpac import __version__
from matpac.probing.published_scores import published_results
from matpac.probing.run import Outcome, TaskOutcome
from matpac.report import (
    Cell,
    Report,
    Table,
    class_scores,
    confusion,
    details_table,
    marks,
    projections,
    results_table,
    score_intervals,
)

MOST_CLASSES = 60
"""Classes up to which a confusion matrix can be read."""

HARDEST = 12
"""Clips shown of those that probes get most wrong."""

PUBLISHED_SHOWN = 6
"""Published encoders beside the measured ones, the best of them; results.json is not filled with them."""


def write_page(outcome: Outcome, path: Path, command: Sequence[str]) -> Path:
    """Write the page as one file without outside resources."""
    colours = marks(outcome.encoders)
    measured = [cell.record.result() for cell in outcome.linear.values()]
    report = Report(
        "Linear probes of frozen encoders",
        f"{len(outcome.encoders)} encoders on {len(outcome.tasks)} tasks, one protocol for all.",
    )
    report.section("Scores")
    report.table(results_table(measured))
    report.figure(
        score_intervals(measured, colours), "Test scores with 95 % intervals over seeds.", "Scores by task."
    )
    if comparisons := outcome.comparisons():
        rows = [[task, Cell(test.verdict)] for task, _, _, test in comparisons]
        report.table(
            Table(["Task", "Paired over seeds and folds"], rows), fold="Is a difference beyond the noise?"
        )
    report.table(details_table(measured), fold="Seeds, learning rates and clips")
    _published(report, outcome)
    for task in outcome.tasks:
        _task(
            report,
            [outcome.linear[task, name] for name in outcome.encoders if (task, name) in outcome.linear],
            colours,
        )
    report.section("What was run")
    report.code(shlex.join(command))
    report.facts(
        {
            "matpac": __version__,
            "versions": f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}",
            **{f"encoder {c.encoder}": c.record.encoder_key for c in outcome.linear.values()},
        }
    )
    return report.write(path)


def _published(report: Report, outcome: Outcome) -> None:
    """Papers' scores on the same tasks, marked as theirs."""
    for task in outcome.tasks:
        results = published_results(task)[:PUBLISHED_SHOWN]
        if results:
            mine = [
                outcome.linear[task, name].record.result()
                for name in outcome.encoders
                if (task, name) in outcome.linear
            ]
            report.figure(
                score_intervals([*mine, *results]),
                f"{task} beside the best published scores (hollow): the papers' figures, not measured here, "
                "and only comparable where the whole corpus was used.",
                f"Measured and published scores on {task}.",
            )


def _task(report: Report, cells: Sequence[TaskOutcome], colours: dict) -> None:
    """One task: notes, classes, confusion, projection and the hardest clips."""
    task = cells[0].task
    report.section(task.name)
    for note in task.notes:
        report.note(note)
    if task.missing:
        rows = [[Path(path).name, reason] for path, reason in task.missing[:50]]
        report.table(
            Table(["Clip", "Why"], rows), fold=f"{len(task.missing)} of {task.total} clips could not be used"
        )
    best = max(cells, key=lambda cell: cell.record.mean)
    scores = [best.record.per_class.get(name) for name in task.classes]
    named = [(name, score) for name, score in zip(task.classes, scores, strict=True) if score is not None]
    if named:
        names, values = zip(*named, strict=True)
        report.figure(
            class_scores(list(names), np.array(values), metric=task.metric, colour=colours[best.encoder].colour),
            f"Scores of single classes, {best.encoder}.",
            f"One bar a class of {task.name}.",
        )
    if task.kind == "single":
        predicted, rows = _single_predictions(best)
        truth = task.labels[rows]
        if len(task.classes) <= MOST_CLASSES:
            matrix = np.zeros((len(task.classes), len(task.classes)), np.int64)
            np.add.at(matrix, (truth, predicted.argmax(1)), 1)
            report.figure(
                confusion(matrix, task.classes),
                f"What {best.encoder} takes for what, over all test parts (first seed).",
                f"Confusion matrix of {task.name}.",
            )
        report.table(_hardest(best, predicted, rows), fold=f"Hardest clips of {best.encoder}")
        shown = np.unique(np.concatenate([split.test for split in task.splits]))
        labels = [task.classes[number] for number in task.labels[shown]]
        vectors = {
            cell.encoder: np.asarray(cell.vectors[shown], np.float32)
            for cell in cells
            if len(cell.vectors) == len(task.paths)
        }
        report.figure(
            projections(vectors, labels, colours=colours),
            f"t-SNE of the test clips of {task.name}.",
            f"Clips of {task.name} as points, one panel an encoder.",
        )


def _single_predictions(cell: TaskOutcome) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the first seed's heads on all test clips, and those clips' numbers."""
    logits = np.concatenate([fold[0] for fold in cell.probe.predictions])
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True), np.concatenate([s.test for s in cell.task.splits])


def _hardest(cell: TaskOutcome, predicted: np.ndarray, rows: np.ndarray) -> Table:
    """The test clips whose true class has the least probability."""
    task = cell.task
    of_truth = predicted[np.arange(len(rows)), task.labels[rows]]
    table = []
    for place in np.argsort(of_truth, kind="stable")[:HARDEST]:
        clip = int(rows[place])
        table.append(
            [
                Path(task.paths[clip]).name,
                task.classes[int(task.labels[clip])],
                task.classes[int(predicted[place].argmax())],
                f"{100 * of_truth[place]:.1f} %",
            ]
        )
    return Table(["Clip", "Is", "Taken for", "Probability of what it is"], table)
