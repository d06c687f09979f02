"""Parts of a run: the optimizer's groups, each process's masks and clips, the corpus's fingerprint."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from helpers.tiny_run import make_sounds, tiny_recipe
from matpac.data.files import Clip
from matpac.errors import MatpacError
from matpac.pretrain.masking import mask_noise, split_by_noise
from matpac.pretrain.objective import Objective
from matpac.pretrain.options import RunOptions
from matpac.pretrain.recipes import OptimizerConfig, Plan
from matpac.pretrain.setup import (
    adamw,
    count_workers,
    fingerprint,
    step_loader,
    step_splits,
    telling_of_lost_readers,
)
from matpac.train import processes
from matpac.train.guard import TrainingError


def fabric(rank: int = 0, size: int = 1) -> Any:
    return SimpleNamespace(global_rank=rank, world_size=size, device=torch.device("cpu"))


def options(**changes: Any) -> RunOptions:
    return RunOptions(data="d", output="o", **{"workers": 0, **changes})


@pytest.mark.parametrize("everywhere", [True, False])
def test_what_decays(everywhere: bool) -> None:
    objective = Objective(tiny_recipe().objective)
    config = OptimizerConfig(decay_biases_and_norms=everywhere, beta1=0.8, beta2=0.9, eps=1e-5)
    optimizer = adamw(objective, config)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    learning = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    assert len(decay) == len(learning)  # each once, and the teacher not at all
    assert not any(name.startswith("teacher") for name in learning)
    for name, parameter in learning.items():
        exempt = not everywhere and (name.endswith("bias") or ".norm" in name or parameter.ndim < 2)
        assert decay[id(parameter)] == (0.0 if exempt else 0.05), name
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {((0.8, 0.9), 1e-5)}


def test_no_group_is_empty() -> None:
    assert len(adamw(nn.Linear(2, 2, bias=False), OptimizerConfig(decay_biases_and_norms=False)).param_groups) == 1


@pytest.mark.parametrize(("size", "accumulate"), [(1, 1), (2, 1), (1, 4), (2, 2), (4, 2)])
def test_masks_of_all_processes_are_the_global_batchs(size: int, accumulate: int) -> None:
    recipe = tiny_recipe(batch_size=16)
    parts = [
        split
        for rank in range(size)
        for split in step_splits(recipe, options(seed=3, accumulate=accumulate), fabric(rank, size), step=7)
    ]
    assert len(parts) == size * accumulate
    noise = mask_noise(16, recipe.objective.encoder.tokens, (3, 7))
    whole = split_by_noise(noise, recipe.objective.mask_ratio)
    assert torch.equal(torch.cat([part.visible for part in parts]), whole.visible)
    assert torch.equal(torch.cat([part.masked for part in parts]), whole.masked)


def test_masks_change_with_step_and_seed() -> None:
    def masked(seed: int, step: int) -> torch.Tensor:
        return step_splits(tiny_recipe(), options(seed=seed), fabric(), step)[0].masked

    assert torch.equal(masked(0, 1), masked(0, 1))
    assert not torch.equal(masked(0, 1), masked(0, 2))
    assert not torch.equal(masked(0, 1), masked(1, 1))


@pytest.mark.parametrize(("size", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_clips_of_all_processes_are_the_global_batchs(size: int, accumulate: int, tmp_path: Path) -> None:
    make_sounds(tmp_path)
    clips = [Clip(str(tmp_path / f"{n}.wav"), 0.7 + 0.05 * n) for n in range(8)]
    recipe = tiny_recipe()
    plan = Plan(recipe, len(clips))

    def steps(rank: int, size: int, accumulate: int, first: int = 1) -> list[tuple[list[str], torch.Tensor]]:
        loader = step_loader(recipe, options(accumulate=accumulate), plan, clips, fabric(rank, size), first)
        taken = [list(step) for step in loader]
        assert all(len(step) == accumulate for step in taken)
        return [
            ([path for b in step for path in b.paths], torch.cat([b.waveforms for b in step])) for step in taken
        ]

    whole = steps(0, 1, 1)
    parts = [steps(rank, size, accumulate) for rank in range(size)]
    assert len(whole) == plan.steps - 1
    for number, (paths, waveforms) in enumerate(whole):
        assert [path for part in parts for path in part[number][0]] == paths
        assert torch.equal(torch.cat([part[number][1] for part in parts]), waveforms)
    later = steps(0, 1, 1, first=3)  # a run that goes on there sees what this one saw
    assert all(torch.equal(a[1], b[1]) for a, b in zip(later, whole[2:], strict=True))


def test_a_batch_that_cannot_be_split_is_refused_at_once() -> None:
    clips = [Clip(f"{n}.wav", 1.0) for n in range(8)]
    with pytest.raises(MatpacError, match="can't be split equally"):
        step_loader(tiny_recipe(), options(accumulate=3), Plan(tiny_recipe(), 8), clips, fabric(), 0)


def test_fingerprint_depends_on_names_order_and_lengths() -> None:
    clips = [Clip("a.wav", 1.0), Clip("b.wav", 2.0)]
    others = [
        clips[::-1],
        clips[:1],
        [Clip("a.wav", 1.0), Clip("b.wav", 2.1)],
        [Clip("ab.wav", 1.0), Clip("", 2.0)],
    ]
    assert fingerprint(clips) == fingerprint(list(clips))
    assert len({fingerprint(other) for other in [clips, *others]}) == 5


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}
SRUN = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_NTASKS_PER_NODE": "8", "SLURM_NNODES": "2"}


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
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert count_workers("auto", torch.device("cuda")) == readers
    assert count_workers(3, torch.device("cuda")) == count_workers(3, torch.device("cpu")) == 3
    assert count_workers("auto", torch.device("cpu")) == 1


@pytest.mark.parametrize(("nodes", "readers"), [(1, 4), (2, 8)])
def test_workers_of_processes_that_matpac_started(
    nodes: int, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(32)), raising=False)
    monkeypatch.setattr(processes, "_joined", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 8)
    assert count_workers("auto", torch.device("cuda"), nodes) == readers


def test_errors_that_are_not_of_a_lost_reader_stay() -> None:
    for error in (RuntimeError("Caught RuntimeError in DataLoader worker process 0."), KeyError("x")):
        with pytest.raises(type(error)) as caught, telling_of_lost_readers():
            raise error
        assert caught.value is error
    with (
        pytest.raises(
            TrainingError, match=r"has ended \(DataLoader worker \(pid 3\) is killed\); mostly the memory"
        ),
        telling_of_lost_readers(),
    ):
        raise RuntimeError("DataLoader worker (pid 3) is killed. ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[({name: 0}, f"{name} must be at least 1") for name in ("keep", "log_every", "checkpoint_every")],
        *[({name: 0}, f"{name} must be at least 1") for name in ("accumulate", "devices", "nodes")],
        *[({name: -1}, f"{name} must not be negative") for name in ("workers", "seed")],
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(MatpacError, match=message):
        options(**changes)
