"""Linear probes of one encoder on one task, for benchmarks that make tables of their own."""

from pathlib import Path

from matpac.probe.encoders import NamedEncoder
from matpac.probe.linear_probe import ProbeConfig, linear_probe
from matpac.tasks import Task
from matpac.vectors.features import embed_task


def probe_scores(encoder: NamedEncoder, task: Task, cache: Path, config: ProbeConfig) -> list[float]:
    """Test scores, one a seed of the probe: means over folds."""
    features = embed_task(task, encoder, cache)
    used = features.task
    found = linear_probe(features.vectors, used.labels, used.folds, config, kind=used.kind, known=used.known)
    return found.scores.mean(axis=1).tolist()
