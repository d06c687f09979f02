"""Linear probes of one encoder on one task, for benchmarks with their own tables."""

from pathlib import Path

from matpac.probe.encoders import NamedEncoder
from matpac.probe.probes import linear_probe
from matpac.probe.trainer import ProbeConfig
from matpac.tasks import Task
from matpac.vectors.features import embed_task


def probe_scores(encoder: NamedEncoder, task: Task, cache: Path, config: ProbeConfig) -> list[float]:
    """Test scores, one per seed of the probe: means over folds."""
    features = embed_task(task, encoder, cache)
    found = linear_probe(features.vectors, features.task, config)
    return found.scores.mean(axis=1).tolist()
