"""`matpac index`: a database of sounds made, and brought up to date."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from matpac.audio import AUDIO_SUFFIXES
from matpac.console import track
from matpac.errors import Skipped
from matpac.model.embedder import Embedder
from matpac.model.gather import Mean
from matpac.search.database import DatabaseSettings, SearchError, SoundDatabase
from matpac.search.encoder import SearchEncoder
from matpac.search.tags import HEAD, RowTags, open_tags, path_tags, update_tags
from matpac.search.writer import ROWS, DatabaseWriter, RowBuffer, writing
from matpac.vectors.road import Road
from matpac.vectors.states import FileState, Listing, compare, list_sounds, text_path
from matpac.vectors.windows import Grid, WindowMeans


@dataclass(frozen=True)
class IndexOptions:
    """How a database is made and kept.

    Args:
        window: seconds that a row of a new database spans; None for whole sounds, or what the database has.
        hop: seconds from the start of one window to that of the next; None for half a window.
        tags: `folder`, `head` or a table (`matpac.search.tags`); None keeps the tags of known files.
        approximate_above: number of rows from which on an approximate index is kept.
        batch_size: chunks computed at once; None for what suits the device.
        device: where the encoder computes.
    """

    window: float | None = None
    hop: float | None = None
    tags: str | None = None
    approximate_above: int = ROWS
    batch_size: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, seconds in (("window", self.window), ("hop", self.hop)):
            if seconds is not None and not math.isfinite(seconds):
                raise SearchError(f"a {name} of {seconds:g} s: give a finite number of seconds")
        if self.hop is not None and self.window is None:
            raise SearchError(f"a hop of {self.hop:g} s without a window; give both")

    @property
    def windows(self) -> tuple[float, float] | None:
        """Window and hop, in seconds."""
        return None if self.window is None else (self.window, self.window / 2 if self.hop is None else self.hop)


@dataclass
class Indexed:
    """What was done, in files, and what the database contains now.

    Args:
        settings: of the database.
        skipped: files that can't be used, and folders that are unexpectedly empty, with reasons.
        added: new files.
        changed: files that were written to since they were embedded.
        unchanged: files that were not.
        removed: files that have vanished.
        retagged: unchanged files that have other tags now.
        rows: of the database.
        files: of the database.
        seconds: time it took.
    """

    settings: DatabaseSettings
    skipped: list[Skipped]
    added: int
    changed: int
    unchanged: int
    removed: int
    retagged: int
    rows: int
    files: int
    seconds: float = 0.0


def index_sounds(
    sources: Sequence[str | Path],
    database: str | Path,
    encoder: str | Embedder | None = None,
    options: IndexOptions | None = None,
    say: Callable[[str], object] = print,
) -> Indexed:
    """Bring a database in line with sound files: embed new and changed ones, remove vanished ones.

    A file is known by its path, and changed if its size or modification time differs. An unusable one is skipped
    and named; if it was known, its old vectors are removed. Files from other sources are kept, and so are those of
    a source that lists nothing, which is named. What was written stays written if the process is stopped; the next
    call continues. A database without rows is made again.

    Args:
        sources: sound files and folders, searched recursively.
        database: a folder, made if it does not exist.
        encoder: what `open_encoder` takes, or an encoder; None for the one that the database stores.
        options: see there.
        say: called with a line before something that takes long: waiting for another process, training an index.

    Raises:
        SearchError: no sound file, or none that can be used; no encoder; another encoder or other windows than the
            database's; a table of tags that matches no file; something else of that name.
        AudioError: a source that is missing, or a folder that can't be read.
        EncoderError, CheckpointError, DownloadError, TableError: the encoder or the table of tags can't be read.
    """
    began, options, path = time.monotonic(), options or IndexOptions(), Path(database).expanduser()
    listing = list_sounds([os.path.abspath(source) for source in sources])  # noqa: PTH100 (links stay)
    found = SoundDatabase.find(path)
    if found is None:
        _require_files(listing, 0)
    given = None if encoder is None else SearchEncoder.open(encoder, options.device)
    _settings(path, found, given, options)  # what makes no database makes no folder
    with writing(path, lambda: say(f"{path}: waiting for another process that is indexing into it")) as writer:
        settings = _settings(path, writer.found, given, options)  # perhaps made meanwhile
        done = _update(writer, settings, listing, given, options, say)
    done.seconds = time.monotonic() - began
    return done


def _require_files(listing: Listing, below: int) -> None:
    if not listing.files:
        kept = f"; their {below} files in the database are kept" if below else ""
        raise SearchError(
            f"{', '.join(listing.sources)}: no sound files there{kept} "
            f"(looked for {', '.join(sorted(AUDIO_SUFFIXES))})"
        )


def _settings(
    path: Path, found: SoundDatabase | None, given: SearchEncoder | None, options: IndexOptions
) -> DatabaseSettings:
    """Settings of the existing database, if they are those asked for, or of a new one."""
    if found is not None:
        known = found.settings
        if given is not None:
            given.require_same(path, known)
        if options.windows not in (None, known.windows):
            window, hop = options.windows
            raise SearchError(
                f"{path}: its rows are {known.rows}, not windows of {window:g} s every {hop:g} s; omit --window, "
                "or index into another database"
            )
        return known
    if given is None:
        raise SearchError(f"{path}: a new database needs an encoder; name one with --encoder")
    window, hop = options.windows or (None, None)
    if window is not None and hop is not None:
        Grid.of(given.embedder, window, hop)  # raises if that makes no windows
    return DatabaseSettings(given.name, given.key, given.embedder.width, window, hop)


def _update(
    writer: DatabaseWriter,
    settings: DatabaseSettings,
    listing: Listing,
    given: SearchEncoder | None,
    options: IndexOptions,
    say: Callable[[str], object],
) -> Indexed:
    """The work of `index_sounds`, while no other process writes."""
    found = writer.found
    known = {} if found is None else found.files()
    differences = compare(listing, known)
    _require_files(listing, differences.below)
    if given is None and (differences.todo or options.tags == HEAD):
        given = SearchEncoder.reopen(writer.path, settings, None, options.device)
    embedder = None if given is None else given.embedder
    if options.tags is not None:
        tags = open_tags(options.tags, listing, embedder, say)
    else:
        kept = found.tags() if found is not None and differences.changed else {}
        tags = path_tags(lambda path: kept.get(path, ()))
    if found is None:
        writer.create(settings)
    writer.remove(differences.gone)
    todo = {path: listing.files[path] for path in differences.todo}
    failed = _embed(writer, embedder, todo, tags, options.batch_size) if embedder is not None and todo else {}
    writer.remove([path for path in failed if path in known])
    skipped = [
        Skipped(source, f"no sound files there; its {count:,} files in the database are kept")
        for source, count in differences.emptied.items()
    ]
    for path, reason in failed.items():
        skipped.append(Skipped(path, reason + "; its old vectors were removed" * (path in known)))
    rows = writer.database.count()
    if not rows:
        first = skipped[0]
        raise SearchError(f"not one of {len(skipped)} files can be used; the first: {first.path}: {first.reason}")
    retagged = 0
    if options.tags is not None:
        retagged = update_tags(writer, tags, {*differences.unchanged}, by_vectors=options.tags == HEAD)
    writer.keep_index(options.approximate_above, say)
    return Indexed(
        settings,
        skipped,
        added=sum(path not in failed for path in differences.new),
        changed=sum(path not in failed for path in differences.changed),
        unchanged=len(differences.unchanged),
        removed=len(differences.gone),
        retagged=retagged,
        rows=rows,
        files=writer.database.count("start = 0"),
    )


def _embed(
    writer: DatabaseWriter,
    embedder: Embedder,
    files: Mapping[str, FileState],
    tags: RowTags,
    batch_size: int | None,
) -> dict[str, str]:
    """Write the rows of files; those that can't be used, with reasons."""
    windows = writer.database.settings.windows
    grid = None if windows is None else Grid.of(embedder, *windows)
    road = Road(embedder, Mean if grid is None else partial(WindowMeans, grid), batch_size=batch_size)
    failed = {}
    with RowBuffer(writer) as buffer, closing(road.rows(map(text_path, files))) as rows:
        for path, row in zip(files, track(rows, "Embedding", len(files)), strict=True):
            if row.vectors is None:
                failed[path] = row.error
                continue
            if grid is None:
                vectors, starts, ends = row.vectors.numpy(), np.zeros(1), np.array([row.duration])
            else:
                samples = round(row.duration * grid.sample_rate)
                count = min(grid.count(samples), row.vectors.shape[1])
                vectors, starts = row.vectors[0, :count].contiguous().numpy(), grid.starts(count)
                ends = grid.ends(count, samples)
            spans = starts, ends, row.duration
            buffer.add(path, files[path], spans, vectors, tags([path] * len(vectors), vectors))
    return failed
