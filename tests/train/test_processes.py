"""`matpac pretrain` as people start it: processes of its own, killed, stopped, and several at once."""

import itertools
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch

from helpers.sound_files import cut_file, write_sound
from helpers.tiny_run import (
    TORCHRUN,
    as_arguments,
    assert_same,
    call,
    checkpoints,
    lines,
    make_sounds,
    run,
    start,
    tiny_recipe,
    wait_for_checkpoint,
)
from matpac.errors import MatpacError
from matpac.pretrain.command import COMMAND
from matpac.train import processes
from matpac.train.processes import first_then_others

RECIPE = replace(tiny_recipe(), epochs=10)


def arguments(data: Path, output: Path, *more: str, epochs: float = RECIPE.epochs) -> list[str]:
    given = ["pretrain", *as_arguments(replace(RECIPE, epochs=epochs))]
    run_options = ["--log_every", "5", "--checkpoint_every", "5", "--device", "cpu"]
    return [*given, "--data", str(data), "--output", str(output), *run_options, *more]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips, and one whose header promises more than it has: only training finds that out."""
    folder = make_sounds(tmp_path_factory.mktemp("sounds"), 7)
    whole = write_sound(folder.parent / "whole.flac", 16_000, 1.5, seed=9)
    cut_file(whole, folder / "cut.flac")
    return folder


@pytest.fixture(scope="module")
def one_process(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by one process: this one, by the recipe that the command line would make."""
    folder = tmp_path_factory.mktemp("one") / "run"
    _, recipe, _ = COMMAND.parse(arguments(sounds, folder)[1:])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes have
    run(sounds, folder, recipe, log_every=5, checkpoint_every=5)
    torch.set_num_threads(threads)
    return folder


def test_killed_and_resumed_equals_unbroken(sounds: Path, tmp_path: Path) -> None:
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    process = start(arguments(sounds, broken, epochs=60))
    wait_for_checkpoint(process, broken)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert int(checkpoints(broken)[-1].name[5:]) < 120, "killed too late to tell"
    assert call(["pretrain", "--resume", "--output", str(broken)])[0] == 0
    assert call(arguments(sounds, unbroken, epochs=60))[0] == 0
    assert_same(unbroken, broken)
    assert [line["step"] for line in lines(broken / "metrics.jsonl")] == list(range(5, 121, 5))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(
    number: signal.Signals, sounds: Path, tmp_path: Path
) -> None:
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    process = start(arguments(sounds, broken, epochs=60))
    wait_for_checkpoint(process, broken)
    os.killpg(process.pid, number)  # as a terminal and a scheduler do: the readers of files get it too
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    *_, stopped, go_on = said.strip().splitlines()
    step = int(checkpoints(broken)[-1].name[5:])
    assert step < 120, "stopped too late to tell"
    assert f"stopped and saved at step {step} of 120" in stopped
    command = go_on.removeprefix("go on: matpac ")
    assert command == f"pretrain --resume --output {broken}"
    if number is signal.SIGINT:
        assert call(command.split())[0] == 0
        assert call(arguments(sounds, unbroken, epochs=60))[0] == 0
        assert_same(unbroken, broken)


def test_two_processes_of_torchrun_equal_one(one_process: Path, sounds: Path, tmp_path: Path) -> None:
    code, said = call(arguments(sounds, tmp_path / "two"), TORCHRUN)
    assert code == 0, said
    assert said.count("steps done") == 1  # only the first process speaks
    assert_same(one_process, tmp_path / "two", tolerance=1e-5)
    assert [line["step"] for line in lines(tmp_path / "two" / "metrics.jsonl")] == [5, 10, 15, 20]
    for one, two in zip(
        lines(one_process / "metrics.jsonl"), lines(tmp_path / "two" / "metrics.jsonl"), strict=True
    ):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)


def test_two_processes_asked_to_stop_save_together(sounds: Path, tmp_path: Path) -> None:
    process = start(arguments(sounds, tmp_path / "two", epochs=500), TORCHRUN)
    wait_for_checkpoint(process, tmp_path / "two")
    os.killpg(process.pid, signal.SIGINT)  # comes a second time from torchrun, which then reports itself as failed
    _, said = process.communicate(timeout=200)
    step = int(checkpoints(tmp_path / "two")[-1].name[5:])
    assert f"stopped and saved at step {step} of 1,000" in said
    assert "KeyboardInterrupt" not in said


def test_two_processes_started_by_itself_equal_one(one_process: Path, sounds: Path, tmp_path: Path) -> None:
    code, said = call(arguments(sounds, tmp_path / "two", "--devices", "2"))
    assert code == 0, said
    assert_same(one_process, tmp_path / "two", tolerance=1e-5)
    left_out = [lines(folder / "left_out.jsonl") for folder in (one_process, tmp_path / "two")]
    assert [len(files) for files in left_out] == [1, 1]  # whichever process met it
    assert left_out[0][0]["path"] == left_out[1][0]["path"] == str(sounds / "cut.flac")


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_to_train_on_is_one_clear_line(count: int, tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    make_sounds(tmp_path / "sounds", count)
    code, said = call(arguments(tmp_path / "sounds", tmp_path / "run"))
    assert code == 2
    assert said.startswith("matpac pretrain: ")
    assert ("no sound file" if not count else "too few clips for one batch") in said
    assert said.count("\n") == 1


# --- one after the others ----------------------------------------------------------------------------------


FIRST: Any = SimpleNamespace(is_global_zero=True)
OTHER: Any = SimpleNamespace(is_global_zero=False)
"""Of two processes; none has a collective that it could wait in."""


def nothing() -> NoReturn:
    raise AssertionError("is another process's part")


def fails() -> NoReturn:
    raise OSError("No space left on device")


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is both, and has the store that they would share."""
    store = torch.distributed.HashStore()
    monkeypatch.setattr(processes, "_joined", lambda: True)
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(processes, "_TURNS", itertools.repeat(0))


@pytest.mark.usefixtures("joined")
def test_others_wait_for_the_first_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = iter(range(3))

    def sleep(seconds: float) -> None:
        if next(hours, None) is None:
            assert first_then_others(FIRST, lambda: "read", nothing) == "read"

    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=sleep))
    assert first_then_others(OTHER, nothing, lambda: "kept") == "kept"


@pytest.mark.usefixtures("joined")
def test_others_do_not_begin_what_the_first_could_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=lambda seconds: None))
    with pytest.raises(OSError, match="No space left"):
        first_then_others(FIRST, fails, nothing)
    with pytest.raises(MatpacError, match="the first process of this run could not go on; what it said tells why"):
        first_then_others(OTHER, nothing, nothing)


@pytest.mark.usefixtures("joined")
def test_others_end_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: torch.distributed.Store, keys: list[str]) -> NoReturn:
        raise torch.distributed.DistNetworkError("Connection reset by peer")

    monkeypatch.setattr(torch.distributed.HashStore, "check", gone)
    with pytest.raises(MatpacError, match="the first process of this run could not go on"):
        first_then_others(OTHER, nothing, nothing)


def test_a_process_alone_waits_for_nobody() -> None:
    assert first_then_others(FIRST, lambda: "read", nothing) == "read"
