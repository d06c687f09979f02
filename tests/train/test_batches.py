"""Batches of a run: how many processes read them, readers that end, and the fingerprint of a corpus."""

from typing import Any

import pytest
import torch

from matpac.data.files import Clip
from matpac.errors import MatpacError
from matpac.train import processes
from matpac.train.batches import count_workers, fingerprint, lost_readers_named
from matpac.train.guard import TrainingError
from matpac.train.options import RunOptions

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}
SRUN = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_NTASKS_PER_NODE": "8", "SLURM_NNODES": "2"}


def options(**changes: Any) -> RunOptions:
    return RunOptions(output="o", **changes)


@pytest.mark.parametrize(
    ("cores", "environment", "readers"),
    [
        (6, {}, 6),
        (128, {}, 24),
        (128, TORCHRUN, 16),
        (6, TORCHRUN, 1),
        (128, SRUN, 16),
        (128, SRUN | {"SLURM_CPUS_PER_TASK": "12"}, 12),
        (12, SRUN | {"SLURM_CPUS_PER_TASK": "12"}, 12),  # srun has bound the task to these
        (128, TORCHRUN | {"SLURM_CPUS_PER_TASK": "128"}, 16),  # torchrun as the one task of a machine
    ],
)
def test_workers(cores: int, environment: dict[str, str], readers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*TORCHRUN, *SRUN, "SLURM_CPUS_PER_TASK"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "cores", lambda: cores)
    assert count_workers(options(), CUDA) == readers
    assert count_workers(options(workers=3), CUDA) == count_workers(options(workers=3), CPU) == 3
    assert count_workers(options(), CPU) == 1


@pytest.mark.parametrize(("nodes", "readers"), [(1, 4), (2, 8)])
def test_workers_of_processes_that_matpac_started(
    nodes: int, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 32)
    monkeypatch.setattr(processes, "_joined", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 8)
    assert count_workers(options(nodes=nodes), CUDA) == readers


def test_only_a_lost_reader_becomes_an_error_of_training() -> None:
    for error in (RuntimeError("Caught RuntimeError in DataLoader worker process 0."), KeyError("x")):
        with pytest.raises(type(error)) as caught, lost_readers_named():
            raise error
        assert caught.value is error
    with pytest.raises(TrainingError, match=r"DataLoader worker \(pid 3\) is killed\)"), lost_readers_named():
        raise RuntimeError("DataLoader worker (pid 3) is killed. ")


def test_fingerprint_depends_on_names_order_and_lengths() -> None:
    corpora = [
        [Clip("a.wav", 1.0), Clip("b.wav", 2.0)],
        [Clip("b.wav", 2.0), Clip("a.wav", 1.0)],
        [Clip("a.wav", 1.0)],
        [Clip("a.wav", 1.0), Clip("b.wav", 2.1)],
        [Clip("ab.wav", 1.0), Clip("", 2.0)],
    ]
    assert len({fingerprint(clips) for clips in corpora}) == 5
    assert fingerprint(list(corpora[0])) == fingerprint(corpora[0])


@pytest.mark.parametrize(
    "changes",
    [
        *[{name: 0} for name in ("keep", "log_every", "checkpoint_every", "accumulate", "devices", "nodes")],
        *[{name: -1} for name in ("workers", "seed")],
        {"seed": 2**63},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(MatpacError, match=f"{next(iter(changes))} must be at least"):
        options(**changes)
