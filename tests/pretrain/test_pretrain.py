"""Real runs of a tiny recipe on small sound files, in this process."""

import json
import math
import multiprocessing
import os
import shutil
import signal
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import matpac
from helpers.sound_files import make_mixed_folder, make_sound
from helpers.tiny_run import (
    assert_same,
    checkpoints,
    killed_at,
    last_state,
    lines,
    make_sounds,
    options,
    run,
    tiny_recipe,
)
from matpac import audio
from matpac.data.files import DataError
from matpac.pretrain import Objective, PretextOutput
from matpac.pretrain.job import PretextStep, Pretraining, pretrain_to_end
from matpac.pretrain.recipes import Recipe
from matpac.train.guard import StopSignal, TrainingError

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric

STEPS = 6  # 8 clips, batches of 4, 3 epochs


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sounds(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def unbroken(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert run(sounds, folder).complete
    return folder


# --- it learns ---------------------------------------------------------------------------------------------


def test_loss_falls_on_few_clips(sounds: Path, tmp_path: Path) -> None:
    # a teacher that stands still, since a moving one moves the task
    decays = dict.fromkeys(("encoder_decay_start", "encoder_decay_end", "head_decay_start", "head_decay_end"), 1.0)
    recipe = replace(tiny_recipe(), schedule=replace(tiny_recipe().schedule, **decays), epochs=20)
    run(sounds, tmp_path / "run", recipe, checkpoint_every=100)
    losses = [line["loss"] for line in lines(tmp_path / "run" / "metrics.jsonl")]
    assert len(losses) == 40
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])


@pytest.mark.parametrize(("alpha", "hypotheses"), [(0.5, 3), (0.5, 1), (1.0, 3), (0.0, 3)])
def test_log_lines_have_losses_and_monitors(alpha: float, hypotheses: int, sounds: Path, tmp_path: Path) -> None:
    run(sounds, tmp_path / "run", tiny_recipe(hypotheses, alpha, epochs=0.5))
    [line] = lines(tmp_path / "run" / "metrics.jsonl")
    always = {
        *("step", "loss", "gradient/norm", "targets/deviation", "predictions/deviation", "learning_rate"),
        *("temperature/multiple_choice", "temperature/teacher", "decay/encoder", "decay/head"),
        *("speed/clips_per_second", "speed/seconds_per_step"),
    }
    prediction = {"loss/prediction"} if alpha > 0 else set()
    classes = {"loss/classification", "classes/perplexity", "classes/agreement"} if alpha < 1 else set()
    wins = {f"wins/{number}" for number in range(hypotheses)} if hypotheses > 1 else set()
    assert line.keys() == always | prediction | classes | wins
    assert all(np.isfinite(value) for value in line.values())
    parts = alpha * line.get("loss/prediction", 0) + (1 - alpha) * line.get("loss/classification", 0)
    assert line["loss"] == pytest.approx(parts, rel=1e-5)
    assert not wins or sum(line[name] for name in wins) == pytest.approx(1)


