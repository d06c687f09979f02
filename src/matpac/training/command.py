"""`matpac pretrain`: recipe, configuration file and options to a run."""

import argparse
import inspect
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter, Namespace

from matpac.errors import MatpacError
from matpac.recipes import RECIPES, Recipe
from matpac.training.options import RunOptions
from matpac.training.run import read_config
from matpac.training.settings import check_unchanged

DESCRIPTION = """Pre-train an encoder on your sounds.

  matpac pretrain --recipe tiny --data FOLDER --output runs/x
  matpac pretrain --recipe matpac++ --data clips.parquet --output runs/y --batch_size 256 --epochs 30
  matpac pretrain --resume --output runs/x

Below are the defaults of the chosen recipe; every number of it can be changed by its name.
Exit code: 0 when the last step was done or the run was stopped and saved, 2 for an error."""

HELP = "matpac pretrain --help tells the options"

DEFAULT_RECIPE = "matpac++"


def run_pretrain(arguments: list[str]) -> int:
    """Parse, run; returns the exit code."""
    name, recipe, options = parse(arguments)
    from matpac.training.pretrain import pretrain

    pretrain(recipe, options, name)
    return 0


def parse(arguments: list[str]) -> tuple[str, Recipe, RunOptions]:
    """The recipe's name, the recipe and the options that a command line asks for.

    Raises:
        MatpacError: an unknown recipe, or a resumed run with other settings than it began with.
    """
    before = _look_ahead(arguments)
    if before.resume and before.output and not {"-h", "--help"} & set(arguments):
        return _parse_resumed(arguments, before.output, before.recipe)
    name = before.recipe or DEFAULT_RECIPE
    if name not in RECIPES:
        raise MatpacError(f"--recipe {name}: not known; there are {', '.join(RECIPES)}")
    return name, *_build(_full_parser(name, asdict(RECIPES[name]())), arguments)


class _LookAhead(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise MatpacError(f"{message}; {HELP}")


def _look_ahead(arguments: list[str]) -> Namespace:
    """What decides the defaults of everything else, on the command line or in a configuration file."""
    parser = _LookAhead(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", action="append")
    parser.add_argument("--recipe")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--output")
    known = vars(parser.parse_known_args(arguments)[0])
    found: dict[str, object] = {"recipe": "", "output": "", "resume": False}
    for file in known.pop("config", []):
        found |= {key: value for key, value in _read_yaml(file).items() if key in found}
    return Namespace(**{**found, **known})


def _read_yaml(file: str) -> dict:
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise MatpacError(f"--config {file}: cannot be read as YAML ({reason})") from error
    if not isinstance(content, dict):
        raise MatpacError(f"--config {file}: not options by their names (`epochs: 30`), but {content!r:.80}")
    return content


def _parse_resumed(arguments: list[str], output: str, recipe_asked: str) -> tuple[str, Recipe, RunOptions]:
    """The run's own configuration; options that would change what it computes are refused."""
    kept = read_config(Path(output))
    name = kept.get("name", "")
    parser = _full_parser(name, {**kept["recipe"], **kept["options"], "resume": True})
    recipe, options = _build(parser, arguments)
    if recipe_asked not in ("", name):
        raise MatpacError(
            f"{output}: a resumed run keeps its settings, and this differs: recipe {name} → {recipe_asked}; "
            "leave --recipe away, or start another run"
        )
    check_unchanged(kept, recipe, options)
    return name, recipe, options


class _HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions as they are."""


def _full_parser(recipe: str, defaults: Mapping[str, object]) -> ArgumentParser:
    about = inspect.cleandoc(RECIPES[recipe].__doc__ or "") if recipe in RECIPES else ""
    parser = ArgumentParser(
        prog="matpac pretrain",
        usage="matpac pretrain --recipe NAME --data SOUNDS --output RUN [--any.option value …] [--config FILE]",
        description=f"{DESCRIPTION}\n\n{recipe}: {about}",
        formatter_class=_HelpFormatter,
        exit_on_error=False,
    )
    parser.add_argument("--config", action=ActionConfigFile, help="a YAML file with any of the options below")
    parser.add_argument("--recipe", default=recipe, help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --output")
    parser.add_class_arguments(RunOptions, skip={"resume"})
    parser.add_class_arguments(Recipe)
    parser.set_defaults(dict(defaults))
    return parser


def _build(parser: ArgumentParser, arguments: list[str]) -> tuple[Recipe, RunOptions]:
    try:
        parsed = parser.instantiate(parser.parse_args(arguments))
    except (argparse.ArgumentError, TypeError) as error:  # TypeError, where a value has another type
        raise MatpacError(f"{' '.join(str(error).split())}; {HELP}") from error
    recipe = Recipe(**{name: parsed[name] for name in Recipe.__dataclass_fields__})
    return recipe, RunOptions(**{name: parsed[name] for name in RunOptions.__dataclass_fields__})
