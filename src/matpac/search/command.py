"""`matpac index` and `matpac search`: parse, run, show."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from matpac.command_line import Parser
from matpac.machine import choose_device
from matpac.search.approximate import ROWS
from matpac.search.index import Indexed, IndexOptions, index_sounds
from matpac.search.query import TOP, Match, Searcher

INDEX = """Vectors of sound files in a database that matpac search looks through.

  matpac index recordings --encoder matpac++ --database sounds.lance
  matpac index recordings --database sounds.lance
  matpac index nights --encoder matpac++ --database calls.lance --window 6 --hop 3

Called again it embeds only what is new or changed and takes out what has vanished; the encoder is remembered. Two
processes may do so at once: one waits for the other.
Exit code: 0 when every file is in the database, 1 when some were left out or a folder is suddenly empty (each is
named with its reason), 2 for an error."""

SEARCH = """The sounds of a database that are most like a sound.

  matpac search query.wav --database sounds.lance
  matpac search query.wav --database sounds.lance --top 3 --where "duration < 5 AND array_has(tags, 'dog')"

A condition is SQL on path, start, end, duration (in seconds), size (in bytes), modified (in ns) and tags.
Exit code: 0 when it was looked for (found or not), 2 for an error."""

ENCODER_HELP = (
    "tiny (comes with matpac), a published name, a file, a run folder, hub:owner/name, or random:SIZE "
    "(tiny, tiny-fine, small, base)"
)
TAGS_HELP = (
    "folder: the names of the folders that a file lies in; head: what the encoder's head hears; or a CSV, TSV or "
    "Parquet table of path and label or labels"
)


UNFOLDED = 1_000
"""Columns of a table that goes into a file or another program: no path is folded; ours."""


def run_index(arguments: list[str]) -> int:
    """Parse and run; returns the exit code."""
    parser = Parser("index", INDEX)
    parser.add_argument("sources", nargs="+", help="sound files or folders (searched deep)")
    parser.add_argument("--database", required=True, help="a folder, made where it is not there: sounds.lance")
    parser.add_argument("--encoder", help=f"{ENCODER_HELP} (default: the one that the database remembers)")
    parser.add_argument("--window", type=float, help="seconds of a row, to find a sound inside of long ones")
    parser.add_argument("--hop", type=float, help="seconds from one window to the next (default: half a window)")
    parser.add_argument("--tags", help=TAGS_HELP)
    parser.add_argument(
        "--approximate-above", "--approximate_above", type=int, default=ROWS,
        help=f"rows from which on an approximate index is kept (default: {ROWS:,})",
    )  # fmt: skip
    parser.add_argument("--batch-size", "--batch_size", type=int, help="chunks computed at once")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, or auto")
    options = parser.parse_args(arguments)

    how = IndexOptions(
        options.window, options.hop, options.tags, options.approximate_above, options.batch_size,
        choose_device(options.device),
    )  # fmt: skip
    done = index_sounds(
        options.sources, options.database, options.encoder, how, lambda text: print(text, flush=True)
    )
    print(describe(options.database, done))
    for item in done.left_out:
        print(f"left out: {item.path}: {item.reason}", file=sys.stderr)
    return 1 if done.left_out else 0


def describe(database: str, done: Indexed) -> str:
    """What was done, and what the database holds now."""
    retagged = f", {done.retagged:,} with other tags" if done.retagged else ""
    lines = [
        f"{database}: {done.added:,} added, {done.changed:,} changed, {done.removed:,} vanished, "
        f"{done.unchanged:,} unchanged{retagged}, {len(done.left_out):,} left out, in {done.seconds:.1f} s",
        f"it holds {done.files:,} files as {done.rows:,} {done.settings.rows}, by {done.settings.encoder}",
    ]
    if done.approximate is not None:
        lines.append(str(done.approximate))
    return "\n".join(lines)


def run_search(arguments: list[str]) -> int:
    """Parse, run and show; returns the exit code."""
    parser = Parser("search", SEARCH)
    parser.add_argument("sound", help="a sound file")
    parser.add_argument("--database", required=True, help="a folder that matpac index made")
    parser.add_argument("--top", type=int, default=TOP, help=f"matches shown (default: {TOP})")
    parser.add_argument("--where", help="a condition in SQL")
    parser.add_argument("--encoder", help="where the database's encoder lies now, if not where it did")
    parser.add_argument("--json", action="store_true", help="matches as JSON")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, or auto")
    options = parser.parse_args(arguments)

    searcher = Searcher(options.database, options.encoder, choose_device(options.device))
    matches = searcher.similar(options.sound, top=options.top, where=options.where)
    if options.json:
        print(json.dumps([asdict(match) for match in matches], indent=2, ensure_ascii=False))
    elif matches:
        show(matches, windows=searcher.database.settings.window is not None)
    else:
        print(f"no sound of {options.database} meets {options.where!r}")
    return 0


def show(matches: list[Match], windows: bool) -> None:
    """The matches as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("similarity", justify="right")
    table.add_column("time" if windows else "length", justify="right", no_wrap=True)
    table.add_column("path", overflow="fold")
    tagged = any(match.tags for match in matches)
    if tagged:
        table.add_column("tags", overflow="fold")
    folder = Path.cwd()
    for match in matches:
        path = Path(match.path)
        shown = path.relative_to(folder) if path.is_relative_to(folder) else path
        place = f"{clock(match.start)} – {clock(match.end)}" if windows else clock(match.duration)
        tags = [Text(", ".join(match.tags))] if tagged else []
        table.add_row(f"{match.similarity:.4f}", place, Text(str(shown)), *tags)
    Console(width=None if sys.stdout.isatty() else UNFOLDED).print(table)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03.4; hours where there are some."""
    tenths = round(10 * seconds)
    hours, minutes = divmod(tenths // 600, 60)
    return (f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{tenths % 600 / 10:04.1f}"
