"""Every encoder on every task: embed once, train the probes, compare."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Integer

from matpac.errors import MatpacError
from matpac.probe.compare import PairedTest, paired_test
from matpac.probe.encoders import NamedEncoder
from matpac.probe.neighbours import FewShotConfig, few_shot, fewest_examples, nearest_neighbours
from matpac.probe.probes import attention_probe, layer_probes, linear_probe, prototype_probe, weighting_probe
from matpac.probe.records import Record, make_record, write_records
from matpac.probe.results import ProbeResult
from matpac.probe.trainer import ProbeConfig
from matpac.tasks import Task
from matpac.vectors.features import TOKEN_BUDGET, BudgetError, embed_task, embed_tokens

LAYER = "layer_"
"""Begins the name of a layer's record; layers count from 1, the last is what the linear probe sees."""

Kind = Literal["scenes", "layers", "tokens", "layer_tokens"]


@dataclass(frozen=True, eq=False)
class Features:
    """What an encoder gives of a task's clips.

    Args:
        values: [clip, width], [clip, layer, width], [clip, token, width] or [clip, layer, token, width].
        task: without the clips that could not be used.
        lengths: tokens of each clip.
        device: where probes by gradients through tokens are trained: where the encoder computes.
    """

    values: Float[np.ndarray, "clip ..."]
    task: Task
    lengths: Integer[np.ndarray, " clip"] | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Probe:
    """A probe by name.

    Args:
        needs: what the encoder has to give.
        run: from features to results by the names of their records; a text is the reason why one is skipped.
    """

    needs: Kind
    run: Callable[[Features, ProbeConfig], dict[str, ProbeResult | str]]


def _linear(found: Features, config: ProbeConfig) -> dict[str, ProbeResult | str]:
    return {"linear": linear_probe(found.values, found.task, config)}


def _knn(found: Features, config: ProbeConfig) -> dict[str, ProbeResult | str]:
    return {"knn": nearest_neighbours(found.values, found.task)}


def _few_shot(found: Features, config: ProbeConfig) -> dict[str, ProbeResult | str]:
    wanted, fewest = FewShotConfig(), fewest_examples(found.task)
    shots = tuple(shot for shot in wanted.shots if shot <= fewest)
    results = few_shot(found.values, found.task, FewShotConfig(shots)) if shots else {}
    reason = f"a class has {fewest} training clips"
    return {f"few_shot_{shot}": results.get(shot, reason) for shot in wanted.shots}


def _layers(found: Features, config: ProbeConfig) -> dict[str, ProbeResult | str]:
    results = layer_probes(found.values, found.task, config)
    return {f"{LAYER}{layer}": result for layer, result in enumerate(results, start=1)}


def _weighting(found: Features, config: ProbeConfig) -> dict[str, ProbeResult | str]:
    return {"weighting": weighting_probe(found.values, found.task, config)}


def _attention(found: Features, config: ProbeConfig) -> dict[str, ProbeResult | str]:
    return {"attention": attention_probe(found.values, found.task, config, found.lengths, found.device)}


def _prototypes(found: Features, config: ProbeConfig) -> dict[str, ProbeResult | str]:
    return {"prototypes": prototype_probe(found.values, found.task, config, found.lengths, found.device)}


PROBES = {
    "linear": Probe("scenes", _linear),
    "knn": Probe("scenes", _knn),
    "few_shot": Probe("scenes", _few_shot),
    "layers": Probe("layers", _layers),
    "weighting": Probe("layers", _weighting),
    "attention": Probe("tokens", _attention),
    "prototypes": Probe("layer_tokens", _prototypes),
}
"""All probes by name; the linear one is always run, the others beside it."""


@dataclass(frozen=True)
class TaskOutcome:
    """The linear probe of one encoder on one task, for the page.

    Args:
        task: without the clips that could not be read.
        encoder: its name.
        record: as written to results.json.
        probe: scores and predictions.
        vectors: of the task's clips.
    """

    task: Task
    encoder: str
    record: Record
    probe: ProbeResult
    vectors: Float[np.ndarray, "clip width"]


