"""Probes beside the linear one: neighbours, few examples, layers, and tokens. Never instead of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from matpac.errors import MatpacError
from matpac.model.embedder import Embedder
from matpac.probe.encoders import NamedEncoder
from matpac.probe.layers import layer_weighting_probe, per_layer_probes
from matpac.probe.linear_probe import ProbeConfig
from matpac.probe.neighbours import FewShotConfig, few_shot, nearest_neighbours
from matpac.probe.records import Record, make_record
from matpac.probe.scores import ProbeScores
from matpac.probe.token_batches import StoredTokens, TokenSource
from matpac.probe.tokens import attention_probe, prototype_probe
from matpac.tasks import Task
from matpac.vectors.features import TOKEN_BUDGET, BudgetError, TaskFeatures, embed_task, embed_tokens

LAYER = "layer_"
"""Begins the name of a layer's probe; layers count from 1, the last is what the linear probe sees."""


class LeftOutError(MatpacError):
    """A probe that this encoder or this task does not allow; the message tells why."""


@dataclass(frozen=True)
class Subject:
    """One encoder on one task, and what its probes are trained with."""

    task: Task
    """With all its clips."""
    named: NamedEncoder
    features: TaskFeatures
    """What the linear probe sees."""
    cache: Path
    config: ProbeConfig
    token_budget: int = TOKEN_BUDGET
    """Bytes of disk that tokens may take."""

    @property
    def device(self) -> torch.device:
        """Where probes by gradients through tokens are trained: where the encoder computes."""
        encoder = self.named.encoder
        return encoder.device if isinstance(encoder, Embedder) else torch.device("cpu")

    def record(
        self,
        task: Task,
        probe: str,
        found: ProbeScores,
        seeds: Sequence[int] | None = None,
        weights: Float[np.ndarray, "seed fold *prototype layer"] | None = None,
    ) -> Record:
        """A record of this encoder; the probe's own time is its `seconds`."""
        return make_record(
            task,
            self.named.name,
            self.named.key,
            probe,
            found,
            self.config.seeds if seeds is None else seeds,
            found.seconds,
            layer_weights=[] if weights is None else weights.reshape(-1, weights.shape[-1]).mean(axis=0).tolist(),
        )


@dataclass(frozen=True)
class Told:
    """Where a probe says what it does."""

    say: Callable[[str], None]
    """Takes any line."""
    leave_out: Callable[[str], None]
    """Takes what is left out of the results, and why."""


def other_probe(name: str, subject: Subject, say: Callable[[str], None]) -> tuple[list[Record], list[str]]:
    """Records of one of `OTHERS` for one encoder on one task, and a line for what of it was left out.

    Args:
        name: which one.
        subject: encoder, task and settings.
        say: takes a line for what is done or left out.

    Raises:
        MatpacError: features that can't be computed.
        ValueError: features that no probe can be trained on.
    """
    left_out: list[str] = []

    def leave_out(what: str) -> None:
        left_out.append(f"{subject.task.name}, {subject.named.name}: {what}")
        say(left_out[-1])

    try:
        found = OTHERS[name](subject, Told(say, leave_out))
    except LeftOutError as error:
        leave_out(f"{name} left out: {error}")
        return [], left_out
    told = ", ".join(f"{record.probe} {record.result().score} %" for record in found)
    if told:
        say(f"{subject.task.name}: {subject.named.name} {told}")
    return found, left_out


def fewest_examples(task: Task) -> int:
    """Training clips of the class that has the fewest, over folds; classes without any do not count."""
    fewest = []
    for split in task.folds:
        if task.kind == "single":
            counts = np.bincount(task.labels[split.train])
        else:
            positive = task.labels[split.train].astype(bool)
            counts = (positive if task.known is None else positive & task.known[split.train]).sum(axis=0)
        fewest.append(int(counts[counts > 0].min()))
    return min(fewest)


def _knn(subject: Subject, told: Told) -> list[Record]:
    task = subject.features.task
    found = nearest_neighbours(subject.features.vectors, task.labels, task.folds, kind=task.kind, known=task.known)
    return [subject.record(task, "knn", found, seeds=[])]


def _few_shot(subject: Subject, told: Told) -> list[Record]:
    task, wanted = subject.features.task, FewShotConfig()
    fewest = fewest_examples(task)
    shots = tuple(shot for shot in wanted.shots if shot <= fewest)
    if too_many := [str(shot) for shot in wanted.shots if shot > fewest]:
        told.leave_out(
            f"few_shot left out with {' and '.join(too_many)} shots: a class has {fewest} training clips"
        )
    if not shots:
        return []
    config = FewShotConfig(shots, wanted.draws, wanted.seed)
    found = few_shot(subject.features.vectors, task.labels, task.folds, config, kind=task.kind, known=task.known)
    return [subject.record(task, f"few_shot_{shot}", scores, [config.seed]) for shot, scores in found.items()]


def _layers(subject: Subject, told: Told) -> list[Record]:
    layered = _layered(subject)
    task = layered.task
    curve = per_layer_probes(
        layered.vectors, task.labels, task.folds, subject.config, kind=task.kind, known=task.known
    )
    return [subject.record(task, f"{LAYER}{layer}", result) for layer, result in enumerate(curve.results, start=1)]


def _weighting(subject: Subject, told: Told) -> list[Record]:
    layered = _layered(subject)
    task = layered.task
    found = layer_weighting_probe(
        layered.vectors, task.labels, task.folds, subject.config, kind=task.kind, known=task.known
    )
    return [subject.record(task, "weighting", found.result, weights=found.weights)]


def _attention(subject: Subject, told: Told) -> list[Record]:
    tokens, task = _tokens(subject, told, layers=False)
    found = attention_probe(
        tokens, task.labels, task.folds, None, subject.config, task.kind, task.known, subject.device
    )
    return [subject.record(task, "attention", found)]


def _prototypes(subject: Subject, told: Told) -> list[Record]:
    tokens, task = _tokens(subject, told, layers=True)
    found = prototype_probe(
        tokens, task.labels, task.folds, None, subject.config, task.kind, task.known, subject.device
    )
    return [subject.record(task, "prototypes", found.result, weights=found.layers)]


OTHERS: dict[str, Callable[[Subject, Told], list[Record]]] = {
    "knn": _knn,
    "few_shot": _few_shot,
    "layers": _layers,
    "weighting": _weighting,
    "attention": _attention,
    "prototypes": _prototypes,
}
"""By name, what gives the records of a probe."""


def _layered(subject: Subject) -> TaskFeatures:
    if not subject.named.layers:
        raise LeftOutError("this encoder gives no vectors of its layers")
    return embed_task(subject.task, subject.named, subject.cache, layers=True)


def _tokens(subject: Subject, told: Told, layers: bool) -> tuple[TokenSource, Task]:
    if not isinstance(subject.named.encoder, Embedder):
        raise LeftOutError("this encoder gives no tokens")
    budget = subject.token_budget
    try:
        found = embed_tokens(subject.task, subject.named, subject.cache, layers=True, budget_bytes=budget)
        frames = found.frames if layers else found.frames[:, -1:]
    except BudgetError:
        if layers:
            raise
        found = embed_tokens(subject.task, subject.named, subject.cache, budget_bytes=budget)
        frames = found.frames[:, None]
    return StoredTokens(frames, found.lengths), found.task
