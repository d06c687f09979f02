"""`matpac index`: a database of sounds made, and brought up to date."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matpac.audio import AUDIO_SUFFIXES
from matpac.console import track
from matpac.errors import Skipped
from matpac.model.embedder import Embedder
from matpac.search.approximate import ROWS, Approximate, keep_up
from matpac.search.database import SearchError, Settings, SoundDatabase
from matpac.search.encoder import encoder_name, open_embedder, reopen_embedder, require_same
from matpac.search.files import Differences, FileState, Listing, compare, list_sounds
from matpac.search.makers import Named, keep_tags, note_maker
from matpac.search.rows import RowWriter
from matpac.search.sounds import Sounds
from matpac.search.tags import HEAD, Tagging, open_tagging
from matpac.search.writer import DatabaseWriter, writing
from matpac.vectors.windows import Grid


@dataclass(frozen=True)
class IndexOptions:
    """How a database is made and kept.

    Args:
        window: seconds that a row of a new database spans; None for whole sounds, or what the database has.
        hop: seconds from one window's start to the next one's; half a window unless told.
        tags: `folder`, `head` or a table (`matpac.search.tags`); None leaves the tags of known files as they are.
        approximate_above: rows from which on an approximate index is kept.
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
                raise SearchError(f"a {name} of {seconds:g} s: a finite number of seconds is needed")
        if self.hop is not None and self.window is None:
            raise SearchError(f"a hop of {self.hop:g} s and no window: it lies between windows, give both")
        if self.batch_size is not None and self.batch_size < 1:
            raise SearchError(f"a batch of {self.batch_size} chunks computes nothing; it takes at least 1")

    @property
    def step(self) -> float | None:
        """The hop, half a window where it is not told."""
        return self.hop if self.hop is not None or self.window is None else self.window / 2


@dataclass
class Indexed:
    """How it went, in files, and what the database holds now.

    Args:
        added: files that were new.
        changed: that were written to since they were embedded.
        unchanged: that are as they were.
        removed: that are no more where they were.
        retagged: of the unchanged ones, that have other tags now.
        left_out: that can't be used, and folders that are suddenly empty, and why.
        rows: of the database.
        files: of the database.
        settings: of the database.
        approximate: its index of vectors, where it has one.
        seconds: it took.
    """

    settings: Settings
    left_out: list[Skipped] = field(default_factory=list)
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    retagged: int = 0
    rows: int = 0
    files: int = 0
    approximate: Approximate | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class _Given:
    """An encoder that was named; its weights are digested once."""

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
    """Bring a database in line with sound files: new and changed ones are embedded, vanished ones taken out.

    A file is known by its path, and changed when its size or time of change is another one. One that can't be used
    is left out and named; if it was known, its old vectors go. Files that came from other sources stay, and so do
    those of a source that lists nothing, which is named. What was written stays written when the process is
    stopped; the next call goes on. A database without rows is made anew.

    Args:
        sources: sound files and folders, searched deep.
        database: a folder, made where it is not there.
        encoder: what `open_encoder` takes, or an encoder; None for the one that the database remembers.
        options: see there.
        say: is told what takes time: another process is waited for, an index is trained.

    Raises:
        SearchError: no sound file, or none that can be used; no encoder; another encoder or other windows than the
            database's; a table of tags that matches no file; something else of that name.
        AudioError: a source that is missing, or a folder that can't be read.
        EncoderError, CheckpointError, DownloadError, TableError: the encoder or the table of tags can't be had.
    """
    began, options, path = time.monotonic(), options or IndexOptions(), Path(database).expanduser()
    listing = list_sounds(sources)
    before = _bound(SoundDatabase.find(path))
    if before is None:
        _require_files(listing, 0)
    given = None if encoder is None else _Given.open(encoder, options.device)
    _settings(path, before, given, options)
    with writing(
        path, lambda: say(f"{path}: another process is indexing into it; waiting until it is done")
    ) as writer:
        settings = _settings(path, _bound(writer.found), given, options)  # it may be another process's by now
        result = _update(writer, settings, listing, given, options, say)
    result.seconds = time.monotonic() - began
    return result


def _bound(database: SoundDatabase | None) -> Settings | None:
    """What the rows of a database were made by; None where there are none."""
    return None if database is None or not database.count() else database.settings


