"""The quickstart's report: how the encoder learned, what it is worth, and what to type next."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from matpac.probe.metrics import accuracy
from matpac.probe.run import Outcome
from matpac.quickstart.masks import MaskedClip
from matpac.report import (
    Cell,
    Report,
    Table,
    details_table,
    loss_curves,
    marks,
    mask_figure,
    projections,
    results_table,
    score_intervals,
)
from matpac.tasks import Task


@dataclass(frozen=True)
class Story:
    """What the page tells of."""

    outcome: Outcome
    tasks: Sequence[Task]
    encoders: Sequence[str]
    metrics: Path
    masked: MaskedClip
    facts: Mapping[str, object]
    next_commands: str


def write_page(story: Story, path: Path) -> Path:
    """Write the page as one file without outside resources."""
    colours = marks(story.encoders)
    report = Report(
        "MATPAC++ quickstart",
        "A small encoder, pre-trained here on made-up sounds without labels, beside the encoder that comes with "
        "matpac (pre-trained longer, on other sounds), the first one untrained, and plain log-mel statistics.",
    )
    results = [cell.record.result() for cell in story.outcome.linear.values()]
    report.section("What the vectors are worth")
    report.text(
        "Linear probes on frozen vectors of labelled clips that pre-training never saw: one linear layer is "
        "trained for each task; its learning rate and length are chosen on validation clips, the same way for "
        "every encoder. Intervals are 95 % over three seeds of the probe."
    )
    report.table(results_table(results))
    report.figure(
        score_intervals(results, colours),
        "Test scores; a line is the 95 % interval over seeds.",
        "Scores of all encoders on every task, with intervals.",
    )
    report.table(comparison_table(story), fold="Is the difference beyond the noise? Paired over seeds")
    report.table(details_table(results), fold="Seeds, learning rates and clips")

    report.section("How it learned")
    lines = [json.loads(line) for line in story.metrics.read_text().splitlines()]
    report.figure(
        loss_curves(lines),
        "Losses and monitors of pre-training. A deviation that falls to 0 would be collapse; one hypothesis that "
        "wins everything would be, too.",
        "Curves of losses, deviation of targets, use of pseudo-classes, wins of hypotheses and schedules.",
    )
    clip = story.masked
    report.figure(
        mask_figure(clip.logmel, clip.masked, clip.error, clip.times, clip.frequencies),
        "A held-out clip: its log-mel, what the student saw of it, and how far its best hypothesis for each "
        "masked patch is from the teacher's (2 − 2·cos; 0 is perfect, 2 unrelated).",
        "Spectrogram, the visible part of it, and the prediction error of every masked patch.",
    )

    report.section("The vectors, in two dimensions")
    for task in story.tasks:
        if task.kind == "single":
            test = task.folds[0].test
            labels = [task.classes[number] for number in task.labels[test]]
            vectors = {
                name: np.asarray(story.outcome.linear[task.name, name].vectors[test]) for name in story.encoders
            }
            report.figure(
                projections(vectors, labels, colours=colours),
                f"t-SNE of the test clips of {task.name}, coloured by label.",
                f"Clips of {task.name} as points, one panel an encoder.",
            )

    report.section("What next")
    report.code(story.next_commands)
    report.facts(story.facts, fold="What was run")
    return report.write(path)


def comparison_table(story: Story) -> Table:
    """The pre-trained encoder against each of the others, task by task."""
    guesses = {task.name: f"{100 * chance(task):.1f}" for task in story.tasks}
    rows = [
        [task, other, test.verdict, guesses[task]]
        for task, first, other, test in story.outcome.comparisons()
        if first == story.encoders[0]
    ]
    return Table(
        ["task", f"{story.encoders[0]} against", "paired test over seeds", "chance, %"],
        [[Cell(text) for text in row] for row in rows],
        "Three seeds of the probe on one split and one pre-training: the test says whether the probes differ, not "
        "whether another pre-training would.",
    )


def chance(task: Task) -> float:
    """What guessing scores: the largest class, or the mean share of positives."""
    test = task.labels[task.folds[0].test]
    if task.kind == "multi":
        return float(test.mean())
    scores = np.tile(np.bincount(task.labels[task.folds[0].train], minlength=len(task.classes)), (len(test), 1))
    return accuracy(scores.astype(np.float32), test).value
