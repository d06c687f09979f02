"""`matpac pretrain`'s command line: recipes, overrides, files of options, and what a resumed run keeps."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_run import as_arguments, make_sounds, tiny_recipe
from matpac.cli import main
from matpac.errors import MatpacError
from matpac.pretrain.command import COMMAND
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.recipes import RECIPES
from matpac.train.config import check_unchanged, read_config

parse = COMMAND.parse
WHERE = ["--data", "sounds", "--output", "runs/x"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_what_its_name_says(name: str) -> None:
    assert parse(["--recipe", name, *WHERE]) == (
        name,
        RECIPES[name](),
        PretrainOptions(data="sounds", output="runs/x"),
    )


def test_every_number_can_be_changed_by_its_name() -> None:
    given = ["--recipe=tiny", *WHERE, "--objective.head.classes", "33", "--epochs", "0.5", "--devices", "2"]
    given += ["--optimizer.decay_biases_and_norms", "false", "--objective.head.center_on", "logits"]
    _, recipe, options = parse(given)
    tiny = RECIPES["tiny"]()
    head = replace(tiny.objective.head, classes=33, center_on="logits")
    assert recipe == replace(
        tiny,
        epochs=0.5,
        objective=replace(tiny.objective, head=head),
        optimizer=replace(tiny.optimizer, decay_biases_and_norms=False),
    )
    assert options == PretrainOptions(data="sounds", output="runs/x", devices=2)


def test_a_file_of_options_names_the_recipe_too(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("recipe: tiny\ndata: here\noutput: there\nepochs: 7\nobjective:\n  alpha: 1.0\n")
    name, recipe, options = parse(["--config", str(file), "--epochs", "8", "--output", "runs/y"])
    tiny = RECIPES["tiny"]()
    assert name == "tiny"
    assert recipe == replace(tiny, epochs=8.0, objective=replace(tiny.objective, alpha=1.0))
    assert options == PretrainOptions(data="here", output="runs/y")


def test_what_print_config_prints_gives_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--recipe", "tiny-fine", *WHERE, "--epochs", "0.25", "--objective.predictor.hypotheses", "2"]
    with pytest.raises(SystemExit):
        parse([*given, "--print_config"])
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)
    assert parse(["--config", str(file)]) == parse(given)


def refused(given: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command prints."""
    assert main(["pretrain", *given]) == 2
    line = capsys.readouterr().err
    assert line.startswith("matpac pretrain: ")
    assert line.count("\n") == 1
    return line


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--recipe", "huge", *WHERE], "--recipe huge: unknown; choose from matpac, matpac++"),
        ([*WHERE, "--epoch_count", "3"], "--epoch_count 3"),
        ([*WHERE, "--epochs", "many"], "epochs"),
        ([*WHERE, "--objective.alpha", "3"], "alpha must be between 0 and 1, not 3.0"),
        ([*WHERE, "--device", "abacus"], "--device: Expected one of ['auto', 'cpu'"),
        ([*WHERE, "--device", "mps"], "--device mps --devices auto: not available here"),
        ([*WHERE, "--recipe"], "--recipe"),
        (["--data", "x"], "output"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--resume", "--output", "nowhere"], "nowhere: no run to resume"),
    ],
)
def test_what_is_wrong_is_one_line(given: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in refused(given, capsys)


@pytest.mark.parametrize("content", ["[1, 2]", "just words", "a: [", "epochs: many", "nonsense: 3"])
def test_a_file_without_options(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(content)
    refused([*WHERE, "--config", str(file)], capsys)


def test_help_shows_recipe_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "--recipe", "tiny", "--help"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    for part in (
        "\n  matpac pretrain --recipe tiny",
        "Exit code: 0",
        "tiny: MATPAC++",
        "--objective.head.classes",
    ):
        assert part in output


# --- resumed -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder that has begun."""
    name, recipe, options = parse(
        ["--recipe", "tiny", "--data", "d", "--output", "o", "--epochs", "4", "--seed", "2"]
    )
    config = {"name": name, "recipe": asdict(recipe), "options": asdict(options)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_a_resumed_run_keeps_its_settings_and_may_run_elsewhere(folder: Path, tmp_path: Path) -> None:
    name, recipe, options = parse(["--resume", "--output", str(folder)])
    assert (name, recipe) == ("tiny", replace(RECIPES["tiny"](), epochs=4.0))
    assert options == PretrainOptions(data="d", output=str(folder), resume=True, seed=2)
    given = ["--log_every", "9", "--devices", "2", "--workers", "3", "--keep", "5", "--checkpoint_every", "7"]
    _, _, elsewhere = parse(["--resume", f"--output={folder}", "--data", "/copy", *given])
    changes = {"log_every": 9, "devices": 2, "workers": 3, "keep": 5, "checkpoint_every": 7}
    assert elsewhere == replace(options, data="/copy", **changes)
    file = tmp_path / "options.yaml"
    file.write_text(f"resume: true\noutput: {folder}\n")
    assert parse(["--config", str(file)]) == (name, recipe, options)


def rewrite(folder: Path, changes: dict, *missing: str) -> None:
    """Change and remove options of the run folder's configuration."""
    config = read_config(folder)
    config["options"] = {name: value for name, value in config["options"].items() if name not in missing} | changes
    (folder / "config.json").write_text(json.dumps(config))


def test_a_run_from_before_an_option_existed_is_resumed_and_may_use_it(folder: Path) -> None:
    rewrite(folder, {}, "compile", "activation_checkpointing", "encoder")
    _, recipe, options = parse(["--resume", "--output", str(folder)])
    check_unchanged(read_config(folder), recipe, options)
    more = parse(["--resume", "--output", str(folder), "--compile", "true"])
    assert more[2] == replace(options, compile=True)


@pytest.mark.parametrize(("accelerator", "device"), [("cpu", "cpu"), ("auto", "auto"), ("gpu", "auto")])
def test_a_run_with_earlier_names_of_options_is_resumed(accelerator: str, device: Any, folder: Path) -> None:
    rewrite(folder, {"accelerator": accelerator, "crops_per_read": 1}, "device")
    _, recipe, options = parse(["--resume", "--output", str(folder)])
    assert options == PretrainOptions(data="d", output=str(folder), resume=True, seed=2, device=device)
    check_unchanged(read_config(folder), recipe, options)
    rewrite(folder, {"crops_per_read": 2})
    with pytest.raises(MatpacError, match="crops_per_read 2"):
        parse(["--resume", "--output", str(folder)])


@pytest.mark.parametrize("change", [{"momentum": 3}, {"optimizer": {"momentum": 3}}, {"epochs": "many"}], ids=str)
def test_a_run_of_another_matpac_is_refused(
    change: dict, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"recipe": config["recipe"] | change}))
    line = refused(["--resume", "--output", str(folder)], capsys)
    assert f"{folder}: its config.json does not fit this matpac" in line


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        (["--seed", "3"], "seed 2 → 3"),
        (["--objective.teacher_starts_as_copy", "true"], "objective.teacher_starts_as_copy False → True"),
        (["--accumulate", "2"], "accumulate 1 → 2"),
        (["--recipe", "matpac"], "recipe tiny → matpac"),
    ],
)
def test_a_resumed_run_refuses_other_settings(given: list[str], changed: str, folder: Path) -> None:
    with pytest.raises(MatpacError, match=changed) as error:
        parse(["--resume", "--output", str(folder), *given])
    assert str(folder) in str(error.value)


def test_a_run_and_its_resumption_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds, output = make_sounds(tmp_path / "sounds"), tmp_path / "run"
    given = ["--data", str(sounds), "--output", str(output), "--device", "cpu", "--workers", "0"]
    assert main(["pretrain", *as_arguments(replace(tiny_recipe(), epochs=1)), *given]) == 0
    assert f"{output}: 2 steps done" in capsys.readouterr().err
    kept = json.loads((output / "config.json").read_text())
    assert kept["name"] == "tiny"
    assert kept["recipe"]["objective"]["encoder"]["width"] == 16
    assert main(["pretrain", *as_arguments(tiny_recipe()), *given]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main(["pretrain", "--resume", "--output", str(output)]) == 0
    assert json.loads((output / "config.json").read_text())["recipe"] == kept["recipe"]