@dataclass
class Outcome:
    """Everything of one `matpac probe`.

    Args:
        linear: linear probes by task and encoder.
        others: records of the probes beside them.
        skipped: a line for each probe that an encoder or a task does not allow.
    """

    linear: dict[tuple[str, str], TaskOutcome] = field(default_factory=dict)
    others: list[Record] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        """All records, the linear probes first."""
        return [outcome.record for outcome in self.linear.values()] + self.others

    @property
    def tasks(self) -> list[str]:
        """Names in the order they were run."""
        return list(dict.fromkeys(task for task, _ in self.linear))

    @property
    def encoders(self) -> list[str]:
        """Names in the order they were run."""
        return list(dict.fromkeys(encoder for _, encoder in self.linear))

    def of_task(self, task: str) -> list[TaskOutcome]:
        """One per encoder."""
        return [found for (name, _), found in self.linear.items() if name == task]

    def comparisons(self) -> list[tuple[str, str, str, PairedTest]]:
        """Task, first encoder, other encoder, their paired test; for every pair with the same clips."""
        tests = []
        for one, two in self._pairs():
            if one.task.paths == two.task.paths:
                names = (one.encoder, two.encoder)
                test = paired_test(one.probe.scores, two.probe.scores, names)
                tests.append((one.record.task, *names, test))
        return tests

    def not_compared(self) -> list[str]:
        """A line for every pair whose scores are of different clips and so can't be paired."""
        return [
            f"{one.record.task}: {one.encoder} and {two.encoder} are not compared: they could use different clips "
            f"({one.record.used} and {two.record.used} of {one.record.total})"
            for one, two in self._pairs()
            if one.task.paths != two.task.paths
        ]

    def _pairs(self) -> list[tuple[TaskOutcome, TaskOutcome]]:
        return [pair for task in self.tasks for pair in combinations(self.of_task(task), 2)]


def run_probes(
    encoders: Sequence[NamedEncoder],
    tasks: Sequence[Task],
    output: Path,
    *,
    also: Sequence[str] = (),
    config: ProbeConfig | None = None,
    cache: Path | None = None,
    token_budget: int = TOKEN_BUDGET,
) -> Outcome:
    """Linear probes of all encoders on all tasks, and probes beside them; prints a line for each.

    Args:
        encoders: what to compare.
        tasks: labelled clips.
        output: folder for results.json and results.csv, written after every probe.
        also: more names of `PROBES`.
        config: numbers of the protocol.
        cache: folder where vectors are kept between calls; `output`/cache by default.
        token_budget: bytes of disk for the tokens of one encoder on one task.

    Raises:
        MatpacError: a task or an encoder that can't be used; what was done before is kept.
    """
    _require_different("tasks", [task.name for task in tasks])
    _require_different("encoders", [named.name for named in encoders])
    config, cache = config or ProbeConfig(), cache or output / "cache"
    outcome = Outcome()
    for task in tasks:
        for named in encoders:
            for name in dict.fromkeys(["linear", *also]):
                _run(name, task, named, outcome, config, cache, token_budget)
                write_records(outcome.records, output)
    return outcome


def _run(
    name: str, task: Task, named: NamedEncoder, outcome: Outcome, config: ProbeConfig, cache: Path, budget: int
) -> None:
    """One probe of one encoder on one task, added to the outcome."""
    about, began = f"{task.name}, {named.name}", time.monotonic()

    def skip(probe: str, reason: object) -> None:
        outcome.skipped.append(f"{about}: {probe} skipped: {reason}")
        print(outcome.skipped[-1], flush=True)

    needs = PROBES[name].needs
    if needs not in named.gives:
        skip(name, f"this encoder gives no {needs.replace('_', ' of ')}")
        return
    try:
        found = _features(needs, task, named, cache, budget)
        embedded = time.monotonic() - began
        results = PROBES[name].run(found, config)
    except BudgetError as error:
        skip(name, str(error).removeprefix(f"{about}: "))
        return
    except ValueError as error:
        raise MatpacError(f"{about}: {error}") from error
    for probe, result in results.items():
        if isinstance(result, str):
            skip(probe, result)
            continue
        record = make_record(found.task, named.name, named.key, probe, result, embedded if name == "linear" else 0)
        print(
            f"{about}: {probe} {record.result().score} % {record.metric} ({record.used}/{record.total} clips; "
            f"embedding {embedded:.0f} s, probing {result.seconds:.0f} s)",
            flush=True,
        )
        if name == "linear":
            outcome.linear[task.name, named.name] = TaskOutcome(
                found.task, named.name, record, result, found.values
            )
        else:
            outcome.others.append(record)


def _features(kind: Kind, task: Task, named: NamedEncoder, cache: Path, budget: int) -> Features:
    """Features, from the cache or computed; the last layer's tokens are a view of all layers' if those fit."""
    if kind in ("scenes", "layers"):
        scenes = embed_task(task, named, cache, layers=kind == "layers")
        return Features(scenes.vectors, scenes.task)
    device = "cpu" if named.embedder is None else str(named.embedder.device)
    try:
        tokens = embed_tokens(task, named, cache, layers=True, budget_bytes=budget)
        frames = tokens.frames if kind == "layer_tokens" else tokens.frames[:, -1]
    except BudgetError:
        if kind == "layer_tokens":
            raise
        tokens = embed_tokens(task, named, cache, budget_bytes=budget)
        frames = tokens.frames
    return Features(frames, tokens.task, tokens.lengths, device)


def _require_different(what: str, names: Sequence[str]) -> None:
    """Results go by name, and so do rows of tables."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MatpacError(f"two {what} are called {', '.join(twice)}; rename one, or run them one after the other")
