"""The command line. `matpac --help` imports nothing heavy; a command's module is imported when it is called.

A command is a typed function: its parameters are the options, its docstring is the help. Pre-training and
fine-tuning, whose options are the numbers of a recipe, take the words of the command line themselves.
"""

import argparse
import inspect
import io
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from matpac import __version__
from matpac.errors import MatpacError, one_line

COMMANDS = {
    "quickstart": ("pre-train, evaluate and use a tiny encoder on synthetic sounds", "quickstart.command"),
    "embed": ("turn sound files into vectors", "vectors.command"),
    "tag": ("name sounds: tags of clips, or a timeline", "tag.command"),
    "index": ("make a folder of sounds searchable", "search.command"),
    "search": ("find sounds like a sound", "search.command"),
    "app": ("listen, look and search in a browser", "app.command"),
    "pretrain": ("pre-train an encoder on a folder, a table or shards of sounds", "pretrain.command"),
    "stats": ("measure the log-mel mean and standard deviation of a corpus", "pretrain.command"),
    "pack": ("write a corpus as shards for large runs", "data.packing.command"),
    "probe": ("evaluate frozen encoders on labelled sounds", "probe.command"),
    "finetune": ("train an encoder and a head on labels: a tagger", "finetune.command"),
    "export": ("write an encoder as ONNX, in float32 or int8", "interop.command"),
}
"""What each command is for, and the module below `matpac` that has a function of its name."""

WRONG_TYPE = re.compile(r"Parser key \"(\w+)\": Expected an? <class '(\w+)'>. Got value: ")
"""How jsonargparse begins its message about a value of another type."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 for success, 1 when files were skipped, 2 for an error, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(overview())
        return 0
    if given[0] == "--version":
        print(f"matpac {__version__}")
        return 0
    command, rest = given[0], given[1:]
    if command not in COMMANDS:
        print(f"matpac: no command {command!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names need not be UTF-8; stderr escapes them by itself
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return run(command, rest)
    except (MatpacError, OSError) as error:  # what the user gave, and what the machine refused: both name it
        print(f"matpac {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"matpac {command}: stopped", file=sys.stderr)
        return 130


def overview() -> str:
    """The text of `matpac --help`: one line per command."""
    widest = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: matpac COMMAND [OPTION …]",
            "",
            "MATPAC and MATPAC++: self-supervised audio representations.",
            "",
            *(f"  {name:<{widest}}  {about}" for name, (about, _) in COMMANDS.items()),
            "",
            "Run `matpac COMMAND --help` for its options, `matpac --version` for the version.",
            "Exit code: 0 for success, 1 when files were skipped (each is named), 2 for an error, 130 for Ctrl-C.",
        ]
    )


def run(command: str, arguments: list[str]) -> int:
    """Import a command's function, parse its arguments and call it; returns the exit code.

    Raises:
        MatpacError: the arguments are wrong, or whatever the command raises.
    """
    module = import_module(f"matpac.{COMMANDS[command][1]}")
    function = getattr(module, f"run_{command}", None) or getattr(module, command)  # until all are typed functions
    words = [with_underscores(word) for word in arguments]
    if list(inspect.signature(function).parameters) == ["arguments"]:
        return function(words)
    return function(**parse(function, words))


def with_underscores(word: str) -> str:
    """`--batch-size=4` as `--batch_size=4`: both spellings of an option are accepted."""
    return re.sub(r"^--[\w.-]+", lambda name: "--" + name[0][2:].replace("-", "_"), word)


def parse(function: Callable[..., int], arguments: list[str]) -> dict[str, Any]:
    """The values of a command's parameters.

    Parameters before `*` are positional, the others options; `bool` is a flag, a list takes one or more words
    and may be given again. Help is the docstring: the text before `Args:`, and there a line per parameter.

    Raises:
        MatpacError: an unknown option, a missing one, or a value of another type.
    """
    from docstring_parser import DocstringStyle
    from docstring_parser import parse as parse_docstring
    from jsonargparse import ArgumentParser

    description = inspect.cleandoc(function.__doc__ or "")
    entries = parse_docstring(description, DocstringStyle.GOOGLE).params
    about = {entry.arg_name: entry.description for entry in entries}
    parser = ArgumentParser(
        prog=f"matpac {function.__name__}",
        description=re.split(r"\n+(?:Args|Raises|Returns):\n", description)[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        exit_on_error=False,
    )
    hints, parameters = get_type_hints(function), inspect.signature(function).parameters.values()
    for parameter in parameters:
        _add(parser, parameter, hints[parameter.name], about.get(parameter.name) or "")
    try:
        parsed = vars(parser.parse_args(arguments))
    except (argparse.ArgumentError, TypeError) as error:  # TypeError, where a value has another type
        reason = WRONG_TYPE.sub(r"--\1: not a \2: ", one_line(error))
        raise MatpacError(f"{reason}; matpac {function.__name__} --help lists the options") from error
    defaults = {parameter.name: parameter.default for parameter in parameters}
    return {name: defaults[name] if parsed[name] is None else parsed[name] for name in defaults}


def _add(parser: Any, parameter: inspect.Parameter, hint: Any, text: str) -> None:
    required = parameter.default is inspect.Parameter.empty
    if get_origin(hint) in (Union, UnionType):  # X | None
        hint = next(part for part in get_args(hint) if part is not NoneType)
    about: dict[str, Any] = {"help": text.replace("%", "%%")}
    if not required and parameter.default is not None and hint is not bool and "(default" not in text:
        about["help"] += f" (default: {parameter.default})"
    if hint is bool:
        about |= {"action": "store_true"}
    elif get_origin(hint) is list:
        about |= {"nargs": "+", "type": get_args(hint)[0]}
    elif get_origin(hint) is Literal:
        about |= {"choices": get_args(hint)}
    else:
        about |= {"type": hint}
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        if not required and "nargs" not in about:
            about |= {"nargs": "?"}
        parser.add_argument(parameter.name, **about)
        return
    if "nargs" in about:
        about |= {"action": "extend"}
    elif not required and hint is not bool:
        about |= {"default": parameter.default}
    parser.add_argument(f"--{parameter.name}", required=required, **about)


if __name__ == "__main__":
    sys.exit(main())
