"""Command lines of jobs that have recipes: a recipe's numbers by their names, configuration files, resuming."""

import argparse
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter, Namespace

from matpac.errors import MatpacError, one_line
from matpac.train.config import check_unchanged, read_config
from matpac.train.options import RunOptions

RecipeT = TypeVar("RecipeT")
OptionsT = TypeVar("OptionsT", bound=RunOptions)


@dataclass(frozen=True)
class RecipeCommand(Generic[RecipeT, OptionsT]):
    """A command that takes a recipe by name, and every number of it as an option.

    Args:
        name: as typed, `matpac pretrain`.
        usage: one line.
        description: what it is for, with examples.
        recipes: by name; their docstrings are shown.
        default: the recipe where none is named.
        recipe: dataclass of what decides what is learned.
        options: dataclass of the rest.
    """

    name: str
    usage: str
    description: str
    recipes: Mapping[str, Callable[[], RecipeT]]
    default: str
    recipe: type[RecipeT]
    options: type[OptionsT]

    def parse(self, arguments: list[str]) -> tuple[str, RecipeT, OptionsT]:
        """The recipe's name, the recipe and the options that a command line asks for.

        Raises:
            MatpacError: an unknown recipe or option, or a run to resume that has other settings, or none.
        """
        first = self._first_look(arguments)
        if first.resume and first.output and not {"-h", "--help"} & set(arguments):
            return self._parse_resumed(arguments, first.output, first.recipe)
        name = first.recipe or self.default
        if name not in self.recipes:
            raise MatpacError(f"--recipe {name}: unknown; choose from {', '.join(self.recipes)}")
        defaults: Any = self.recipes[name]()
        return name, *self._build(self._parser(name, asdict(defaults)), arguments)

    def _first_look(self, arguments: list[str]) -> Namespace:
        """What decides the defaults of everything else, on the command line or in a configuration file."""
        parser = _FirstParser(self.name, add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
        parser.add_argument("--config", action="append")
        parser.add_argument("--recipe")
        parser.add_argument("--resume", action="store_true")
        parser.add_argument("--output")
        known = vars(parser.parse_known_args(arguments)[0])
        found: dict[str, object] = {"recipe": "", "output": "", "resume": False}
        for file in known.pop("config", []):
            found |= {key: value for key, value in _read_yaml(file).items() if key in found}
        return Namespace(**{**found, **known})

    def _parse_resumed(
        self, arguments: list[str], output: str, recipe_asked: str
    ) -> tuple[str, RecipeT, OptionsT]:
        """The run's own configuration; options that would change what it computes are refused."""
        kept = read_config(Path(output))
        name = kept.get("name", "")
        try:
            parser = self._parser(name, {**kept["recipe"], **kept["options"], "resume": True})
            recipe, options = self._build(parser, arguments)
        except (KeyError, AttributeError, TypeError) as error:
            raise MatpacError(
                f"{output}: its config.json does not fit this matpac ({one_line(error)}); if another version "
                "wrote it, resume with that one, else restore the file, or start another run"
            ) from error
        if recipe_asked not in ("", name):
            raise MatpacError(
                f"{output}: a resumed run keeps its settings, and this differs: recipe {name} → {recipe_asked}; "
                "omit --recipe, or start another run"
            )
        check_unchanged(kept, recipe, options)
        return name, recipe, options

    def _parser(self, recipe: str, defaults: Mapping[str, object]) -> ArgumentParser:
        about = inspect.cleandoc(self.recipes[recipe].__doc__ or "") if recipe in self.recipes else ""
        parser = ArgumentParser(
            prog=self.name,
            usage=self.usage,
            description=f"{self.description}\n\n{recipe}: {about}",
            formatter_class=HelpFormatter,
            exit_on_error=False,
        )
        parser.add_argument("--config", action=ActionConfigFile, help="a YAML file with any of the options below")
        parser.add_argument("--recipe", default=recipe, help=f"one of {', '.join(self.recipes)}")
        parser.add_argument("--resume", action="store_true", help="continue the run in --output")
        parser.add_class_arguments(self.options, skip={"resume"})
        parser.add_class_arguments(self.recipe)
        parser.set_defaults(dict(defaults))
        return parser

    def _build(self, parser: ArgumentParser, arguments: list[str]) -> tuple[RecipeT, OptionsT]:
        try:
            parsed = parser.instantiate(parser.parse_args(arguments))
        except (argparse.ArgumentError, TypeError) as error:  # TypeError for a value of another type
            reason = re.sub(r'Parser key "([\w.]+)":', r"--\1:", one_line(error))
            reason = reason.replace("a typing.Literal", "one of ")
            raise MatpacError(f"{reason}; run {self.name} --help for its options") from error
        kinds: tuple[Any, Any] = (self.recipe, self.options)
        recipe, options = (kind(**{field.name: parsed[field.name] for field in fields(kind)}) for kind in kinds)
        return recipe, options


class _FirstParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise MatpacError(f"{message}; run {self.prog} --help for its options")


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions as they are."""


def _read_yaml(file: str) -> dict:
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise MatpacError(f"--config {file}: cannot be read as YAML ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise MatpacError(f"--config {file}: has no options by their names (`epochs: 30`), but {content!r:.80}")
    return content
