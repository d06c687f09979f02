"""Every encoder on every task: embed once, train the probes, compare."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Float

from matpac.errors import MatpacError
from matpac.probe.compare import PairedTest, paired_test
from matpac.probe.encoders import NamedEncoder
from matpac.probe.linear_probe import ProbeConfig, linear_probe
from matpac.probe.others import Subject, other_probe
from matpac.probe.records import Record, make_record
from matpac.probe.scores import ProbeResult
from matpac.tasks import Task
from matpac.vectors.features import TOKEN_BUDGET, TaskFeatures, embed_task


@dataclass(frozen=True)
class TaskOutcome:
    """What one encoder did on one task, for the page."""

    task: Task
    """Without the clips that could not be read."""
    encoder: str
    record: Record
    probe: ProbeResult
    vectors: Float[np.ndarray, "clip width"]


@dataclass
class Outcome:
    """Everything of one `matpac probe`."""

    linear: dict[tuple[str, str], TaskOutcome] = field(default_factory=dict)
    """By task and encoder."""
    others: list[Record] = field(default_factory=list)
    """Probes beside the linear one."""
    left_out: list[str] = field(default_factory=list)
    """A line for each probe that an encoder or a task does not allow."""

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
        """A line for every pair whose scores are of different clips, so that they can't be paired."""
        return [
            f"{one.record.task}: {one.encoder} and {two.encoder} are not compared: they could use different clips "
            f"({one.record.used} and {two.record.used} of {one.record.total})"
            for one, two in self._pairs()
            if one.task.paths != two.task.paths
        ]

    def _pairs(self) -> list[tuple[TaskOutcome, TaskOutcome]]:
        """Any two encoders on one task."""
        return [
            pair
            for task in self.tasks
            for pair in combinations([found for (name, _), found in self.linear.items() if name == task], 2)
        ]


def run_probes(
    encoders: Sequence[NamedEncoder],
    tasks: Sequence[Task],
    cache: Path,
    config: ProbeConfig,
    say: Callable[[str], None],
    done: Callable[[Outcome], None] | None = None,
    also: Sequence[str] = (),
    token_budget: int = TOKEN_BUDGET,
) -> Outcome:
    """Linear probes of all encoders on all tasks, and probes beside them.

    Args:
        encoders: what is compared.
        tasks: what on.
        cache: where vectors are kept between calls.
        config: numbers of the probe.
        say: takes a line for every result.
        done: is called after every result, so that nothing is lost when a later one fails.
        also: names of `matpac.probe.others.OTHERS`.
        token_budget: bytes of disk for the tokens of one encoder on one task.

    Raises:
        MatpacError: a task or an encoder that cannot be used; what was done before is kept.
    """
    _require_names("tasks", [task.name for task in tasks])
    _require_names("encoders", [named.name for named in encoders])
    outcome = Outcome()
    for task in tasks:
        for named in encoders:
            began = time.monotonic()
            features = embed_task(task, named, cache)
            embedded = time.monotonic() - began
            with _named(task, named):
                found = _linear(features, named, config, began)
            outcome.linear[task.name, named.name] = found
            record = found.record
            say(
                f"{task.name}: {named.name} {record.result().score} % {record.metric} "
                f"({record.used}/{record.total} clips; embedding {embedded:.0f} s, "
                f"probing {found.probe.seconds:.0f} s)"
            )
            if done is not None:
                done(outcome)
            for name in also:
                subject = Subject(task, named, features, cache, config, token_budget)
                with _named(task, named):
                    records, left_out = other_probe(name, subject, say)
                outcome.others += records
                outcome.left_out += left_out
                if done is not None:
                    done(outcome)
    return outcome


def _linear(features: TaskFeatures, named: NamedEncoder, config: ProbeConfig, began: float) -> TaskOutcome:
    usable = features.task
    probe = linear_probe(
        features.vectors, usable.labels, usable.folds, config, kind=usable.kind, known=usable.known
    )
    seconds = time.monotonic() - began
    record = make_record(usable, named.name, named.key, "linear", probe, config.seeds, seconds)
    return TaskOutcome(usable, named.name, record, probe, features.vectors)


@contextmanager
def _named(task: Task, named: NamedEncoder) -> Iterator[None]:
    """Of features and labels that do not fit a probe, tell whose they are."""
    try:
        yield
    except ValueError as error:
        raise MatpacError(f"{task.name}, {named.name}: {error}") from error


def _require_names(what: str, names: Sequence[str]) -> None:
    """Results go by name, and so do rows of tables."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MatpacError(
            f"two {what} are called {', '.join(twice)}; rename one, or probe them one after the other"
        )
