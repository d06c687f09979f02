"""`matpac pretrain` as people start it: processes of their own, killed, stopped, and several by every launcher."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from helpers.sound_files import cut_file, write_sound
from helpers.tiny_run import (
    TORCHRUN,
    as_arguments,
    assert_same,
    call,
    checkpoints,
    lines,
    make_sounds,
    start,
    tiny_recipe,
    wait_for_checkpoint,
)

pytestmark = pytest.mark.slow


def arguments(data: Path, output: Path, *more: str, epochs: float = 10) -> list[str]:
    given = ["pretrain", *as_arguments(replace(tiny_recipe(), epochs=epochs)), "--data", str(data)]
    return [*given, f"--output={output}", "--log_every=5", "--checkpoint_every=5", "--device=cpu", *more]


def step_of(folder: Path) -> int:
    return int(checkpoints(folder)[-1].name[5:])


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips, and one whose header promises more than it has: only training finds that out."""
    folder = make_sounds(tmp_path_factory.mktemp("sounds"), 7)
    whole = write_sound(folder.parent / "whole.flac", 16_000, 1.5, seed=9)
    cut_file(whole, folder / "cut.flac")
    return folder


@pytest.fixture(scope="module")
def one_process(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "run"
    assert call(arguments(sounds, folder))[0] == 0
    return folder


@pytest.fixture(scope="module")
def unbroken(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert call(arguments(sounds, folder, epochs=60))[0] == 0
    return folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=str)
def test_killed_or_stopped_it_resumes_to_the_same_weights(
    number: signal.Signals, unbroken: Path, sounds: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    process = start(arguments(sounds, folder, epochs=60))
    wait_for_checkpoint(process, folder)
    os.killpg(process.pid, number)  # as a terminal and a scheduler do: the readers of files get it too
    _, said = process.communicate(timeout=200)
    assert step_of(folder) < 120, "ended too late to tell"
    if number is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        command = ["pretrain", "--resume", "--output", str(folder)]
    else:
        assert process.returncode == 0, said
        assert "Traceback" not in said
        assert f"stopped and saved at step {step_of(folder)} of 120" in said
        command = said.strip().splitlines()[-1].partition("matpac ")[2].split()
    assert call(command)[0] == 0
    assert_same(unbroken, folder)
    assert [line["step"] for line in lines(folder / "metrics.jsonl")] == list(range(5, 121, 5))


@pytest.mark.parametrize("launcher", ["matpac", "torchrun", "fabric", "srun"])
def test_two_processes_equal_one(launcher: str, one_process: Path, sounds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    given = arguments(sounds, folder, *(["--devices", "2"] if launcher == "matpac" else []))
    if launcher == "srun":  # by the variables that its manual lists
        job = {
            "SLURM_JOB_ID": "51234", "SLURM_JOB_NAME": "pretrain", "SLURM_NODELIST": "localhost",
            "SLURM_NNODES": "1", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_NODEID": "0", "MASTER_PORT": str(20_000 + os.getpid() % 20_000),
        }  # fmt: skip
        tasks = [start(given, (), SLURM_PROCID=rank, SLURM_LOCALID=rank, **job) for rank in ("0", "1")]
    elif launcher == "fabric":
        program = Path(sys.executable)
        words = [str(program.with_name("fabric")), "run", "--accelerator", "cpu", "--devices", "2"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [*words, str(program.with_name("matpac")), *given]
        tasks = [Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=environment)]
    else:
        tasks = [start(given, TORCHRUN if launcher == "torchrun" else ())]
    said = [task.communicate(timeout=300)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0] * len(tasks), said
    assert "".join(said).count("steps done") == 1  # only the first process speaks
    assert_same(one_process, folder, tolerance=1e-5)
    for one, two in zip(*(lines(run / "metrics.jsonl") for run in (one_process, folder)), strict=True):
        assert (one["step"], one["loss"]) == (two["step"], pytest.approx(two["loss"], abs=1e-4))
    for run in (one_process, folder):  # once, whichever process met it
        assert [line["path"] for line in lines(run / "left_out.jsonl")] == [str(sounds / "cut.flac")]


def test_two_processes_asked_to_stop_save_together(sounds: Path, tmp_path: Path) -> None:
    process = start(arguments(sounds, tmp_path / "two", epochs=500), TORCHRUN)
    wait_for_checkpoint(process, tmp_path / "two")
    os.killpg(process.pid, signal.SIGINT)  # comes a second time from torchrun, which then reports itself as failed
    _, said = process.communicate(timeout=200)
    assert f"stopped and saved at step {step_of(tmp_path / 'two')} of 1,000" in said
    assert "KeyboardInterrupt" not in said


def test_a_process_that_dies_ends_the_job_which_can_be_resumed(sounds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    job = start(arguments(sounds, folder, epochs=500), TORCHRUN)
    wait_for_checkpoint(job, folder)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children")  # the training processes, not what these start
    os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
    _, said = job.communicate(timeout=120)
    assert job.returncode != 0, said
    step = step_of(folder)
    assert 5 <= step < 1000
    again = start(["pretrain", "--resume", "--output", str(folder)], TORCHRUN)
    wait_for_checkpoint(again, folder, after=step)
    os.killpg(again.pid, signal.SIGINT)
    again.communicate(timeout=120)
