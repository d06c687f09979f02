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


@pytest.mark.parametrize("name", ["matpac++", "tiny-fine"])
def test_what_print_config_prints_gives_the_same_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--recipe", name, *WHERE, "--epochs", "0.25", "--objective.predictor.hypotheses", "2", "--seed", "5"]
    with pytest.raises(SystemExit) as ended:
        parse([*given, "--print_config"])
    assert ended.value.code == 0
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)
    assert parse(["--config", str(file)]) == parse(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--recipe", "huge", *WHERE], "--recipe huge: unknown; choose from matpac, matpac++"),
        ([*WHERE, "--epoch_count", "3"], "unrecognized arguments: --epoch_count 3"),
        ([*WHERE, "--epochs", "many"], "epochs"),
        ([*WHERE, "--short", "maybe"], "short"),
        ([*WHERE, "--objective.alpha", "3"], "alpha must be between 0 and 1, not 3.0"),
        ([*WHERE, "--objective.mask_ratio", "1"], "mask_ratio 1"),
        ([*WHERE, "--keep", "0"], "keep must be at least 1, not 0"),
        ([*WHERE, "--objective.head.classes", "0"], "head.classes must be at least 1, not 0"),
        ([*WHERE, "--logmel.low", "9000"], "logmel.low 9000"),
        ([*WHERE, "--device", "abacus"], "--device: Expected one of ['auto', 'cpu'"),
        ([*WHERE, "--device", "mps"], "--device mps --devices auto: not available here"),
        ([*WHERE, "--recipe"], "argument --recipe: expected one argument"),
        ([*WHERE, "--epochs"], "expected one argument"),
        (["--data", "x"], "output"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--resume", "--output", "nowhere"], "nowhere: no run to resume"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", *given]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("matpac pretrain: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("content", ["[1, 2]", "just words", "a: [", "epochs: many", "nonsense: 3"])
def test_a_file_of_options_that_is_none(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(content)
    assert main(["pretrain", *WHERE, "--config", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_tells_recipe_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "--recipe", "tiny", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "\n  matpac pretrain --recipe tiny --data FOLDER --output runs/x\n" in said
    assert "Exit code: 0 when" in said
    assert "tiny: MATPAC++ small enough" in said
    assert "--objective.head.classes" in said


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


def test_a_resumed_run_keeps_its_settings(folder: Path) -> None:
    name, recipe, options = parse(["--resume", "--output", str(folder)])
    assert (name, recipe) == ("tiny", replace(RECIPES["tiny"](), epochs=4.0))
    assert options == PretrainOptions(data="d", output=str(folder), resume=True, seed=2)


def test_a_resumed_run_may_run_elsewhere(folder: Path) -> None:
    given = ["--log_every", "9", "--devices", "2", "--workers", "3", "--keep", "5", "--checkpoint_every", "7"]
    _, _, options = parse(["--resume", f"--output={folder}", "--data", "/copy", *given])
    assert options == PretrainOptions(
        data="/copy",
        output=str(folder),
        resume=True,
        seed=2,
        log_every=9,
        devices=2,
        workers=3,
        keep=5,
        checkpoint_every=7,
    )


def rewrite(folder: Path, changes: dict, *missing: str) -> None:
    """Change and remove options of the run folder's configuration."""
    config = read_config(folder)
    config["options"] = {name: value for name, value in config["options"].items() if name not in missing} | changes
    (folder / "config.json").write_text(json.dumps(config))


def test_a_run_from_before_an_option_existed_is_resumed_and_may_use_it(folder: Path) -> None:
    rewrite(folder, {}, "compile", "activation_checkpointing", "encoder")
    _, recipe, options = parse(["--resume", "--output", str(folder)])
    assert options == PretrainOptions(data="d", output=str(folder), resume=True, seed=2)
    check_unchanged(read_config(folder), recipe, options)
    more = parse(["--resume", "--output", str(folder), "--compile", "true", "--activation_checkpointing", "true"])
    assert more[2] == replace(options, compile=True, activation_checkpointing=True)
    with pytest.raises(MatpacError, match=r"objective\.teacher_starts_as_copy False → True"):
        parse(["--resume", "--output", str(folder), "--objective.teacher_starts_as_copy", "true"])


@pytest.mark.parametrize(("accelerator", "device"), [("cpu", "cpu"), ("auto", "auto"), ("gpu", "auto")])
def test_a_run_with_earlier_names_of_options_is_resumed(accelerator: str, device: Any, folder: Path) -> None:
    rewrite(folder, {"accelerator": accelerator, "crops_per_read": 1}, "device")
    _, recipe, options = parse(["--resume", "--output", str(folder)])
    assert options == PretrainOptions(data="d", output=str(folder), resume=True, seed=2, device=device)
    check_unchanged(read_config(folder), recipe, options)
    rewrite(folder, {"crops_per_read": 2})
    with pytest.raises(MatpacError, match="crops_per_read 2"):
        parse(["--resume", "--output", str(folder)])


@pytest.mark.parametrize(
    "change", [{"momentum": 3}, {"optimizer": {"momentum": 3}}, {"optimizer": 3}, {"epochs": "many"}], ids=str
)
def test_a_run_of_another_matpac_is_refused_in_one_line(
    change: dict, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"recipe": config["recipe"] | change}))
    assert main(["pretrain", "--resume", "--output", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"{folder}: its config.json does not fit this matpac" in said
    assert said.count("\n") == 1


def test_a_file_of_options_can_ask_to_resume(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(f"resume: true\noutput: {folder}\n")
    assert parse(["--config", str(file)]) == parse(["--resume", "--output", str(folder)])


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        (["--seed", "3"], "seed 2 → 3"),
        (["--epochs", "5"], "epochs 4.0 → 5.0"),
        (["--objective.head.classes", "8"], "objective.head.classes 256 → 8"),
        (["--accumulate", "2"], "accumulate 1 → 2"),
        (["--recipe", "matpac"], "recipe tiny → matpac"),
    ],
)
def test_a_resumed_run_refuses_other_settings(given: list[str], changed: str, folder: Path) -> None:
    with pytest.raises(MatpacError, match="a resumed run keeps its settings") as error:
        parse(["--resume", "--output", str(folder), *given])
    assert changed in str(error.value)
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
