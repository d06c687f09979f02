"""The page of `matpac probe`: scores beside published ones, and what is behind them."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from matpac import __version__
from matpac.probe.published_scores import published_results
from matpac.probe.records import Record
from matpac.probe.run import LAYER, Outcome, TaskOutcome
from matpac.report import (
    CONFUSION_CLASSES,
    Cell,
    Mark,
    Report,
    Table,
    class_scores,
    confusion,
    confusion_counts,
    details_table,
    layers_curve,
    marks,
    projections,
    results_table,
    score_intervals,
)
from matpac.tasks import Task

MISSING_SHOWN = 50
"""Clips that could not be used, shown by name; results.json counts them all."""

HARDEST = 12
"""Clips shown of those that probes get most wrong."""

MOST_COMPARISONS = 12
"""Comparisons up to which they are shown at once, and not behind a line."""

PUBLISHED_SHOWN = 6
"""Published encoders beside the measured ones, the best of them; results.json does not have them."""

ABOUT = {
    "linear": "on the clip's vector",
    "knn": "votes of the 10 nearest training clips",
    "few_shot": "nearest mean of so many clips per class, 10 draws",
    "weighting": "linear on a learned mixture of layers",
    "attention": "linear on tokens pooled by attention",
    "prototypes": "sought in every token of all layers",
}
"""By the beginning of a probe's name."""


def write_page(outcome: Outcome, path: Path, command: str) -> Path:
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
        rows = [[Cell(f"{task}: {test.verdict}")] for task, _, _, test in comparisons]
        about = "Is a difference beyond the noise?"
        report.table(
            Table([about], rows, "Paired t-tests over seeds and folds."),
            fold=about if len(rows) > MOST_COMPARISONS else "",
        )
    for line in outcome.not_compared():
        report.note(line)
    report.table(details_table(measured), fold="Seeds, learning rates and clips")
    _published(report, outcome)
    for task in outcome.tasks:
        cells = outcome.of_task(task)
        others = [record for record in outcome.others if record.task == task]
        report.section(task)
        _notes(report, cells)
        if others:
            _other_probes(report, [cell.record for cell in cells], others, colours)
        _task(report, cells, colours)
    report.section("What was run")
    if outcome.skipped:
        report.table(Table(["Why"], [[line] for line in outcome.skipped]), fold="Probes that were skipped")
    report.code(command)
    report.facts(
        {
            "matpac": __version__,
            "versions": f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}",
            **{f"encoder {c.encoder}": c.record.encoder_key for c in outcome.linear.values()},
        }
    )
    return report.write(path)


def _published(report: Report, outcome: Outcome) -> None:
    """Papers' scores on the same corpora, marked as theirs; a table of one's own may have any name."""
    found = {name: published_results(cell.task.corpus) for (name, _), cell in outcome.linear.items()}
    published = [result for results in found.values() for result in results]
    if published:
        measured = [cell.record.result() for (task, _), cell in outcome.linear.items() if found[task]]
        report.table(results_table([*measured, *published]), fold="Beside the published scores, as a table")
    for task, results in found.items():
        if results := results[:PUBLISHED_SHOWN]:
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


def _notes(report: Report, cells: Sequence[TaskOutcome]) -> None:
    """What the task's reader has to say, and the clips that an encoder could not use."""
    for note in dict.fromkeys(note for cell in cells for note in cell.task.notes):
        report.note(note)
    users: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        for clip in cell.task.missing:
            users.setdefault(clip, []).append(cell.encoder)
    if users:
        rows = [
            [Path(path).name, reason, "all" if len(names) == len(cells) else ", ".join(names)]
            for (path, reason), names in list(users.items())[:MISSING_SHOWN]
        ]
        clips = len({path for path, _ in users})
        report.table(
            Table(["Clip", "Why", "Encoders"], rows), fold=f"{clips} of {cells[0].task.total} clips not used"
        )


def _other_probes(
    report: Report, linear: Sequence[Record], others: Sequence[Record], colours: Mapping[str, Mark]
) -> None:
    """Tables and the curve over layers of one task."""
    encoders = [record.encoder for record in linear]
    beside = [record for record in others if not record.probe.startswith(LAYER)]
    if beside:
        report.table(_scores([*linear, *beside], encoders, "Every probe on the same clips and splits."))
    curves = {
        name: [record.result() for record in others if record.encoder == name and record.probe.startswith(LAYER)]
        for name in encoders
    }
    curves = {name: results for name, results in curves.items() if results}
    if curves:
        report.figure(
            layers_curve(curves, colours),
            "A linear probe on each layer, with 95 % intervals over seeds. The best layer is chosen on test clips "
            "here: for the eye, not for a comparison.",
            "Test score by layer, one line per encoder.",
        )
        layers = [record for record in others if record.probe.startswith(LAYER)]
        report.table(_scores(layers, list(curves), "A linear probe on each layer."), fold="Scores of all layers")
    weighted = [record for record in others if record.layer_weights]
    if weighted:
        report.table(_weights(weighted), fold="What each layer counts in mixtures and gates that are learned")