def test_what_a_run_leaves(unbroken: Path) -> None:
    assert [line["step"] for line in lines(unbroken / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert list((unbroken / "tensorboard").glob("events.out.tfevents.*"))
    assert {path.name for path in checkpoints(unbroken)} >= {"step-00000004", "step-00000006"}
    encoder = matpac.load(unbroken)
    assert encoder.card.step == STEPS
    assert encoder.encoder.config == tiny_recipe().objective.encoder
    weights, _ = last_state(unbroken)
    assert torch.equal(encoder.encoder.cls_token, weights["student.cls_token"])
    assert encoder.scene(make_sound(16_000, 1.0)[:, 0], 16_000).shape == (1, encoder.width)


def test_two_runs_of_one_seed_are_the_same(unbroken: Path, sounds: Path, tmp_path: Path) -> None:
    run(sounds, tmp_path / "again", workers=1)
    assert_same(unbroken, tmp_path / "again")
    run(sounds, tmp_path / "other", seed=1)
    with pytest.raises(AssertionError):
        assert_same(unbroken, tmp_path / "other")


def test_accumulated_batches_equal_whole_ones(unbroken: Path, sounds: Path, tmp_path: Path) -> None:
    run(sounds, tmp_path / "run", accumulate=2)
    assert_same(unbroken, tmp_path / "run", tolerance=1e-5)
    for one, two in zip(
        *(lines(folder / "metrics.jsonl") for folder in (unbroken, tmp_path / "run")), strict=True
    ):
        for name in ("loss", "loss/prediction", "loss/classification"):
            assert one[name] == pytest.approx(two[name], abs=1e-4)


def test_memory_is_for_the_output_of_one_micro_batch(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: list[weakref.ref] = []
    alive: list[int] = []
    forward, update = Objective.forward, Objective.update_teacher

    def counted_forward(self: Objective, *arguments: Any) -> PretextOutput:
        alive.append(sum(output() is not None for output in outputs))
        output = forward(self, *arguments)
        outputs.append(weakref.ref(output))
        return output

    def counted_update(self: Objective, *arguments: float) -> None:
        alive.append(sum(output() is not None for output in outputs))
        update(self, *arguments)

    monkeypatch.setattr(Objective, "forward", counted_forward)
    monkeypatch.setattr(Objective, "update_teacher", counted_update)
    run(sounds, tmp_path / "run", accumulate=4)
    assert alive == [0, 0, 0, 0, 1] * STEPS


# --- interrupted and resumed -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=3, derandomize=True)
@given(kills=st.lists(st.integers(1, STEPS - 1), min_size=1, max_size=3).map(sorted))
def test_killed_anywhere_and_resumed_equals_unbroken(
    kills: list[int], unbroken: Path, sounds: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("killed") / "run"
    for number, step in enumerate(kills):
        # that step may be done already, and is then not repeated
        if number and checkpoints(folder) and int(checkpoints(folder)[-1].name[5:]) >= step:
            continue
        with killed_at(step):
            run(sounds, folder, resume=number > 0)
        (folder / "checkpoints").mkdir(exist_ok=True)
    assert run(sounds, folder, resume=True).complete
    assert_same(unbroken, folder)
    assert [line["step"] for line in lines(folder / "metrics.jsonl")] == list(range(1, STEPS + 1))


def test_to_the_end_resumes_where_it_was_stopped(
    unbroken: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(StopSignal):
        def __enter__(self) -> StopSignal:
            self.wanted = True
            return super().__enter__()

    with monkeypatch.context() as patch:
        patch.setattr("matpac.train.loop.StopSignal", Stopped)
        with pytest.raises(KeyboardInterrupt):
            pretrain_to_end(tiny_recipe(), options(sounds, tmp_path / "run"), "tiny")
    assert len(checkpoints(tmp_path / "run")) == 1
    assert pretrain_to_end(tiny_recipe(), options(sounds, tmp_path / "run"), "tiny").complete
    assert_same(unbroken, tmp_path / "run")


def test_a_run_resumes_where_gradients_are_scaled(
    unbroken: Path,
    sounds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As on a GPU without bf16, with and without what earlier checkpoints did not keep."""

    def in_float16(options: object) -> "Fabric":
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.precision.amp import MixedPrecision

        precision = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
        fabric = Fabric(accelerator="cpu", devices=1, plugins=precision)
        fabric.launch()
        return fabric

    def state_of(folder: Path) -> tuple[Path, dict]:
        path = checkpoints(folder)[-1] / "state.json"
        return path, json.loads(path.read_text())

    monkeypatch.setattr("matpac.train.training.start_fabric", in_float16)
    for kept in (True, False):
        folder = tmp_path / f"kept {kept}"
        shutil.copytree(unbroken, folder)
        shutil.rmtree(checkpoints(folder)[-1])
        path, state = state_of(folder)
        assert (state["precision"], state["computed_in"]) == ({}, "32-true")
        if not kept:
            del state["precision"], state["computed_in"]
            path.write_text(json.dumps(state))
        assert run(sounds, folder, resume=True).complete
        assert ("continuing in 16-mixed" in capfd.readouterr().err) == kept
        _, state = state_of(folder)
        assert state["computed_in"] == "16-mixed"
        assert state["precision"]["scale"] > 0
        assert run(sounds, folder, resume=True).complete  # with the scale that was kept
        assert "continuing in" not in capfd.readouterr().err


def test_resuming_a_finished_run_does_nothing(unbroken: Path, sounds: Path, tmp_path: Path) -> None:
    shutil.copytree(unbroken, tmp_path / "run")
    assert run(sounds, tmp_path / "run", resume=True).complete
    assert_same(unbroken, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (unbroken / "metrics.jsonl").read_text()


# --- what goes wrong ---------------------------------------------------------------------------------------


def test_bad_files_are_skipped_and_each_is_named_once_across_a_break(tmp_path: Path) -> None:
    make_mixed_folder(tmp_path / "mixed")
    recipe = replace(tiny_recipe(), epochs=8)
    with killed_at(5):
        run(tmp_path / "mixed", tmp_path / "run", recipe)
    finished = run(tmp_path / "mixed", tmp_path / "run", recipe, resume=True)
    found = lines(tmp_path / "run" / "left_out.jsonl")
    reasons = {Path(line["path"]).name: line["reason"] for line in found}
    assert reasons.keys() == {"empty.wav", "text.wav", "click.wav", "cut.flac"}
    assert "empty file" in reasons["empty.wav"]
    assert "damaged or cut short" in reasons["cut.flac"]  # its header is good: only training meets it
    assert finished.complete
    assert finished.skipped == len(found) == 4


@pytest.mark.parametrize("name", ["loss", "norm"])
def test_what_is_not_finite_stops_the_run_and_spoils_no_checkpoint(
    name: str, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_of = Pretraining.step
    spoilt = {"losses": {"loss": torch.tensor(math.nan)}} if name == "loss" else {"norm": torch.tensor(math.inf)}

    def step(self: Pretraining, batches: Any) -> PretextStep:
        result = step_of(self, batches)
        return replace(result, **spoilt) if self.training.step == 3 else result

    monkeypatch.setattr(Pretraining, "step", step)
    with pytest.raises(TrainingError, match=r"step 4: the loss is .*step-00000002") as error:
        run(sounds, tmp_path / "run")
    assert str(error.value).count(".wav") == 4
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-00000002"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corpus_that_became_unreadable_is_one_clear_line(workers: int, tmp_path: Path) -> None:
    sounds = make_sounds(tmp_path / "sounds")
    read_crop = audio.read_crop

    def fails(path: str, *arguments: object) -> np.ndarray:
        raise audio.AudioError(f"{path}: damaged")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(audio, "read_crop", fails)
        with pytest.raises(DataError) as error:
            run(sounds, tmp_path / "run", workers=workers)
    assert audio.read_crop is read_crop
    assert str(error.value).startswith("10 clips in a row can't be decoded; check the corpus: ")
    assert "\n" not in str(error.value)
    assert not multiprocessing.active_children()  # and the reading process has ended with it


def test_a_reader_that_is_killed_is_one_clear_line(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killing(self: Pretraining, batches: object) -> None:
        for reader in multiprocessing.active_children():
            assert reader.pid is not None
            os.kill(reader.pid, signal.SIGKILL)
        while True:  # PyTorch interrupts it
            time.sleep(0.1)

    monkeypatch.setattr(Pretraining, "step", killing)
    with pytest.raises(
        TrainingError, match=r"a process that reads sounds has ended .*--resume and fewer --workers"
    ):
        run(sounds, tmp_path / "run", workers=1)


def test_several_gpus_are_asked_whether_to_stop_between_log_lines(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def agree(fabric: object, stop: StopSignal, asking: bool) -> bool:
        asked.append(asking)
        return False

    monkeypatch.setattr("matpac.train.loop.agree_to_stop", agree)
    monkeypatch.setattr("matpac.train.loop.ASKING_STEPS", 2)
    run(sounds, tmp_path / "run", log_every=5)
    assert asked == [False, True, False, True, True, True]


@pytest.mark.parametrize(
    ("recipe", "count", "message"),
    [
        (tiny_recipe(), 0, "no sound file"),
        (tiny_recipe(), 3, "too few clips for one batch: there are 3, a batch has 4"),
    ],
)
def test_a_start_that_fails_does_not_block_the_next(
    recipe: Recipe, count: int, message: str, tmp_path: Path
) -> None:
    (tmp_path / "sounds").mkdir()
    make_sounds(tmp_path / "sounds", count)
    with pytest.raises(DataError, match=message):
        run(tmp_path / "sounds", tmp_path / "run", recipe)
    make_sounds(tmp_path / "sounds", 4)
    assert run(tmp_path / "sounds", tmp_path / "run", recipe).complete


def test_short_clips_can_be_dropped(sounds: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe()
    longer = replace(recipe.objective, encoder=replace(recipe.objective.encoder, frames=80))  # 0.815 s
    recipe = replace(recipe, objective=longer, short="drop")
    run(sounds, tmp_path / "run", recipe)
    dropped = {Path(line["path"]).name for line in lines(tmp_path / "run" / "left_out.jsonl")}
    assert dropped == {"0.wav", "1.wav", "2.wav"}  # 0.7, 0.75, 0.8 s
