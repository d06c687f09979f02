"""The root error, files that are skipped, and their reasons: text for the person who gave the input."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

REASONS_SHOWN = 3


class MatpacError(ValueError):
    """Something given is not usable; the message names it, says why, and tells the way out."""


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