def _scores(records: Sequence[Record], encoders: Sequence[str], caption: str) -> Table:
    """Probes down, encoders across."""
    scores = {(record.probe, record.encoder): record.result().score for record in records}
    rows = [
        [_probe_cell(probe), *(Cell(scores.get((probe, name), "–")) for name in encoders)]
        for probe in dict.fromkeys(record.probe for record in records)
    ]
    metric = records[0].metric
    return Table(["Probe", *encoders], rows, f"{caption} Test {metric} in per cent, ± half the 95 % interval.")


def _probe_cell(name: str) -> Cell:
    about = next((text for start, text in ABOUT.items() if name.startswith(start)), "")
    return Cell(name.replace("_", " "), note=about)


def _weights(records: Sequence[Record]) -> Table:
    """Layers down, since there may be many, encoders across."""
    deepest = max(len(record.layer_weights) for record in records)
    rows = [
        [
            f"layer {layer + 1}",
            *(
                f"{100 * record.layer_weights[layer]:.1f} %" if layer < len(record.layer_weights) else "–"
                for record in records
            ),
        ]
        for layer in range(deepest)
    ]
    caption = (
        "Mean over seeds and folds, of prototypes over classes too. Layers are standardised first, so that their "
        "weights can be compared."
    )
    return Table(["Layer", *(Cell(record.encoder, note=record.probe) for record in records)], rows, caption)


def _task(report: Report, cells: Sequence[TaskOutcome], colours: Mapping[str, Mark]) -> None:
    """One task: classes, confusion, projection and the hardest clips, of the encoder with the best score."""
    best = max(cells, key=lambda cell: cell.record.mean)
    task = best.task
    scores = [best.record.per_class.get(name) for name in task.classes]
    named = [(name, score) for name, score in zip(task.classes, scores, strict=True) if score is not None]
    if named:
        names, values = zip(*named, strict=True)
        report.figure(
            class_scores(list(names), np.array(values), metric=task.metric, colour=colours[best.encoder].colour),
            f"Scores of single classes, {best.encoder}.",
            f"One bar per class of {task.name}.",
        )
    probabilities, rows = _predictions(best)
    if task.kind == "single" and len(task.classes) <= CONFUSION_CLASSES:
        matrix = confusion_counts(task.labels[rows], probabilities.argmax(1), len(task.classes))
        report.figure(
            confusion(matrix, task.classes),
            f"What {best.encoder} takes for what, over all test parts (first seed).",
            f"Confusion matrix of {task.name}.",
        )
    report.table(_hardest(best, probabilities, rows), fold=f"Hardest clips of {best.encoder}")
    shown = np.unique(rows)
    vectors = {
        cell.encoder: np.asarray(cell.vectors[shown], np.float32)
        for cell in cells
        if cell.task.paths == task.paths
    }
    report.figure(
        projections(vectors, [_label(task, clip) for clip in shown.tolist()], colours=colours),
        f"Vectors of the test clips of {task.name} in two dimensions.",
        f"Clips of {task.name} as points, one panel per encoder.",
    )


def _positives(task: Task, clip: int) -> list[int]:
    """Numbers of the classes that a clip is known to have."""
    return np.flatnonzero(task.positives(np.array([clip]))[0]).tolist()


def _label(task: Task, clip: int) -> str:
    """What a point is coloured by."""
    numbers = _positives(task, clip)
    return task.classes[numbers[0]] if len(numbers) == 1 else "several labels" if numbers else "no label"


def _predictions(cell: TaskOutcome) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the first seed's heads on all test clips, and those clips' numbers."""
    logits = torch.from_numpy(np.concatenate([fold[0] for fold in cell.probe.predictions])).double()
    probabilities = logits.softmax(dim=1) if cell.task.kind == "single" else logits.sigmoid()
    return probabilities.numpy(), np.concatenate([split.test for split in cell.task.folds])


def _hardest(cell: TaskOutcome, probabilities: np.ndarray, rows: np.ndarray) -> Table:
    """The test clips that have the least probability of a class which they are of."""
    task = cell.task
    missed = []
    for place, clip in enumerate(rows.tolist()):
        numbers = _positives(task, clip)
        if numbers:
            number = min(numbers, key=lambda each: probabilities[place, each])
            missed.append((float(probabilities[place, number]), place, clip, number))
    table = [
        [
            Path(task.paths[clip]).name,
            task.classes[number],
            task.classes[int(probabilities[place].argmax())],
            f"{100 * probability:.1f} %",
        ]
        for probability, place, clip, number in sorted(missed)[:HARDEST]
    ]
    return Table(["Clip", "Is", "Most likely, by the probe", "Probability of what it is"], table)
