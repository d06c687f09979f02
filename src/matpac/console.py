"""What a person at the terminal sees of long work: bars, tables, the files that were skipped."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from matpac.errors import Skipped

if TYPE_CHECKING:  # Rich takes a tenth of a second
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

T = TypeVar("T")

UNFOLDED = 1_000
"""Columns of a table that is written to a file or a pipe: wide enough that no path is folded."""


def work_bar(console: "Console | None" = None, shown: bool | None = None) -> "Progress":
    """A bar with counts, rate or state, elapsed time and time left; tasks have a text field `state`.

    Args:
        console: where it is drawn; standard error if None.
        shown: whether it is drawn; only on a terminal if None.
    """
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("[bold]{task.description}"),
        progress.MofNCompleteColumn(),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[state]}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        console=console or Console(stderr=True),
        disable=not (sys.stderr.isatty() if shown is None else shown),
    )


def track(items: Iterable[T], description: str, total: int, unit: str = "") -> Iterator[T]:
    """Pass items on with a bar (rate, time left) where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.markup import escape

    with work_bar() as bar:
        task = bar.add_task(escape(description), total=total, state="")
        for item in items:
            yield item
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, state=f"{speed:.0f}{unit}/s" if speed else "")


def print_table(table: "Table") -> None:
    """Print to standard output, as wide as the terminal, or unfolded where the output is no terminal."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else UNFOLDED).print(table)


def report_skipped(skipped: Iterable[Skipped]) -> int:
    """Name the files that were skipped on standard error; the exit code, 1 if there are any."""
    code = 0
    for item in skipped:
        print(f"skipped: {item.path}: {item.reason}", file=sys.stderr)
        code = 1
    return code
