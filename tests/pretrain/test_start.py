"""Runs that go on from an encoder's weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import matpac
from helpers.tiny_run import assert_same, last_state, make_sounds, options, run, tiny_recipe
from matpac.errors import MatpacError
from matpac.files.save import save
from matpac.pretrain import Objective
from matpac.pretrain.recipes import Recipe
from matpac.pretrain.start import StartError, start_from
from matpac.train.config import RunError


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sounds(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def encoder(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights that no seed draws."""
    folder = tmp_path_factory.mktemp("encoder")
    run(sounds, folder / "run")
    save(matpac.load(folder / "run"), folder / "encoder.safetensors")
    return folder / "encoder.safetensors"


def standing_still(recipe: Recipe) -> Recipe:
    """Nothing moves: a run leaves what it began with."""
    schedule = replace(recipe.schedule, encoder_decay_start=1.0, encoder_decay_end=1.0)
    return replace(recipe, schedule=schedule, optimizer=replace(recipe.optimizer, learning_rate=0.0))


def test_student_and_teacher_start_from_the_encoder(
    sounds: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(sounds, tmp_path / "run", standing_still(tiny_recipe()), encoder=str(encoder))
    given = matpac.load(encoder)
    found = last_state(tmp_path / "run")[0]
    for name, weight in given.encoder.state_dict().items():
        assert torch.equal(found[f"student.{name}"], weight), name
    for name, weight in given.encoder.transformer.state_dict().items():
        assert torch.equal(found[f"teacher.transformer.{name}"], weight), name
    key = given.key
    assert f"weights from {encoder} (SHA-256 {key[:16]}…)" in capsys.readouterr().err
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-00000006" / "state.json").read_text())
    assert state["started_from"] == key


def test_predictor_and_heads_are_the_seeds_draw(encoder: Path) -> None:
    objectives: list[Objective] = []
    for _ in range(2):
        torch.manual_seed(0)
        objectives.append(Objective(tiny_recipe().objective))
    plain, started = objectives
    start_from(str(encoder), started, tiny_recipe())
    new = {name: weight for name, weight in plain.state_dict().items() if "predictor" in name or "head" in name}
    assert new
    for name, weight in new.items():
        assert torch.equal(weight, started.state_dict()[name]), name
    assert not torch.equal(plain.student.cls_token, started.student.cls_token)


def test_a_resumed_run_needs_the_encoder_no_more(sounds: Path, encoder: Path, tmp_path: Path) -> None:
    away = tmp_path / "away.safetensors"
    away.write_bytes(encoder.read_bytes())
    whole = run(sounds, tmp_path / "whole", encoder=str(away))
    assert whole.complete
    broken = tmp_path / "broken"
    _until_step(2, sounds, broken, str(away))
    away.unlink()
    assert run(sounds, broken, encoder=str(away), resume=True).complete
    assert_same(tmp_path / "whole", broken)
    with pytest.raises(RunError, match=r"encoder .*away.safetensors → tiny"):
        run(sounds, broken, encoder="tiny", resume=True)
    last = sorted((broken / "checkpoints").iterdir())[-1]
    assert json.loads((last / "state.json").read_text())["started_from"] == matpac.load(encoder).key


def _until_step(step: int, sounds: Path, folder: Path, encoder: str) -> None:
    """A run whose later checkpoints are lost."""
    assert run(sounds, folder, encoder=encoder, keep=10).complete
    for path in (folder / "checkpoints").iterdir():
        if int(path.name[5:]) > step:
            shutil.rmtree(path)


@pytest.mark.parametrize("frames", [32, 80])
def test_crops_may_be_shorter_or_longer(sounds: Path, encoder: Path, tmp_path: Path, frames: int) -> None:
    recipe = tiny_recipe()
    size = replace(recipe.objective.encoder, frames=frames)
    recipe = standing_still(replace(recipe, objective=replace(recipe.objective, encoder=size)))
    run(sounds, tmp_path / "run", recipe, encoder=str(encoder))
    went_on, before = matpac.load(tmp_path / "run").encoder, matpac.load(encoder).encoder
    assert went_on.config.frames == frames
    logmel = torch.randn(1, 80, 32)
    assert torch.allclose(went_on(logmel), before(logmel), atol=1e-6)


def test_what_does_not_fit_is_named_with_the_options_to_pass(sounds: Path, encoder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe()
    wider = replace(recipe.objective, encoder=replace(recipe.objective.encoder, width=32, heads=2))
    other = replace(recipe, objective=wider, logmel=replace(recipe.logmel, mean=-1.5))
    with pytest.raises(StartError) as error:
        run(sounds, tmp_path / "run", other, encoder=str(encoder))
    message = str(error.value)
    assert message.startswith(f"{encoder}: ")
    assert "--objective.encoder.width 16, and not 32" in message
    assert "--objective.encoder.heads 1, and not 2" in message
    assert f"--logmel.mean {recipe.logmel.mean}, and not -1.5" in message
    # nothing is in the way of the next try
    assert run(sounds, tmp_path / "run", encoder=str(encoder)).complete


def test_another_table_of_positions_keeps_its_length(encoder: Path, tmp_path: Path) -> None:
    embedder = matpac.load(encoder)
    embedder.encoder.positions.add_(0.5)
    save(embedder, tmp_path / "other.safetensors")
    source, recipe = str(tmp_path / "other.safetensors"), tiny_recipe()
    same_length = Objective(recipe.objective)
    start_from(source, same_length, recipe)
    assert torch.equal(same_length.student.positions, embedder.encoder.positions)
    longer = replace(recipe.objective, encoder=replace(recipe.objective.encoder, frames=80))
    with pytest.raises(StartError, match=r"other.safetensors: its table of positions.*encoder.frames 48"):
        start_from(source, Objective(longer), replace(recipe, objective=longer))


def test_an_encoder_that_is_not_there(sounds: Path, tmp_path: Path) -> None:
    with pytest.raises(MatpacError, match="nowhere"):
        run(sounds, tmp_path / "run", encoder=str(tmp_path / "nowhere.safetensors"))
    assert options(sounds, tmp_path).encoder is None
