"""A task's features by a frozen encoder: computed once, then memory-mapped from the disk."""

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Float16, Int
from torch import Tensor

from matpac.audio import AudioError, info
from matpac.audio import readers as decoders
from matpac.downstream.clips import Clips, unit_samples
from matpac.downstream.encoders import EncoderError, NamedEncoder, NotFiniteError
from matpac.downstream.feature_cache import FeatureFile
from matpac.downstream.streaming import vectors_in_order
from matpac.downstream.tasks import Task, without
from matpac.embedder import Embedder, Failed
from matpac.errors import MatpacError
from matpac.vit import PATCH

Kind = Literal["scenes", "layers", "tokens"]
FORMAT = 1
"""Rises when the same settings give other features than before, and all caches are computed anew."""

TOKEN_BUDGET = 2 * 2**30
"""Bytes of tokens that are cached: 2 GiB, which fits the memory of most machines; ours."""


@dataclass(frozen=True, eq=False)
class TaskFeatures:
    """One row a clip of `task`, in its order."""

    vectors: Float[np.memmap, "clip *layer width"]
    task: Task
    """Without the clips that could not be read; they are in its `missing`, with the reason."""
    key: str
    """SHA-256 over all that the features depend on, hexadecimal."""


@dataclass(frozen=True, eq=False)
class TokenFeatures:
    """The frames of every clip of `task`, in its order; zeros behind a clip's length."""

    frames: Float16[np.memmap, "clip frame width"]
    lengths: Int[np.ndarray, " clip"]
    task: Task
    """As in `TaskFeatures`."""
    key: str
    """As in `TaskFeatures`."""


def embed_task(
    task: Task,
    named: NamedEncoder,
    cache: Path,
    *,
    layers: bool = False,
    dtype: Literal["float32", "float16"] = "float32",
    readers: int = 2,
) -> TaskFeatures:
    """The vectors of a task's clips, from the cache or computed into it.

    Clips are resampled to the encoder's rate and cut or zero-padded at the end to the task's unit length. The
    cache is keyed by encoder, settings and the size and time of every file; a run that was killed goes on.

    Args:
        task: its clips.
        named: the encoder.
        cache: folder, made if need be; several processes may use it at once.
        layers: all layers' vectors, [clip, layer, width], instead of the last one's, [clip, width].
        dtype: as stored; float16 halves the disk and keeps three digits.
        readers: threads that decode and resample.

    Raises:
        EncoderError: no layers to give, a wrong shape, or (NotFiniteError) NaN; names encoder and clip.
        MatpacError: not one clip can be used, or the cache can't be written.
        TaskError: without the clips that can't be read, a part of the task is empty.
    """
    if layers and not named.layers:
        raise EncoderError(f"{named.name}: gives no vectors of its layers; ask for the last one's alone")
    file = _feature_file(task, named, cache, "layers" if layers else "scenes", dtype)
    with file.lock():
        done = file.resume()
        if done < len(task.paths):

            def vectors(clips: Clips, failed: Failed) -> Iterator[Tensor | None]:
                return vectors_in_order(named, clips, layers, failed)

            _fill(file, task, named, done, vectors, readers)
        _require_rows(file, task, named)
        found = file.open()
    return TaskFeatures(found, without(task, file.failed), file.state.key)


def embed_tokens(
    task: Task, named: NamedEncoder, cache: Path, *, budget_bytes: int = TOKEN_BUDGET, readers: int = 2
) -> TokenFeatures:
    """The frames (a vector every 160 ms) of a task's clips in float16, for probes over tokens; as `embed_task`.

    Raises:
        EncoderError: the encoder is no `Embedder`; otherwise as `embed_task`.
        MatpacError: the array would be larger than the budget (says how large); otherwise as `embed_task`.
    """
    embedder = named.encoder
    if not isinstance(embedder, Embedder):
        raise EncoderError(f"{named.name}: only matpac's own encoders give tokens; probe its vectors instead")
    file = _feature_file(task, named, cache, "tokens", "float16")
    with file.lock():
        done = file.resume()
        frames = file.shape[0] if file.shape else _most_frames(task, embedder)
        size = len(task.paths) * frames * embedder.width * 2
        if size > budget_bytes:
            raise MatpacError(
                f"{task.name}, {named.name}: {len(task.paths)} clips × {frames} frames × {embedder.width} numbers "
                f"in float16 take {size / 2**30:.3g} GiB, and the budget is {budget_bytes / 2**30:.3g} GiB; "
                "raise it, or probe the vectors of whole clips"
            )
        if done < len(task.paths):

            def sequences(clips: Clips, failed: Failed) -> Iterator[Tensor | None]:
                return embedder.frame_sequences(clips, failed=failed)

            _fill(file, task, named, done, sequences, readers, frames)
        _require_rows(file, task, named)
        found = file.open()
    return TokenFeatures(found, np.array(file.state.lengths, np.int64), without(task, file.failed), file.state.key)


