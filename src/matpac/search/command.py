"""`matpac index` and `matpac search`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from matpac.console import print_table, report_skipped

if TYPE_CHECKING:
    from matpac.search.query import Match


def index(
    sources: list[str],
    *,
    database: str,
    encoder: str | None = None,
    window: float | None = None,
    hop: float | None = None,
    tags: str | None = None,
    approximate_above: int = 20_000,
    batch_size: int | None = None,
    device: str = "auto",
) -> int:
    """Keep vectors of sound files in a database, for matpac search.

      matpac index recordings --encoder matpac++ --database sounds.lance
      matpac index recordings --database sounds.lance
      matpac index nights --encoder matpac++ --database calls.lance --window 6 --hop 3

    Run again, it embeds only new and changed files and removes vanished ones; the database stores the encoder. Two
    processes may do so at once: one waits for the other.
    Exit code: 0 when every file is in the database, 1 when files were skipped or a folder is unexpectedly empty
    (each is named with its reason), 2 for an error.

    Args:
        sources: sound files or folders (searched recursively)
        database: a folder, made if it does not exist: sounds.lance
        encoder: tiny (comes with matpac), a published name, a file, a run folder, hub:owner/name, or random:SIZE
            (default: the one that the database stores)
        window: seconds of a row, to find a sound inside long ones
        hop: seconds from one window to the next (default: half a window)
        tags: folder: the names of the folders that a file lies in; head: classes that the encoder's head finds; or
            a CSV, TSV or Parquet table of path and label or labels (default: the tags that files have)
        approximate_above: rows from which on an approximate index is kept
        batch_size: chunks computed at once (default: what suits the device)
        device: cpu, cuda, mps, or auto
    """
    from matpac.machine import choose_device
    from matpac.search.index import IndexOptions, index_sounds

    options = IndexOptions(window, hop, tags, approximate_above, batch_size, choose_device(device))
    done = index_sounds(sources, database, encoder, options, lambda text: print(text, flush=True))
    retagged = f", {done.retagged:,} with other tags" if done.retagged else ""
    print(
        f"{database}: {done.added:,} added, {done.changed:,} changed, {done.removed:,} vanished, "
        f"{done.unchanged:,} unchanged{retagged}, {len(done.skipped):,} skipped, in {done.seconds:.1f} s"
    )
    print(f"it holds {done.files:,} files as {done.rows:,} {done.settings.rows}, by {done.settings.encoder}")
    return report_skipped(done.skipped)


def search(
    sound: str,
    *,
    database: str,
    top: int = 10,
    where: str | None = None,
    encoder: str | None = None,
    json: bool = False,
    device: str = "auto",
) -> int:
    """Find the sounds of a database that are most like a sound.

      matpac search query.wav --database sounds.lance
      matpac search query.wav --database sounds.lance --top 3 --where "duration < 5 AND array_has(tags, 'dog')"

    A condition is SQL on path, start, end, duration (in seconds), size (in bytes), modified (in ns) and tags.
    Exit code: 0 when the search was done (with or without matches), 2 for an error.

    Args:
        sound: a sound file
        database: a folder that matpac index made
        top: number of matches
        where: a condition in SQL
        encoder: where the database's encoder lies now, if it has moved
        json: print matches as JSON
        device: cpu, cuda, mps, or auto
    """
    from json import dumps

    from matpac.machine import choose_device
    from matpac.search.query import Searcher

    searcher = Searcher(database, encoder, choose_device(device))
    matches = searcher.similar(sound, top=top, where=where)
    if json:
        print(dumps([asdict(match) for match in matches], indent=2, ensure_ascii=False))
    elif matches:
        show(matches, windows=searcher.database.settings.window is not None)
    else:
        print(f"no sound of {database} meets {where!r}")
    return 0


def show(matches: "list[Match]", windows: bool) -> None:
    """Print the matches as a table."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("similarity", justify="right")
    table.add_column("time" if windows else "length", justify="right", no_wrap=True)
    table.add_column("path", overflow="fold")
    tagged = any(match.tags for match in matches)
    if tagged:
        table.add_column("tags", overflow="fold")
    here = Path.cwd()
    for match in matches:
        path = Path(match.path)
        shown = path.relative_to(here) if path.is_relative_to(here) else path
        place = f"{clock(match.start)} – {clock(match.end)}" if windows else clock(match.duration)
        tags = [Text(", ".join(match.tags))] if tagged else []
        table.add_row(f"{match.similarity:.4f}", place, Text(str(shown)), *tags)
    print_table(table)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03.4, with hours only if there are any."""
    tenths = round(10 * seconds)
    hours, minutes = divmod(tenths // 600, 60)
    return (f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{tenths % 600 / 10:04.1f}"
