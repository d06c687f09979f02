"""Clip by clip, what an encoder makes of a task goes into a file of the cache."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np
from jaxtyping import Float
from torch import Tensor

from matpac.errors import MatpacError
from matpac.model.embedder import Embedder
from matpac.model.encoders import FrozenEncoder
from matpac.probe.encoders import EncoderError, NamedEncoder, NotFiniteError
from matpac.probe.feature_cache import FeatureFile
from matpac.probe.shared_rows import rows_of_other_tasks
from matpac.tasks import Task
from matpac.vectors.road import NOT_FINITE, Road


def fill(
    file: FeatureFile,
    task: Task,
    named: NamedEncoder,
    first: int,
    road: Road[Tensor],
    frames: int | None = None,
) -> None:
    """Add the clips that are not there yet, from number `first` on, and finish the file.

    Rows that another task's finished file has of the same clips are copied; the others are computed.

    Args:
        file: locked, and taken up (`resume`).
        task: its clips.
        named: the encoder, for what is told.
        first: number of clips that are done.
        road: gives a row per clip.
        frames: rows are padded to so many along their last dimension but one, and their lengths kept.

    Raises:
        EncoderError, MatpacError: as `features.embed_task`.
    """
    known = rows_of_other_tasks(file) if frames is None else {}
    missing = [task.paths[number] for number in range(first, len(task.paths)) if number not in known]
    with (
        closing(road.rows(missing)) as computed,
        _progress(f"{task.name}, {named.name}", first, len(task.paths)) as advance,
    ):
        for number in range(first, len(task.paths)):
            if number in known:
                array, place = known[number]
                file.add(array[place])
            else:
                row = next(computed)
                if row.vectors is None and row.error == NOT_FINITE:
                    raise NotFiniteError(named.name, row.path)
                if row.vectors is None:
                    file.add(None, row.error)
                else:
                    vector = row.vectors if road.layers is not None else row.vectors[0]
                    length = None if frames is None else vector.shape[-2]
                    file.add(_row(vector, file, named, row.path, frames), length=length)
            advance()
    file.finish()


def road_encoder(named: NamedEncoder) -> Embedder | FrozenEncoder:
    """What the road embeds with: an embedder, or for any other encoder its name, which checks what it gives."""
    return named.encoder if isinstance(named.encoder, Embedder) else named


def require_rows(file: FeatureFile, task: Task, named: NamedEncoder) -> None:
    """Raise MatpacError where not one clip has a row."""
    if len(file.failed) == len(task.paths):
        raise MatpacError(
            f"{task.name}, {named.name}: not one of {len(task.paths)} clips can be used; the first, "
            f"{task.paths[0]}: {file.failed[0]}"
        )


def stored(vector: Tensor, dtype: str, named: NamedEncoder, path: str) -> Float[np.ndarray, "..."]:
    """An encoder's output as it is stored.

    Raises:
        NotFiniteError: NaN or infinity.
        EncoderError: numbers that float16 can't hold.
    """
    values = vector.numpy()
    if not np.isfinite(values).all():
        raise NotFiniteError(named.name, path)
    with np.errstate(over="ignore"):
        row = values.astype(dtype)
    if not np.isfinite(row).all():
        raise EncoderError(
            f"{named.name}: its vector of {path} reaches {np.abs(values).max():.3g}, and float16 ends at 65504; "
            "use float32"
        )
    return row


def _row(vector: Tensor, file: FeatureFile, named: NamedEncoder, path: str, frames: int | None) -> np.ndarray:
    """What is stored of one clip, checked."""
    row = stored(vector, file.state.dtype, named, path)
    if frames is not None:
        count = row.shape[-2]
        if count > frames:
            raise MatpacError(f"{path}: {count} frames where its header promises {frames} at most; write it anew")
        row = np.pad(row, [(0, 0)] * (row.ndim - 2) + [(0, frames - count), (0, 0)])
    if file.shape is not None and list(row.shape) != file.shape:
        raise EncoderError(
            f"{named.name}: its vector of {path} has shape {list(row.shape)}, those before {file.shape}; "
            "correct the encoder"
        )
    return row


@contextmanager
def _progress(what: str, done: int, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing elsewhere; gives what is called after each clip."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("[bold]{task.description}"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    began, count = time.monotonic(), 0
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(escape(what), total=total, completed=done, speed="")

        def advance() -> None:
            nonlocal count
            count += 1
            speed = count / max(time.monotonic() - began, 1e-9)
            progress.update(bar, advance=1, speed=f"{speed:.1f} clips/s")

        yield advance