def frame_count(samples: int, embedder: Embedder) -> int:
    """How many frames an embedder gives for a clip of so many samples at its rate (`matpac.chunks.Cutter`)."""
    logmel, network = embedder.logmel.config, embedder.encoder.config
    need, advance = logmel.samples(network.frames), network.frames * logmel.hop
    full = 0 if samples < need else 1 + (samples - need) // advance
    return full * network.steps + -(-logmel.frames(samples - full * advance) // PATCH)


def _most_frames(task: Task, embedder: Embedder) -> int:
    """Of the longest clip: by the unit length, or by the headers.

    Headers may be 2 % + 0.1 s off (`matpac.read`), and so much is added.
    """
    samples = unit_samples(task.unit_seconds, embedder.sample_rate)
    if samples is None:
        longest = max(map(_seconds, task.paths), default=0.0)
        samples = math.ceil((1.02 * longest + 0.1) * embedder.sample_rate)
    return frame_count(samples, embedder)


def _seconds(path: str) -> float:
    try:
        return info(path).duration
    except AudioError:
        return 0.0  # told when it is read


def _feature_file(task: Task, named: NamedEncoder, cache: Path, kind: Kind, dtype: str) -> FeatureFile:
    about = {
        "task": task.name,
        "encoder": named.name,
        "encoder_key": named.key,
        "kind": kind,
        "dtype": dtype,
        "unit_seconds": task.unit_seconds,
        "decoders": decoders(),
        "format": FORMAT,
    }
    settings = {name: value for name, value in about.items() if name not in ("task", "encoder")}
    digest = sha256(json.dumps(settings, sort_keys=True).encode())
    root = os.path.commonpath([os.path.dirname(path) for path in task.paths])  # noqa: PTH120
    for path in task.paths:
        digest.update(json.dumps([path[len(root) :], *_size_and_time(path)]).encode())  # paths are absolute
    key = digest.hexdigest()
    stem = f"{_plain(task.name)}-{_plain(named.name)}-{kind}-{key[:16]}"
    return FeatureFile(Path(cache), stem, key, len(task.paths), dtype, about)


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 (hundreds of thousands)
    except OSError:
        return -1, -1  # told when it is read; once it is back, the key is another
    return found.st_size, found.st_mtime_ns


def _plain(name: str) -> str:
    """A name's last letters that any file system takes."""
    return re.sub(r"[^A-Za-z0-9.+]+", "_", name)[-40:].strip("._") or "encoder"


def _require_rows(file: FeatureFile, task: Task, named: NamedEncoder) -> None:
    if len(file.failed) == len(task.paths):
        raise MatpacError(
            f"{task.name}, {named.name}: not one of {len(task.paths)} clips can be used; the first, "
            f"{task.paths[0]}: {file.failed[0]}"
        )


def _fill(
    file: FeatureFile,
    task: Task,
    named: NamedEncoder,
    first: int,
    run: Callable[[Clips, Failed], Iterable[Tensor | None]],
    readers: int,
    frames: int | None = None,
) -> None:
    """Compute what is not there yet, from clip `first` on. With `frames`, rows are padded to so many."""
    if readers < 1:
        raise MatpacError(f"{readers} threads read nothing; it takes at least 1")
    reasons: dict[int, str] = {}

    def failed(number: int, error: AudioError) -> None:
        path = task.paths[first + number]
        reasons[first + number] = re.sub(r"^clip \d+: ", "", str(error)).removeprefix(f"{path}: ")

    rate = named.encoder.sample_rate
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(readers)
        stack.callback(pool.shutdown, cancel_futures=True)  # what is not begun is not waited for
        clips = Clips(task.paths[first:], rate, unit_samples(task.unit_seconds, rate), pool)
        advance = stack.enter_context(_progress(f"{task.name}, {named.name}", first, len(task.paths)))
        for number, vector in enumerate(run(clips, failed), start=first):
            if vector is None:
                file.add(None, reasons.pop(number))
            else:
                row = _row(vector, file, named, task.paths[number], frames)
                file.add(row, length=None if frames is None else len(vector))
            advance()
    file.finish()


def _row(vector: Tensor, file: FeatureFile, named: NamedEncoder, path: str, frames: int | None) -> np.ndarray:
    """What is stored of one clip, checked."""
    values = vector.numpy()
    if not np.isfinite(values).all():
        raise NotFiniteError(named.name, path)
    with np.errstate(over="ignore"):
        row = values.astype(file.state.dtype)
    if not np.isfinite(row).all():
        raise EncoderError(
            f"{named.name}: its vector of {path} reaches {np.abs(values).max():.3g}, and float16 ends at 65504; "
            "use float32"
        )
    if frames is not None:
        if len(row) > frames:
            raise MatpacError(
                f"{path}: {len(row)} frames where its header promises {frames} at most; write it anew"
            )
        row = np.pad(row, ((0, frames - len(row)), (0, 0)))
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
