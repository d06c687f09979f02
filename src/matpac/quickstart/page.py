"""The quickstart's report: how the encoder learned, what it is worth, and what to type next."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from matpac.audio import read
from matpac.files.tensor_files import read_tensors
from matpac.model.logmel import LogMel, band_frequencies, frame_centres
from matpac.pretrain import Objective, Temperatures
from matpac.pretrain.losses import HARD_TEMPERATURE
from matpac.pretrain.masking import mask_noise, split_by_noise
from matpac.pretrain.recipes import Recipe
from matpac.probe.metrics import accuracy
from matpac.probe.run import Outcome
from matpac.report import (
    MaskedClip,
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
    """Contents of the page.

    Args:
        outcome: scores of the probes.
        tasks: what was probed.
        encoders: their names; the first is the one that was trained.
        metrics: log lines of the pre-training.
        masked: a held-out clip through the pretext task.
        facts: what was run, where, for how long.
        next_commands: what to type next.
    """

    outcome: Outcome
    tasks: Sequence[Task]
    encoders: Sequence[str]
    metrics: Path
    masked: MaskedClip
    facts: Mapping[str, object]
    next_commands: str


def write_page(story: Story, path: Path) -> Path:
    """Write the page as one self-contained file."""
    report = Report(
        "MATPAC++ quickstart",
        "A small encoder, pre-trained here on synthetic sounds without labels, beside the encoder that comes with "
        "matpac (pre-trained longer, on other sounds), its own untrained start, and plain log-mel statistics.",
    )
    _scores(report, story)
    _training(report, story)
    report.section("The vectors, in two dimensions")
    for task in story.tasks:
        if task.kind == "single":
            test = task.folds[0].test
            labels = [task.classes[number] for number in task.labels[test]]
            vectors = {
                name: np.asarray(story.outcome.linear[task.name, name].vectors[test]) for name in story.encoders
            }
            report.figure(
                projections(vectors, labels, marks(story.encoders)),
                f"t-SNE of the test clips of {task.name}, coloured by label.",
                f"Clips of {task.name} as points, one panel per encoder.",
            )
    report.section("What next")
    report.code(story.next_commands)
    report.facts(story.facts, fold="What was run")
    return report.write(path)


def _scores(report: Report, story: Story) -> None:
    results = [cell.record.result() for cell in story.outcome.linear.values()]
    report.section("What the vectors are worth")
    report.text(
        "Linear probes on frozen vectors of labelled clips that pre-training never saw: one linear layer is "
        "trained for each task; its learning rate and length are chosen on validation clips, the same way for "
        "every encoder. Intervals are 95 % over three seeds of the probe."
    )
    report.table(results_table(results))
    report.figure(
        score_intervals(results, marks(story.encoders)),
        "Test scores; a line is the 95 % interval over seeds.",
        "Scores of all encoders on every task, with intervals.",
    )
    chances = {task.name: f"{100 * chance(task):.1f}" for task in story.tasks}
    trained = story.encoders[0]
    comparisons = [
        [task, other, test.verdict, chances[task]]
        for task, first, other, test in story.outcome.comparisons()
        if first == trained
    ]
    report.table(
        Table(
            ["task", f"{trained} against", "paired test over seeds", "chance, %"],
            comparisons,
            "Three seeds of the probe on one split and one pre-training: the test shows whether the probes "
            "differ, not whether another pre-training would.",
        ),
        fold="Is the difference beyond the noise? Paired over seeds",
    )
    report.table(details_table(results), fold="Seeds, learning rates and clips")


def _training(report: Report, story: Story) -> None:
    report.section("How it learned")
    report.figure(
        loss_curves([json.loads(line) for line in story.metrics.read_text().splitlines()]),
        "Losses and monitors of pre-training. A standard deviation that falls to 0, or one hypothesis that wins "
        "everything, would be collapse.",
        "Losses, standard deviation of targets, use of pseudo-classes, wins of hypotheses and schedules.",
    )
    report.figure(
        mask_figure(story.masked),
        "A held-out clip: its log-mel, what the student saw of it, and how far its best hypothesis for each "
        "masked patch is from the teacher's vector (2 − 2·cos; 0 is perfect, 2 unrelated).",
        "Spectrogram, the visible part of it, and the prediction error of every masked patch.",
    )


def chance(task: Task) -> float:
    """Score of guessing: the share of the most frequent training class, or the mean share of positives."""
    test = task.labels[task.folds[0].test]
    if task.kind == "multi":
        return float(test.mean())
    scores = np.tile(np.bincount(task.labels[task.folds[0].train], minlength=len(task.classes)), (len(test), 1))
    return accuracy(scores.astype(np.float32), test).value


def predict_masked(checkpoint: Path, recipe: Recipe, clip: Path, seed: int = 0) -> MaskedClip:
    """Mask one clip and predict it with the model of a training checkpoint."""
    objective = Objective(recipe.objective).eval()
    objective.load_state_dict(read_tensors(checkpoint / "model.safetensors")[0])
    encoder, config = recipe.objective.encoder, recipe.logmel
    waveform = np.resize(read(clip, config.sample_rate), recipe.crop_samples)
    logmel = LogMel(config)(torch.from_numpy(waveform)[None])
    split = split_by_noise(mask_noise(1, encoder.tokens, (seed,)), recipe.objective.mask_ratio)
    with torch.inference_mode():
        # at this temperature the loss of a token is that of its best hypothesis
        output = objective(logmel, split, Temperatures(HARD_TEMPERATURE, recipe.schedule.teacher_temperature_end))
    assert output.prediction is not None
    error = torch.full((encoder.bands, encoder.steps), torch.nan)
    error.view(-1)[split.masked[0]] = output.prediction[0]
    return MaskedClip(
        logmel[0].numpy(),
        ~error.isnan().numpy(),
        error.numpy(),
        frame_centres(config, encoder.frames),
        band_frequencies(config),
    )
