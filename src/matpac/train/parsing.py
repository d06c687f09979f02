"""Command lines of jobs that have recipes: a recipe's numbers by their names, configuration files, resuming."""

import argparse
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter, Namespace

from matpac.errors import MatpacError, one_line
from matpac.train.run import read_config
from matpac.train.settings import check_unchanged

RecipeT = TypeVar("RecipeT")
OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True)
class RecipeCommand(Generic[RecipeT, OptionsT]):
    """What a command is made of.

    Args:
        name: as typed, `matpac pretrain`.
        usage: a line.
        description: what it is for, with examples.
        recipes: by name; their docstrings are shown.
        default: the recipe where none is named.
        recipe: dataclass of what decides what is learned.
        options: dataclass of the rest, with `output` and `resume`.
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
            MatpacError: an unknown recipe or option, a resumed run with other settings than it began with, or with
                a configuration that is none.
        """
        before = self._look_ahead(arguments)
        if before.resume and before.output and not {"-h", "--help"} & set(arguments):
            return self._parse_resumed(arguments, before.output, before.recipe)
        name = before.recipe or self.default
        if name not in self.recipes:
            raise MatpacError(f"--recipe {name}: not known; there are {', '.join(self.recipes)}")
        return name, *self._build(self._parser(name, _numbers(self.recipes[name]())), arguments)

    @property
    def _help(self) -> str:
        return f"{self.name} --help tells the options"

    def _look_ahead(self, arguments: list[str]) -> Namespace:
        """What decides the defaults of everything else, on the command line or in a configuration file."""
        parser = _LookAhead(self._help)
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
            reason = one_line(error)
            raise MatpacError(
                f"{output}: its config.json does not fit this matpac ({reason}); if another one wrote it, go on "
                "with that, else put it back, or start another run"
            ) from error
        if recipe_asked not in ("", name):
            raise MatpacError(
                f"{output}: a resumed run keeps its settings, and this differs: recipe {name} → {recipe_asked}; "
                "leave --recipe away, or start another run"
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
        parser.add_argument("--resume", action="store_true", help="go on with the run in --output")
        parser.add_class_arguments(self.options, skip={"resume"})
        parser.add_class_arguments(self.recipe)
        parser.set_defaults(dict(defaults))
        return parser

    def _build(self, parser: ArgumentParser, arguments: list[str]) -> tuple[RecipeT, OptionsT]:
        try:
            parsed = parser.instantiate(parser.parse_args(arguments))
        except (argparse.ArgumentError, TypeError) as error:  # TypeError, where a value has another type
            raise MatpacError(f"{one_line(error)}; {self._help}") from error
        recipe = self.recipe(**{name: parsed[name] for name in _fields(self.recipe)})
        return recipe, self.options(**{name: parsed[name] for name in _fields(self.options)})


class _LookAhead(argparse.ArgumentParser):
    def __init__(self, help_line: str) -> None:
        super().__init__(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
        self._help_line = help_line

    def error(self, message: str) -> NoReturn:
        raise MatpacError(f"{message}; {self._help_line}")


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions as they are."""


def _numbers(recipe: Any) -> dict[str, object]:
    return asdict(recipe)


def _fields(kind: Any) -> dict[str, object]:
    return kind.__dataclass_fields__


def _read_yaml(file: str) -> dict:
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = one_line(error)
        raise MatpacError(f"--config {file}: cannot be read as YAML ({reason})") from error
    if not isinstance(content, dict):
        raise MatpacError(f"--config {file}: not options by their names (`epochs: 30`), but {content!r:.80}")
    return content
