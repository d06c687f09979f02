"""Runs that start from an encoder's weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import matpac
from helpers.tiny_run import assert_same, checkpoints, killed_at, last_state, make_sounds, run, tiny_recipe
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


def of_frames(frames: int) -> Recipe:
    objective = tiny_recipe().objective
    return tiny_recipe(objective=replace(objective, encoder=replace(objective.encoder, frames=frames)))


@pytest.mark.parametrize("frames", [32, 48, 80])
def test_student_and_teacher_start_from_the_encoder_and_the_rest_from_the_seed(frames: int, encoder: Path) -> None:
    """Crops may be shorter or longer than the encoder's."""
    recipe, objectives = of_frames(frames), []
    for _ in range(2):
        torch.manual_seed(0)
        objectives.append(Objective(recipe.objective))
    drawn, started = objectives
    given = matpac.load(encoder)
    assert start_from(str(encoder), started, recipe) == given.key
    weights = given.encoder.transformer.state_dict()
    for part in (started.student.transformer, started.teacher.transformer):
        assert all(torch.equal(part.state_dict()[name], weight) for name, weight in weights.items())
    logmel = torch.randn(1, 80, 32)
    torch.testing.assert_close(started.student(logmel), given.encoder(logmel), atol=1e-6, rtol=0)
    assert not torch.equal(drawn.student.cls_token, started.student.cls_token)
    new = {name: weight for name, weight in drawn.state_dict().items() if "predictor" in name or "head" in name}
    assert new
    assert all(torch.equal(weight, started.state_dict()[name]) for name, weight in new.items())


def test_a_resumed_run_needs_the_encoder_no_more(
    sounds: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away, broken = tmp_path / "away.safetensors", tmp_path / "broken"
    away.write_bytes(encoder.read_bytes())
    key = matpac.load(encoder).key
    run(sounds, tmp_path / "whole", encoder=str(away))
    assert f"weights from {away} (SHA-256 {key[:16]}…)" in capsys.readouterr().err
    run(sounds, tmp_path / "drawn")
    whole, drawn = (last_state(tmp_path / name)[0]["student.cls_token"] for name in ("whole", "drawn"))
    assert not torch.equal(whole, drawn)
    with killed_at(3):
        run(sounds, broken, encoder=str(away))
    away.unlink()
    assert run(sounds, broken, encoder=str(away), resume=True).complete
    assert_same(tmp_path / "whole", broken)
    with pytest.raises(RunError, match=r"encoder .*away.safetensors → tiny"):
        run(sounds, broken, encoder="tiny", resume=True)
    assert json.loads((checkpoints(broken)[-1] / "state.json").read_text())["started_from"] == key


def test_what_does_not_fit_is_named_with_the_options_to_pass(sounds: Path, encoder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe()
    wider = replace(recipe.objective, encoder=replace(recipe.objective.encoder, width=32, heads=2))
    other = replace(recipe, objective=wider, logmel=replace(recipe.logmel, mean=-1.5))
    with pytest.raises(StartError, match=r"encoder\.safetensors: ") as error:
        run(sounds, tmp_path / "run", other, encoder=str(encoder))
    for part in ("objective.encoder.width 16", "objective.encoder.heads 1", f"logmel.mean {recipe.logmel.mean}"):
        assert f"--{part}, and not " in str(error.value)
    with pytest.raises(MatpacError, match="nowhere"):
        run(sounds, tmp_path / "run", encoder=str(tmp_path / "nowhere.safetensors"))
    # nothing is in the way of the next try
    assert run(sounds, tmp_path / "run", encoder=str(encoder)).complete


def test_another_table_of_positions_keeps_its_length(encoder: Path, tmp_path: Path) -> None:
    embedder = matpac.load(encoder)
    embedder.encoder.positions.add_(0.5)
    source = str(save(embedder, tmp_path / "other.safetensors"))
    same_length = Objective(tiny_recipe().objective)
    start_from(source, same_length, tiny_recipe())
    assert torch.equal(same_length.student.positions, embedder.encoder.positions)
    longer = of_frames(80)
    with pytest.raises(StartError, match=r"other.safetensors: its table of positions.*encoder.frames 48"):
        start_from(source, Objective(longer.objective), longer)
