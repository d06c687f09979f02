"""Many sound files to one table of vectors: a single file, or a folder that later calls keep up to date."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from matpac import __version__
from matpac.audio import readers as decoders
from matpac.audio.read_ahead import READERS
from matpac.console import work_bar
from matpac.errors import MatpacError, Skipped
from matpac.machine import Share, this_share
from matpac.model.embedder import Embedder
from matpac.model.gather import Mean
from matpac.vectors.frame_spool import FrameSpool
from matpac.vectors.road import Road, Row
from matpac.vectors.states import Listing, compare, list_sounds, text_path
from matpac.vectors.store import WORKING_FOLDER, StoredError, VectorStore
from matpac.vectors.tables import clip_table, open_table_file

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class EmbedOptions:
    """How `matpac embed` turns files into vectors.

    Args:
        output: a .parquet or .npz file; or a folder (`matpac.vectors.store`), which a later call with the same
            sources brings up to date (from the same working folder, if they are relative to it), and which several
            processes may write to at once.
        frames: one vector per frame instead of one per file.
        layers: the outputs of all layers instead of the last one's.
        batch_size: full chunks computed at once.
        readers: threads that decode and resample.
    """

    output: str
    frames: bool = False
    layers: bool = False
    batch_size: int | None = None
    readers: int = READERS

    @property
    def is_folder(self) -> bool:
        """Whether the output is a folder: it is there, ends in a slash, or has no suffix."""
        path = Path(self.output)
        return self.output.endswith(("/", os.sep)) or path.is_dir() or not path.suffix


@dataclass
class Embedded:
    """What became of this process's share of the files.

    Args:
        share: this process's.
        files: how many were embedded, new or changed.
        recomputed: of these, how many had changed since they were embedded.
        found: how many were in the folder already.
        seconds_of_audio: of those embedded.
        seconds: it took.
        skipped: those that have no vectors.
        gone: files that are no longer there, whose vectors are kept.
    """

    share: Share = field(default_factory=Share)
    files: int = 0
    recomputed: int = 0
    found: int = 0
    seconds_of_audio: float = 0.0
    seconds: float = 0.0
    skipped: list[Skipped] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def embed_files(sources: Sequence[str], embedder: Embedder, options: EmbedOptions) -> Embedded:
    """Embed every sound file below `sources` into one table; files that can't be read are named and skipped.

    In a folder, files that are there already are embedded again only if they have changed, and those that could
    not be read only if they or the decoders have. Where a launcher (torchrun, srun) started several processes,
    each embeds its share.

    Raises:
        MatpacError: no sound file there, the output's kind is not known, several processes and no folder, a folder
            of another encoder or of files named from another working folder, an output that can't be written,
            or not one file could be read.
    """
    listing = list_sounds(sources)
    if not listing.files:
        raise MatpacError(f"{', '.join(listing.sources)}: no sound files there")
    began, output = time.monotonic(), Path(options.output)
    result = Embedded(this_share())
    if options.is_folder:
        _into_folder(listing, embedder, options, result)
    elif result.share.count > 1:
        raise MatpacError(
            f"{output}: {result.share.count} processes can't write one file; "
            f"name a folder: {output.with_suffix('')}/"
        )
    else:
        with open_table_file(output, _describe(embedder, options)) as write:

            def put(path: str, row: Row) -> None:
                for table in _tables(path, row, embedder, options):
                    write(table)

            _embed(list(listing.files), embedder, options, result, put)
            _require_one(listing, result)
    result.seconds = time.monotonic() - began
    return result


def _into_folder(listing: Listing, embedder: Embedder, options: EmbedOptions, result: Embedded) -> None:
    about = _describe(embedder, options)
    about[WORKING_FOLDER] = None if all(map(os.path.isabs, listing.files)) else str(Path.cwd())
    store = VectorStore(Path(options.output), about)
    vectors = dict(store.files)
    failed = {path: error for path, error in store.errors.items() if error.decoders == decoders()}
    differences = compare(listing, {**failed, **vectors})
    mine = set(result.share.of(list(listing.files)))
    done = set(differences.unchanged)
    todo = [path for path in listing.files if path in mine and path not in done]
    for path in (path for path in differences.unchanged if path in mine):
        if path in vectors:
            result.found += 1
        else:
            result.skipped.append(Skipped(path, failed[path].reason))
    if result.share.rank == 0:
        result.gone = [path for path in differences.gone if path in vectors]
        for source, count in differences.emptied.items():
            result.skipped.append(Skipped(source, f"no sound files there; the vectors of {count:,} are kept"))

    def put(path: str, row: Row) -> None:
        state = listing.files[path]
        if row.vectors is None:
            store.fail(path, StoredError(state.size, state.modified, row.error, decoders()))
        else:
            size = row.vectors.nbytes
            rows = size // (4 * embedder.width)
            store.add(path, state, _tables(path, row, embedder, options), rows, size)
            result.recomputed += path in vectors

    with store.writing():
        _embed(todo, embedder, options, result, put)
    _require_one(listing, result)


def _require_one(listing: Listing, result: Embedded) -> None:
    if not result.files + result.found and result.share.count == 1:
        first = result.skipped[0]
        raise MatpacError(
            f"not one of {len(listing.files)} files could be embedded; the first: {first.path}: {first.reason}"
        )


def _embed(
    paths: Sequence[str],
    embedder: Embedder,
    options: EmbedOptions,
    result: Embedded,
    put: Callable[[str, Row], None],
) -> None:
    """Give `put` the row of each file, and count them."""
    folder = Path(options.output) if options.is_folder else Path(options.output).parent
    reduction = partial(FrameSpool, folder) if options.frames else Mean
    layers, readers = "all" if options.layers else None, options.readers
    road = Road(embedder, reduction, layers=layers, batch_size=options.batch_size, readers=readers)
    began = time.monotonic()
    with work_bar() as bar, closing(road.rows(map(text_path, paths))) as rows:
        task = bar.add_task("embed", total=len(paths), state="")
        for path, row in zip(paths, rows, strict=True):
            with row.vectors if isinstance(row.vectors, FrameSpool) else nullcontext():
                put(path, row)
            if row.vectors is None:
                result.skipped.append(Skipped(path, row.error))
            else:
                result.files += 1
                result.seconds_of_audio += row.duration
            speed = result.seconds_of_audio / (time.monotonic() - began)
            bar.update(task, advance=1, state=f"{speed:.0f} s of audio per second")


def _tables(path: str, row: Row, embedder: Embedder, options: EmbedOptions) -> "Iterator[pa.Table]":
    """A file's rows, layer by layer; of a spool chunk by chunk."""
    if isinstance(row.vectors, Tensor):
        yield clip_table(path, row.duration, row.vectors.numpy(), 0 if options.layers else None)
    elif row.vectors is not None:
        for layer in range(row.vectors.layers):
            for start, frames in row.vectors.parts(layer):
                times = embedder.times(len(frames), start).numpy()
                yield clip_table(path, row.duration, frames[None], layer if options.layers else None, times)


def _describe(embedder: Embedder, options: EmbedOptions) -> dict[str, object]:
    """What made the vectors, kept in the file."""
    return {
        "matpac": __version__,
        "encoder": asdict(embedder.card),
        "encoder_key": embedder.key,
        "logmel": asdict(embedder.logmel.config),
        "network": asdict(embedder.config),
        "frames": options.frames,
        "layers": options.layers,
        "width": embedder.width,
        "hop_seconds": embedder.hop if options.frames else None,
    }
