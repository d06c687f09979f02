"""Several processes by every launcher that docs/scaling.md names, and one of them that dies."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from helpers.tiny_run import (
    TORCHRUN,
    as_arguments,
    assert_same,
    checkpoints,
    make_sounds,
    run,
    start,
    tiny_recipe,
    wait_for_checkpoint,
)
from matpac.pretrain.command import COMMAND

pytestmark = pytest.mark.slow

RECIPE = replace(tiny_recipe(), epochs=5)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sounds(tmp_path_factory.mktemp("sounds"), 8)


@pytest.fixture(scope="module")
def one_process(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "run"
    _, recipe, _ = COMMAND.parse(arguments(sounds, folder)[1:])
    run(sounds, folder, recipe)
    return folder


def arguments(data: Path, output: Path, epochs: float = RECIPE.epochs) -> list[str]:
    given = ["pretrain", *as_arguments(replace(RECIPE, epochs=epochs))]
    return [
        *given,
        "--data",
        str(data),
        "--output",
        str(output),
        "--device",
        "cpu",
        "--checkpoint_every",
        "5",
    ]


def test_slurm_needs_no_options(one_process: Path, sounds: Path, tmp_path: Path) -> None:
    """Ten steps of two processes as srun starts them, by the variables that its manual lists."""
    job = {
        "SLURM_JOB_ID": "51234", "SLURM_JOB_NAME": "pretrain", "SLURM_NODELIST": "localhost", "SLURM_NNODES": "1",
        "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NODEID": "0",
        "MASTER_PORT": str(20_000 + os.getpid() % 20_000),
    }  # fmt: skip
    tasks = [
        start(arguments(sounds, tmp_path / "two"), (), SLURM_PROCID=rank, SLURM_LOCALID=rank, **job)
        for rank in ("0", "1")
    ]
    said = [task.communicate(timeout=300)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert_same(one_process, tmp_path / "two", tolerance=1e-5)


def test_fabrics_own_launcher(one_process: Path, sounds: Path, tmp_path: Path) -> None:
    program = Path(sys.executable)
    launcher = [str(program.with_name("fabric")), "run", "--device", "cpu", "--devices", "2"]
    process = Popen(
        [*launcher, str(program.with_name("matpac")), *arguments(sounds, tmp_path / "two")],
        stdout=PIPE,
        stderr=PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert_same(one_process, tmp_path / "two", tolerance=1e-5)


def test_a_process_that_dies_ends_the_job_which_can_be_gone_on_with(sounds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    job = start(arguments(sounds, folder, epochs=500), TORCHRUN)
    wait_for_checkpoint(job, folder)
    os.kill(_workers_of(job.pid)[-1], signal.SIGKILL)
    _, said = job.communicate(timeout=120)
    assert job.returncode != 0, said
    step = int(checkpoints(folder)[-1].name[5:])
    assert 5 <= step < 1000
    again = start(["pretrain", "--resume", "--output", str(folder)], TORCHRUN)
    wait_for_checkpoint(again, folder, after=step)
    os.killpg(again.pid, signal.SIGINT)
    again.communicate(timeout=120)


def _workers_of(launcher: int) -> list[int]:
    """The training processes, by number, not what they start in turn."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children")
    return [int(number) for number in children.read_text().split()]
