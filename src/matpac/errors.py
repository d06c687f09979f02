"""The root error, skipped files, and checks of configured numbers: text for the person who gave the input."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

REASONS_SHOWN = 3


class MatpacError(ValueError):
    """Something given is not usable; the message names it, the reason and the way out."""


@dataclass(frozen=True)
class Skipped:
    """A file that isn't used, and why.

    Args:
        path: the file, or the member of a shard.
        reason: in one line, without the path.
    """

    path: str
    reason: str


def describe_skipped(skipped: Sequence[Skipped]) -> str:
    """How many files were skipped, and the reasons of the first few, in one line."""
    shown = "; ".join(f"{item.path}: {item.reason}" for item in skipped[:REASONS_SHOWN])
    more = len(skipped) - REASONS_SHOWN
    return f"{len(skipped)} skipped: {shown}" + (f"; and {more} more" if more > 0 else "")


def reason_of(error: Exception, path: str) -> str:
    """The message of an error without the clip's number or path that it begins with."""
    return re.sub(r"^clip \d+: ", "", str(error)).removeprefix(f"{path}: ")


def one_line(error: Exception) -> str:
    """What a library says, which may be many lines, as part of a message."""
    return " ".join(str(error).split())


RULES: dict[str, Callable[[float], bool]] = {
    "above 0": lambda value: 0 < value < math.inf,
    "above 0 (.inf for no clipping)": lambda value: value > 0,
    "at least 1": lambda value: 1 <= value < math.inf,
    "at least 0": lambda value: 0 <= value < math.inf,
    "at least 0 and below 1": lambda value: 0 <= value < 1,
    "at least 0 and below 2^63": lambda value: 0 <= value < 2**63,  # PyTorch's seeds: 64 bits with a sign
    "between 0 and 1": lambda value: 0 <= value <= 1,
}
"""What a number of a configuration must be, in words, and whether it is."""


def require(config: object, part: str, rule: str, *names: str) -> None:
    """Check that numbers of a configuration follow one of `RULES`; NaN follows none.

    Args:
        config: has the numbers as attributes.
        part: how the configuration is called on the command line ("optimizer."), put before the names in errors.
        rule: a key of `RULES`.
        names: of the attributes.

    Raises:
        MatpacError: names the first number that doesn't.
    """
    for name in names:
        if not RULES[rule](value := getattr(config, name)):
            raise MatpacError(f"{part}{name} must be {rule}, not {value}")
