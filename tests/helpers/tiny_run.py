"""The smallest run that is one: a recipe of a second, its sounds, and what it leaves."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.sound_files import write_sound
from matpac.data.crops import CropBatch
from matpac.files.tensor_files import read_tensors
from matpac.model.vit import EncoderConfig
from matpac.pretrain.classification import HeadConfig
from matpac.pretrain.job import Pretraining, pretrain
from matpac.pretrain.objective import ObjectiveConfig
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.predictor import PredictorConfig
from matpac.pretrain.recipes import OptimizerConfig, Recipe, ScheduleConfig
from matpac.train.loop import Finished, Job

BATCH = 4

RENDEZVOUS = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", *RENDEZVOUS)
"""Starts two processes of `matpac`, at a port of its own choice."""


def tiny_recipe(hypotheses: int = 3, alpha: float = 0.5, **changes: Any) -> Recipe:
    recipe = Recipe(
        objective=ObjectiveConfig(
            encoder=EncoderConfig(width=16, depth=1, heads=1, frames=48),
            predictor=PredictorConfig(width=16, depth=1, heads=1, hypotheses=hypotheses),
            head=HeadConfig(hidden=16, bottleneck=8, classes=12),
            alpha=alpha,
        ),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_epochs=1),
        schedule=ScheduleConfig(
            encoder_decay_start=0.9, encoder_decay_end=0.99, head_decay_start=0.9, teacher_temperature_epochs=2
        ),
        epochs=3,
        batch_size=BATCH,
    )
    return replace(recipe, **changes)


def as_arguments(recipe: Recipe) -> list[str]:
    """The recipe as options of the command line, on top of `--recipe tiny`."""
    objective = recipe.objective
    parts = {"encoder": objective.encoder, "predictor": objective.predictor, "head": objective.head}
    values = {
        f"objective.{part}.{name}": v for part, config in parts.items() for name, v in asdict(config).items()
    }
    values |= {"epochs": recipe.epochs, "batch_size": recipe.batch_size}
    return ["--recipe", "tiny", *(f"--{name}={value}" for name, value in values.items())]


def make_sounds(folder: Path, count: int = 8) -> Path:
    for number in range(count):
        write_sound(folder / f"{number}.wav", 16_000, 0.7 + 0.05 * number, seed=number)
    return folder


def options(data: Path, output: Path, **changes: Any) -> PretrainOptions:
    defaults: dict[str, Any] = {"device": "cpu", "workers": 0, "log_every": 1, "checkpoint_every": 2}
    return PretrainOptions(data=str(data), output=str(output), **{**defaults, **changes})


def run(data: Path, output: Path, recipe: Recipe | None = None, **changes: Any) -> Finished:
    return pretrain(recipe or tiny_recipe(), options(data, output, **changes), "tiny")


class Killed(Exception):
    """Stands for a kill: nothing in the project handles it."""


@contextmanager
def killed_at(step: int, job: type[Job] = Pretraining) -> Iterator[None]:
    """The runs inside end after this step, before anything of it is logged or saved."""
    plain = job.step

    def until(self: Job, batches: list[CropBatch]) -> object:
        result = plain(self, batches)
        if self.training.step + 1 == step:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "step", until)
        with pytest.raises(Killed):
            yield


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").iterdir())


def last_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All tensors of the newest checkpoint: model, optimizer."""
    newest = checkpoints(folder)[-1]
    return read_tensors(newest / "model.safetensors")[0], read_tensors(newest / "optimizer.safetensors")[0]


def assert_same(one: Path, other: Path, tolerance: float | None = None) -> None:
    """The newest checkpoints of two runs hold the same tensors: to the bit, or to a tolerance."""
    assert checkpoints(one)[-1].name == checkpoints(other)[-1].name
    for left, right in zip(last_state(one), last_state(other), strict=True):
        assert left.keys() == right.keys()
        assert left
        for name in left:
            pair = left[name], right[name]
            if tolerance is None:
                assert torch.equal(*pair), name
            else:
                pair = (_comparable(name, tensor) for tensor in pair)
                torch.testing.assert_close(*pair, atol=tolerance, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def _comparable(name: str, tensor: Tensor) -> Tensor:
    """Without the biases of keys: attention does not depend on them, so that their gradient is rounding alone,
    which AdamW brings up to the size of a step."""
    return tensor.view(3, -1)[[0, 2]] if name.endswith("qkv.bias") else tensor


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def start(arguments: list[str], launcher: tuple[str, ...] = (), **environment: str) -> "subprocess.Popen[str]":
    """`matpac …` as a process of its own, in a group of its own, as a terminal or a scheduler starts it."""
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "matpac", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def call(arguments: list[str], launcher: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code and standard error of `matpac …`."""
    process = start(arguments, launcher)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def wait_for_checkpoint(process: "subprocess.Popen[str]", folder: Path, after: int = 0) -> None:
    """Until there is a whole one of a later step than `after`."""
    deadline = time.monotonic() + 200
    while not any(int(found.parent.name[5:]) > after for found in folder.glob("checkpoints/step-*/state.json")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)