def _settings(
    path: Path,
    known: Settings | None,
    given: "_Given | None",
    options: IndexOptions,
) -> Settings:
    """Of the database that is there, where they are what is asked for, or of a new one."""
    if known is not None:
        if given is not None:
            require_same(path, known, given.name, given.key)
        if options.window is not None and (options.window, options.step) != (known.window, known.hop):
            raise SearchError(
                f"{path}: its rows are {known.rows}, not windows of {options.window:g} s every {options.step:g} s;"
                " leave --window away, or index into another database"
            )
        return known
    if given is None:
        raise SearchError(f"{path}: a new database, which needs an encoder; name one by --encoder")
    if options.window is not None and options.step is not None:
        Grid.of(given.embedder, options.window, options.step)  # raises where that makes no windows
    return Settings(given.name, given.key, given.embedder.width, options.window, options.step)


def _update(
    writer: DatabaseWriter,
    settings: Settings,
    listing: Listing,
    given: "_Given | None",
    options: IndexOptions,
    say: Callable[[str], object],
) -> Indexed:
    """What is done while no other process writes."""
    new = _bound(writer.found) is None
    known = {} if new else writer.database.files()
    differences = compare(listing, known)
    _require_files(listing, differences.below)
    embedder = given and given.embedder
    if embedder is None and (differences.todo or options.tags == HEAD):
        embedder = reopen_embedder(writer.path, settings, None, options.device)
    encoder = Named(given.name if given else settings.encoder, embedder, options.device)
    if options.tags is None:
        changed = [path for path in differences.todo if path in known]
        tagging: Tagging = keep_tags(writer, known, changed, encoder, say)
    else:
        tagging = open_tagging(options.tags, listing, embedder, say)
    if new:
        writer.create(settings)
    if options.tags is not None:  # before there are such tags, so that none is taken for another kind
        note_maker(writer, listing.sources, encoder.name if options.tags == HEAD else "")
    database = writer.database
    result = Indexed(settings, [*listing.left_out, *_suddenly_empty(differences)])
    writer.remove(differences.gone)
    written: set[str] = set()
    if embedder is not None and differences.todo:
        written, left_out = _embed(writer, differences.todo, listing.files, embedder, tagging, options.batch_size)
        result.left_out += [_with_old_vectors(item) if item.path in known else item for item in left_out]
    unusable = [path for path in differences.todo if path in known and path not in written]
    writer.remove(unusable)
    result.retagged = tagging.update(writer, {path: known[path] for path in differences.unchanged})
    result.added = len(written - known.keys())
    result.changed = len(written) - result.added
    result.unchanged, result.removed = len(differences.unchanged), len(differences.gone)
    result.rows = database.count()
    result.files = len(known) + result.added - len(differences.gone) - len(unusable)
    if not result.rows:
        first = result.left_out[0]
        raise SearchError(
            f"not one of {len(result.left_out)} files can be used; the first: {first.path}: {first.reason}"
        )
    changed = bool(written or differences.gone or unusable)
    result.approximate = keep_up(writer, options.approximate_above, changed, say)
    return result


def _suddenly_empty(differences: Differences) -> list[Skipped]:
    return [
        Skipped(source, f"no sound files there; {count:,} of its files are in the database and stay there")
        for source, count in differences.emptied.items()
    ]


def _require_files(listing: Listing, below: int) -> None:
    if not listing.files and not listing.left_out:
        kept = f"; {below} files of theirs are in the database and stay there" if below else ""
        raise SearchError(
            f"{', '.join(listing.sources)}: no sound files there{kept} "
            f"(looked for {', '.join(sorted(AUDIO_SUFFIXES))})"
        )


def _embed(
    writer: DatabaseWriter,
    paths: Sequence[str],
    states: Mapping[str, FileState],
    embedder: Embedder,
    tagging: Tagging,
    batch_size: int | None,
) -> tuple[set[str], list[Skipped]]:
    """Write the rows of files; those that have some, and those that can't be used."""
    windows = writer.database.settings.windows
    grid = None if windows is None else Grid.of(embedder, *windows)
    sounds = Sounds(paths, embedder, grid, batch_size)
    written = set()
    with RowWriter(writer) as rows:
        for sound in track(sounds, "Embedding", len(paths)):
            if sound is not None:
                rows.add(sound, states[sound.path], tagging.of(sound.path, sound.vectors))
                written.add(sound.path)
    return written, sounds.left_out


def _with_old_vectors(item: Skipped) -> Skipped:
    return Skipped(item.path, f"{item.reason}; its old vectors were taken out")
