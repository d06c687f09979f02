"""`matpac embed`: many sound files to one table of vectors, read and resampled beside the network."""

import os
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from torch import Tensor

from matpac import __version__
from matpac.audio import find_audio
from matpac.audio.read_ahead import READERS
from matpac.console import work_bar
from matpac.errors import MatpacError
from matpac.machine import Share, this_share
from matpac.model.embedder import Embedder, Layers
from matpac.model.gather import Mean
from matpac.vectors.frame_spool import FrameSpool
from matpac.vectors.road import Road
from matpac.vectors.vector_files import VectorFile, open_vector_file
from matpac.vectors.vector_parts import WORKING_FOLDER, open_vector_parts, write_left_out


@dataclass(frozen=True)
class EmbedOptions:
    """What `matpac embed` does with the files it is given.

    Args:
        output: a .parquet or .npz file; or a folder for Parquet parts, which a later call with the same sources
            goes on with (from the same working folder, where they are relative to it), and which several
            processes may write to at once (`matpac.vectors.vector_parts`).
        frames: a vector every 160 ms (of tiny 320) instead of one a clip.
        layers: all blocks' outputs instead of the last one's.
        batch_size: full chunks computed at once.
        readers: threads that decode and resample.
    """

    output: str
    frames: bool = False
    layers: bool = False
    batch_size: int | None = None
    readers: int = READERS

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise MatpacError(f"a batch of {self.batch_size} chunks computes nothing; it takes at least 1")

    @property
    def is_folder(self) -> bool:
        """Whether the output is a folder: it is there, ends in a slash, or has no suffix."""
        path = Path(self.output)
        return self.output.endswith(("/", os.sep)) or path.is_dir() or not path.suffix


@dataclass
class Embedded:
    """How it went, in this process.

    Args:
        share: of the files, that was this process's.
        files: that were embedded.
        found: that were in the folder's parts already.
        seconds_of_audio: of those embedded.
        seconds: it took.
        skipped: path and reason of those that have no vectors.
    """

    share: Share = field(default_factory=Share)
    files: int = 0
    found: int = 0
    seconds_of_audio: float = 0.0
    seconds: float = 0.0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def embed_files(sources: list[str], embedder: Embedder, options: EmbedOptions) -> Embedded:
    """Embed every sound file below `sources` into one table; what cannot be read is named and left out.

    Where a launcher (torchrun, srun) started several processes, each embeds its share into parts of one folder.

    Raises:
        MatpacError: no sound file there, the output's kind is not known, several processes and no folder, parts
            of another encoder or of files named from another working folder, an output that can't be written,
            or not one file could be read.
    """
    paths = find_audio(sources)
    if not paths:
        raise MatpacError(f"{', '.join(sources)}: no sound files there")
    began = time.monotonic()
    result = Embedded(this_share())
    about, output = _describe(embedder, options), Path(options.output)
    if options.is_folder:
        about[WORKING_FOLDER] = None if all(path.is_absolute() for path in paths) else str(Path.cwd())
        with open_vector_parts(output, about, result.share.rank) as parts:
            todo = _missing(paths, parts.done(), result)
            _embed(todo, embedder, parts, options, result)
        write_left_out(output, result.share.rank, result.share.count, result.skipped)
        if not result.files + result.found and result.share.count == 1:
            raise _not_one(paths, result)
    elif result.share.count > 1:
        raise MatpacError(
            f"{output}: {result.share.count} processes can't write one file; "
            f"name a folder: {output.with_suffix('')}/"
        )
    else:
        with open_vector_file(output, about) as file:
            _embed(paths, embedder, file, options, result)
            if not result.files:
                raise _not_one(paths, result)
    result.seconds = time.monotonic() - began
    return result


def _not_one(paths: list[Path], result: Embedded) -> MatpacError:
    return MatpacError(f"not one of {len(paths)} files could be embedded; the first: {result.skipped[0][1]}")


def _missing(paths: list[Path], done: dict[str, float], result: Embedded) -> list[Path]:
    """This process's files that no part has. One that was changed or went since is named, not embedded again."""
    if len({*map(_text, paths)}) < len(paths):
        raise MatpacError("two files have names that are no UTF-8 and read alike; rename one of them")
    missing = []
    for path in result.share.of(paths):
        written = done.get(_text(path))
        if written is None:
            missing.append(path)
        elif reason := _unlike(path, written):
            result.skipped.append((str(path), f"{path}: {reason}"))
        else:
            result.found += 1
    return missing


def _unlike(path: Path, written: float) -> str | None:
    """Why a file is not the one whose vectors were written then, if so."""
    try:
        changed = path.stat().st_mtime > written
    except OSError as error:
        return f"can't be looked at ({error.strerror}), and its vectors, written earlier, stay; bring it back"
    return "changed since its vectors were written; embed it anew into another folder" if changed else None


def _embed(
    paths: list[Path], embedder: Embedder, file: VectorFile, options: EmbedOptions, result: Embedded
) -> None:
    """The files' rows, in their order."""
    layers: Layers = "all" if options.layers else None
    began = time.monotonic()
    folder = Path(options.output) if options.is_folder else Path(options.output).parent
    reduction = partial(FrameSpool, folder) if options.frames else Mean
    road = Road(embedder, reduction, layers=layers, batch_size=options.batch_size, readers=options.readers)
    with work_bar(Console(stderr=True), sys.stderr.isatty()) as progress, closing(road.rows(paths)) as rows:
        task = progress.add_task("embed", total=len(paths), state="")
        for path, row in zip(paths, rows, strict=True):
            if row.vectors is None:
                result.skipped.append((row.path, f"{row.path}: {row.error}"))
            else:
                _write(file, embedder, _text(path), row.duration, row.vectors, options)
                file.end_clip()
                result.files += 1
                result.seconds_of_audio += row.duration
            speed = result.seconds_of_audio / (time.monotonic() - began)
            progress.update(task, advance=1, state=f"{speed:.0f} s of audio per second")


def _write(
    file: VectorFile,
    embedder: Embedder,
    path: str,
    duration: float,
    vectors: Tensor | FrameSpool,
    options: EmbedOptions,
) -> None:
    """Rows of one clip: one, or one a frame, for the last layer or for each."""
    if isinstance(vectors, Tensor):
        for layer, scene in enumerate(vectors):
            file.write(path, duration, scene[None].numpy(), layer if options.layers else None, None)
        return
    with vectors as spool:
        for layer in range(spool.layers):
            for start, frames in spool.parts(layer):
                times = embedder.times(len(frames), start).numpy()
                file.write(path, duration, frames, layer if options.layers else None, times)


def _text(path: Path) -> str:
    """A path as text that any file can hold: names of files need not be UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


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
