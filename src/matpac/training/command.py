"""`matpac pretrain`: recipe, configuration file and options to a run."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from matpac.errors import MatpacError
from matpac.recipes import RECIPES, Recipe
from matpac.training.options import RunOptions
from matpac.training.run import read_config

DESCRIPTION = """Pre-train an encoder on your sounds.

  matpac pretrain --recipe tiny --data FOLDER --output runs/x
  matpac pretrain --recipe matpac++ --data clips.parquet --output runs/y --batch_size 256 --epochs 30
  matpac pretrain --resume --output runs/x

Below are the defaults of the chosen recipe; every number of it can be changed by its name.
Exit code: 0 when the last step was done or the run was stopped and saved, 2 for an error."""

FREE = {"resume", "output", "devices", "nodes", "workers", "log_every", "checkpoint_every", "keep", "accelerator"}
"""Options that a resumed run may change: they decide where and how it runs, not what it computes."""


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
    if before.resume and before.output:
        return _parse_resumed(arguments, before.output)
    if before.recipe not in RECIPES:
        raise MatpacError(f"--recipe {before.recipe}: not known; there are {', '.join(RECIPES)}")
    parser = _full_parser(before.recipe, asdict(RECIPES[before.recipe]()))
    return before.recipe, *_build(parser, arguments)


def _look_ahead(arguments: list[str]) -> Namespace:
    """What decides the defaults of everything else."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", default="matpac++")
    parser.add_argument("--resume", nargs="?", const="true", default="")
    parser.add_argument("--output", default="")
    known = parser.parse_known_args(arguments)[0]
    return Namespace(recipe=known.recipe, output=known.output, resume=known.resume.lower() in ("true", "yes", "1"))


def _parse_resumed(arguments: list[str], output: str) -> tuple[str, Recipe, RunOptions]:
    """The run's own configuration; options that would change what it computes are refused."""
    kept = read_config(Path(output))
    name = kept.get("name", "")
    parser = _full_parser(name, {**kept["recipe"], **kept["options"], "resume": True})
    recipe, options = _build(parser, arguments)
    before = {**_flat(kept["recipe"]), **_flat(kept["options"])}
    now = {**_flat(json.loads(json.dumps(asdict(recipe)))), **_flat(asdict(options))}
    changed = [
        f"{key} {before[key]} → {now[key]}" for key in now if key not in FREE and before.get(key) != now[key]
    ]
    if changed:
        raise MatpacError(
            f"{output}: a resumed run keeps its settings, and these differ: {'; '.join(changed)}; "
            "leave them away, or start another run"
        )
    return name, recipe, options


def _flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _full_parser(recipe: str, defaults: Mapping[str, object]) -> ArgumentParser:
    about = RECIPES[recipe].__doc__ if recipe in RECIPES else ""
    parser = ArgumentParser(
        prog="matpac pretrain",
        usage="matpac pretrain --recipe NAME --data SOUNDS --output RUN [--any.option value …] [--config FILE]",
        description=f"{DESCRIPTION}\n\n{recipe}: {about}",
    )
    parser.add_argument("--config", action=ActionConfigFile, help="a YAML file with any of the options below")
    parser.add_argument("--recipe", default=recipe, help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --output")
    parser.add_class_arguments(RunOptions, skip={"resume"})
    parser.add_class_arguments(Recipe)
    parser.set_defaults(dict(defaults))
    return parser


def _build(parser: ArgumentParser, arguments: list[str]) -> tuple[Recipe, RunOptions]:
    parsed = parser.instantiate(parser.parse_args(arguments))
    recipe = Recipe(**{name: parsed[name] for name in Recipe.__dataclass_fields__})
    return recipe, RunOptions(**{name: parsed[name] for name in RunOptions.__dataclass_fields__})
