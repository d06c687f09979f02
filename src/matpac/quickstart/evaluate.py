"""Linear probes of three frozen features on the labelled parts of the synthetic corpus."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from matpac.audio import read
from matpac.downstream.encoders import FrozenEncoder
from matpac.downstream.metrics import accuracy
from matpac.downstream.probe import ProbeConfig, ProbeResult, linear_probe
from matpac.downstream.tasks import Task
from matpac.report import Result
from matpac.training.run import write_text


@dataclass(frozen=True)
class Evaluation:
    """Scores of all encoders on all tasks, and what the report draws of them."""

    results: list[Result]
    probes: dict[tuple[str, str], ProbeResult]
    """By task and encoder."""
    vectors: dict[tuple[str, str], Float[np.ndarray, "clip width"]]
    """By task and encoder, of all clips of the task."""

    def write(self, path: Path) -> None:
        """The records as JSON."""
        records = [
            {
                "task": result.task,
                "encoder": result.encoder,
                "metric": result.metric,
                "mean": result.mean,
                "ci95": None if math.isnan(result.ci95) else result.ci95,
                "seeds": list(result.seeds),
                "folds": result.folds,
                "learning_rate": list(result.learning_rates),
                "used": result.used,
                "total": result.total,
            }
            for result in self.results
        ]
        write_text(path, json.dumps(records, indent=2) + "\n")


def evaluate(
    encoders: Mapping[str, FrozenEncoder],
    tasks: Sequence[Task],
    config: ProbeConfig,
    say: Callable[[str], None],
) -> Evaluation:
    """Embed every task's clips once with each encoder, and train its probes."""
    results: list[Result] = []
    probes: dict[tuple[str, str], ProbeResult] = {}
    vectors: dict[tuple[str, str], np.ndarray] = {}
    for task in tasks:
        clips = [read(path) for path in task.paths]
        for name, encoder in encoders.items():
            features = encoder.embed(clips).numpy()
            probe = linear_probe(features, task.labels, task.splits, config, kind=task.kind)
            vectors[task.name, name], probes[task.name, name] = features, probe
            result = Result(
                task=task.name,
                encoder=name,
                metric=task.metric,
                mean=float(probe.mean),
                ci95=float(probe.ci95),
                seeds=tuple(config.seeds),
                learning_rates=tuple(sorted({float(rate) for rate in np.ravel(probe.learning_rates)})),
                used=len(task.paths),
                total=task.total,
            )
            results.append(result)
            say(f"{task.name}: {name} {result.score} % {result.metric}")
    return Evaluation(results, probes, vectors)


def chance(task: Task) -> float:
    """What guessing scores: the largest class, or the mean share of positives."""
    test = task.labels[task.splits[0].test]
    if task.kind == "multi":
        return float(test.mean())
    scores = np.tile(np.bincount(task.labels[task.splits[0].train], minlength=len(task.classes)), (len(test), 1))
    return accuracy(scores.astype(np.float32), test).value
