"""Every encoder on every task: embed once, train the probes, compare."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from matpac.downstream.compare import PairedTest, paired_test
from matpac.downstream.encoders import NamedEncoder
from matpac.downstream.features import embed_task
from matpac.downstream.probe import ProbeConfig, ProbeResult, linear_probe
from matpac.downstream.tasks import Task
from matpac.probing.records import Record, make_record


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
        """Task, first encoder, other encoder, their paired test; for every pair that has the same folds."""
        tests = []
        for task in self.tasks:
            names = [name for name in self.encoders if (task, name) in self.linear]
            for number, first in enumerate(names):
                for other in names[number + 1 :]:
                    a, b = self.linear[task, first].probe.scores, self.linear[task, other].probe.scores
                    tests.append((task, first, other, paired_test(a, b, (first, other))))
        return tests


def run_probes(
    encoders: Sequence[NamedEncoder],
    tasks: Sequence[Task],
    cache: Path,
    config: ProbeConfig,
    say: Callable[[str], None],
    done: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Linear probes of all encoders on all tasks.

    Args:
        encoders: what is compared.
        tasks: what on.
        cache: where vectors are kept between calls.
        config: numbers of the probe.
        say: takes a line for every result.
        done: is called after every result, so that nothing is lost when a later one fails.

    Raises:
        MatpacError: a task or an encoder that cannot be used; what was done before is kept.
    """
    outcome = Outcome()
    for task in tasks:
        for named in encoders:
            began = time.monotonic()
            features = embed_task(task, named, cache)
            embedded = time.monotonic() - began
            usable = features.task
            probe = linear_probe(
                features.vectors, usable.labels, usable.splits, config, kind=usable.kind, known=usable.known
            )
            seconds = time.monotonic() - began
            record = make_record(usable, named.name, named.key, "linear", probe, config.seeds, seconds)
            outcome.linear[task.name, named.name] = TaskOutcome(
                usable, named.name, record, probe, features.vectors
            )
            say(
                f"{task.name}: {named.name} {record.result().score} % {record.metric} "
                f"({record.used}/{record.total} clips; embedding {embedded:.0f} s, probing {probe.seconds:.0f} s)"
            )
            if done is not None:
                done(outcome)
    return outcome
