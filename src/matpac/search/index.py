"""`matpac index`: a database of sounds made, and brought up to date."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from matpac.audio import AUDIO_SUFFIXES
from matpac.console import track
from matpac.errors import Skipped
from matpac.model.embedder import Embedder
from matpac.model.gather import Mean
from matpac.search.database import DatabaseSettings, SearchError, SoundDatabase
from matpac.search.encoder import encoder_name, open_embedder, reopen_embedder, require_same
from matpac.search.files import Differences, Listing, TaggedFile, compare, list_sounds
from matpac.search.tags import HEAD, HeadTags, PathTags, open_tags
from matpac.search.writer import ROWS, DatabaseWriter, RowBuffer, writing
from matpac.vectors.road import Road
from matpac.vectors.states import FileState
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
        if self.batch_size is not None and self.batch_size < 1:
            raise SearchError(f"a batch of {self.batch_size} chunks computes nothing; it takes at least 1")

    @property
    def step(self) -> float | None:
        """The hop; half a window by default."""
        return self.hop if self.hop is not None or self.window is None else self.window / 2


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
    skipped: list[Skipped] = field(default_factory=list)
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    retagged: int = 0
    rows: int = 0
    files: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Given:
    """The encoder of a call; its weights are hashed once."""

    name: str
    embedder: Embedder
    key: str

    @classmethod
    def open(cls, encoder: str | Embedder, device: str) -> "_Given":
        embedder = open_embedder(encoder, device)
        return cls(encoder_name(encoder), embedder, embedder.key)


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
    listing = list_sounds(sources)
    before = _settings_with_rows(SoundDatabase.find(path))
    if before is None:
        _require_files(listing, 0)
    given = None if encoder is None else _Given.open(encoder, options.device)
    _settings(path, before, given, options)
    with writing(path, lambda: say(f"{path}: waiting for another process that is indexing into it")) as writer:
        settings = _settings(path, _settings_with_rows(writer.found), given, options)  # perhaps made meanwhile
        result = _update(writer, settings, listing, given, options, say)
    result.seconds = time.monotonic() - began
    return result


def _settings_with_rows(database: SoundDatabase | None) -> DatabaseSettings | None:
    """Settings of a database that has rows; None otherwise."""
    return None if database is None or not database.count() else database.settings


def _settings(
    path: Path, known: DatabaseSettings | None, given: _Given | None, options: IndexOptions
) -> DatabaseSettings:
    """Settings of the existing database, if they are those asked for, or of a new one."""
    if known is not None:
        if given is not None:
            require_same(path, known, given.name, given.key)
        if options.window is not None and (options.window, options.step) != (known.window, known.hop):
            raise SearchError(
                f"{path}: its rows are {known.rows}, not windows of {options.window:g} s every {options.step:g} s;"
                " omit --window, or index into another database"
            )
        return known
    if given is None:
        raise SearchError(f"{path}: a new database needs an encoder; name one with --encoder")
    if options.window is not None and options.step is not None:
        Grid.of(given.embedder, options.window, options.step)  # raises if that makes no windows
    return DatabaseSettings(given.name, given.key, given.embedder.width, options.window, options.step)


def _update(
    writer: DatabaseWriter,
    settings: DatabaseSettings,
    listing: Listing,
    given: _Given | None,
    options: IndexOptions,
    say: Callable[[str], object],
) -> Indexed:
    """The work of `index_sounds`, while no other process writes."""
    new = _settings_with_rows(writer.found) is None
    known = {} if new else writer.database.files()
    differences = compare(listing, known)
    _require_files(listing, differences.below)
    embedder = given and given.embedder
    if embedder is None and (differences.todo or options.tags == HEAD):
        embedder = reopen_embedder(writer.path, settings, None, options.device)
    tags = _kept_tags(known) if options.tags is None else open_tags(options.tags, listing, embedder, say)
    if new:
        writer.create(settings)
    result = Indexed(settings, [*listing.skipped, *_unexpectedly_empty(differences)])
    writer.remove(differences.gone)
    written: set[str] = set()
    if embedder is not None and differences.todo:
        written, skipped = _embed(writer, differences.todo, listing.files, (embedder, tags), options)
        result.skipped += [_with_old_vectors(item) if item.path in known else item for item in skipped]
    unusable = [path for path in differences.todo if path in known and path not in written]
    writer.remove(unusable)
    if options.tags is not None:
        result.retagged = tags.update(writer, {path: known[path] for path in differences.unchanged})
    result.added = len(written - known.keys())
    result.changed = len(written) - result.added
    result.unchanged, result.removed = len(differences.unchanged), len(differences.gone)
    result.rows = writer.database.count()
    result.files = len(known) + result.added - len(differences.gone) - len(unusable)
    if not result.rows:
        first = result.skipped[0]
        raise SearchError(
            f"not one of {len(result.skipped)} files can be used; the first: {first.path}: {first.reason}"
        )
    writer.keep_index(options.approximate_above, say)
    return result


def _kept_tags(known: dict[str, TaggedFile]) -> PathTags:
    """The tags that files had; none for new ones."""
    return PathTags(lambda path: known[path].tags if path in known else ())


def _embed(
    writer: DatabaseWriter,
    paths: Sequence[str],
    states: dict[str, FileState],
    how: tuple[Embedder, PathTags | HeadTags],
    options: IndexOptions,
) -> tuple[set[str], list[Skipped]]:
    """Write the rows of files; the paths of those that have some, and those that can't be used."""
    embedder, tags = how
    windows = writer.database.settings.windows
    grid = None if windows is None else Grid.of(embedder, *windows)
    road = Road(embedder, Mean if grid is None else partial(WindowMeans, grid), batch_size=options.batch_size)
    written, skipped = set(), []
    with RowBuffer(writer) as buffer, closing(road.rows(paths)) as rows:
        for row in track(rows, "Embedding", len(paths)):
            if row.vectors is None:
                skipped.append(Skipped(row.path, row.error))
                continue
            if grid is None:
                vectors, starts, ends = row.vectors.numpy(), np.zeros(1), np.array([row.duration])
            else:
                samples = round(row.duration * grid.sample_rate)
                count = min(grid.count(samples), row.vectors.shape[1])
                vectors, starts = row.vectors[0, :count].contiguous().numpy(), grid.starts(count)
                ends = grid.ends(count, samples)
            spans = starts, ends, row.duration
            buffer.add(row.path, states[row.path], spans, vectors, tags.of(row.path, vectors))
            written.add(row.path)
    return written, skipped


def _unexpectedly_empty(differences: Differences) -> list[Skipped]:
    return [
        Skipped(source, f"no sound files there; its {count:,} files in the database are kept")
        for source, count in differences.emptied.items()
    ]


def _require_files(listing: Listing, below: int) -> None:
    if not listing.files and not listing.skipped:
        kept = f"; their {below} files in the database are kept" if below else ""
        raise SearchError(
            f"{', '.join(listing.sources)}: no sound files there{kept} "
            f"(looked for {', '.join(sorted(AUDIO_SUFFIXES))})"
        )


def _with_old_vectors(item: Skipped) -> Skipped:
    return Skipped(item.path, f"{item.reason}; its old vectors were removed")
