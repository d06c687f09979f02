"""Clip by clip, what an encoder makes of a task goes into a file of the cache."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
from jaxtyping import Float
from torch import Tensor

from matpac.audio import AudioError
from matpac.audio.read_ahead import Clips
from matpac.errors import MatpacError, reason_of
from matpac.model.embedder import Failed
from matpac.probe.encoders import EncoderError, NamedEncoder, NotFiniteError
from matpac.probe.feature_cache import FeatureFile
from matpac.probe.shared_rows import rows_of_other_tasks
from matpac.tasks import Task


def unit_samples(unit_seconds: float | None, sample_rate: int) -> int | None:
    """Length of a task's clips in samples; None where they stay as long as they are."""
    return None if unit_seconds is None else max(1, round(unit_seconds * sample_rate))


def fill(
    file: FeatureFile,
    task: Task,
    named: NamedEncoder,
    first: int,
    run: Callable[[Clips, Failed], Iterable[Tensor | None]],
    readers: int,
    frames: int | None = None,
) -> None:
    """Add the clips that are not there yet, from number `first` on, and finish the file.

    Rows that another task's finished file has of the same clips are copied; the others are computed.

    Args:
        file: locked, and taken up (`resume`).
        task: its clips.
        named: the encoder, for what is told.
        first: number of clips that are done.
        run: gives a row a clip, or None once its second argument was told.
        readers: threads that decode and resample.
        frames: rows are padded to so many along their last dimension but one, and their lengths kept.

    Raises:
        EncoderError, MatpacError: as `features.embed_task`.
    """
    if readers < 1:
        raise MatpacError(f"{readers} threads read nothing; it takes at least 1")
    known = rows_of_other_tasks(file) if frames is None else {}
    missing = [number for number in range(first, len(task.paths)) if number not in known]
    reasons: dict[int, str] = {}

    def failed(place: int, error: AudioError) -> None:
        reasons[missing[place]] = reason_of(error, task.paths[missing[place]])

    rate = named.encoder.sample_rate
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(readers)
        stack.callback(pool.shutdown, cancel_futures=True)  # what is not begun is not waited for
        paths = [task.paths[number] for number in missing]
        computed = iter(run(Clips(paths, rate, pool, unit_samples(task.unit_seconds, rate)), failed))
        advance = stack.enter_context(_progress(f"{task.name}, {named.name}", first, len(task.paths)))
        for number in range(first, len(task.paths)):
            vector = None if number in known else next(computed)
            if number in known:
                array, row = known[number]
                file.add(array[row])
            elif vector is None:
                file.add(None, reasons.pop(number))
            else:
                length = None if frames is None else vector.shape[-2]
                file.add(_row(vector, file, named, task.paths[number], frames), length=length)
            advance()
    file.finish()


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
