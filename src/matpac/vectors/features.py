"""A task's features by a frozen encoder: computed once into a store, then read into one array.

A store holds the rows of all tasks for one encoder and one way to embed: tasks of the same files share them.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

import numpy as np
from jaxtyping import Float, Float16, Int, Shaped
from torch import Tensor

from matpac.audio import AudioError, info
from matpac.audio import readers as decoders
from matpac.audio.read_ahead import READERS
from matpac.console import track
from matpac.errors import MatpacError
from matpac.model.embedder import Embedder
from matpac.model.encoders import EncoderError, NamedEncoder, NotFiniteError
from matpac.model.gather import Frames, Mean
from matpac.model.vit import PATCH
from matpac.tasks import Task, without
from matpac.tasks.task import without_links
from matpac.vectors.road import NOT_FINITE, Road, Row
from matpac.vectors.states import FileState, file_state, path_text, text_path
from matpac.vectors.store import StoredError, VectorStore
from matpac.vectors.tables import clip_table

Kind = Literal["scenes", "layers", "tokens", "layer_tokens"]

FORMAT = 2
"""Incremented when the same settings give other features than before; old ones are not used then."""

TOKEN_BUDGET = 8 * 2**30
"""Bytes of disk for the tokens of one encoder on one task; default; ViT-B's layers on ESC-50 (5.5 GiB) fit."""

IN_MEMORY = 2**30
"""Larger arrays are mapped from a temporary file; default; a quarter of a small machine's memory."""


@dataclass(frozen=True, eq=False)
class TaskFeatures:
    """One row per clip of a task, in its order.

    Args:
        vectors: in memory, or mapped from disk if they are large.
        task: without the clips that can't be used; these are in its `missing`, with the reason.
    """

    vectors: Float[np.ndarray, "clip *layer width"]
    task: Task


@dataclass(frozen=True, eq=False)
class TokenFeatures:
    """The frames of every clip of a task, in its order.

    Args:
        frames: in memory or mapped; 0 beyond a clip's length.
        lengths: frames of each clip.
        task: without the clips that can't be used; these are in its `missing`, with the reason.
    """

    frames: Float16[np.ndarray, "clip *layer frame width"]
    lengths: Int[np.ndarray, " clip"]
    task: Task


class BudgetError(MatpacError):
    """Tokens that would take more than may be kept; the message says how much."""


def embed_task(
    task: Task,
    named: NamedEncoder,
    cache: Path,
    *,
    layers: bool = False,
    dtype: Literal["float32", "float16"] = "float32",
    readers: int = READERS,
) -> TaskFeatures:
    """The vectors of a task's clips, from the cache or computed into it.

    Clips are resampled to the encoder's rate and cut or zero-padded at the end to the task's unit length. A
    vector is used again for a file of the same place (without links), size and time, with the same encoder and
    settings; an interrupted run resumes.

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
        raise EncoderError(f"{named.name}: gives no vectors of its layers; ask for the last layer's alone")
    encoder = named.encoder if isinstance(named.encoder, Embedder) else named
    which, unit = "all" if layers else None, task.unit_seconds
    road = Road(encoder, Mean, layers=which, unit_seconds=unit, readers=readers)
    rows, rest = _Cache(task, named, cache, "layers" if layers else "scenes", dtype).rows(road)
    vectors = _array((len(rows), *rows[0].shape), dtype, cache)
    for place, row in enumerate(rows):
        vectors[place] = row
    return TaskFeatures(vectors if layers else vectors[:, 0], rest)


def embed_tokens(
    task: Task,
    named: NamedEncoder,
    cache: Path,
    *,
    layers: bool = False,
    budget_bytes: int = TOKEN_BUDGET,
    readers: int = READERS,
) -> TokenFeatures:
    """The frames of a task's clips in float16, from the cache or computed into it.

    [clip, frame, width], or with `layers` [clip, layer, frame, width]; otherwise as `embed_task`.

    Raises:
        EncoderError: the encoder is no `Embedder`; otherwise as `embed_task`.
        BudgetError: they would be larger than the budget.
        MatpacError: as `embed_task`.
    """
    embedder = named.encoder
    if not isinstance(embedder, Embedder):
        raise EncoderError(f"{named.name}: only matpac's own encoders give tokens; probe its vectors instead")
    depth = embedder.depth if layers else 1
    frames = sum(_frame_counts(task, embedder))
    size = frames * depth * embedder.width * 2
    if size > budget_bytes:
        raise BudgetError(
            f"{task.name}, {named.name}: {frames} frames of {len(task.paths)} clips × {depth} layers × "
            f"{embedder.width} numbers in float16 take {size} bytes ({size / 2**30:.3g} GiB), and the budget is "
            f"{budget_bytes / 2**30:.3g} GiB; raise it with --token_budget if the disk has room for twice as much"
        )
    which, unit = "all" if layers else None, task.unit_seconds
    road = Road(embedder, Frames, layers=which, unit_seconds=unit, readers=readers)
    rows, rest = _Cache(task, named, cache, "layer_tokens" if layers else "tokens", "float16").rows(road)
    rows = [row.reshape(depth, -1, embedder.width) for row in rows]
    lengths = np.array([row.shape[1] for row in rows], np.int64)
    found = _array((len(rows), depth, int(lengths.max()), embedder.width), "float16", cache)
    for place, row in enumerate(rows):
        found[place, :, : row.shape[1]] = row
        found[place, :, row.shape[1] :] = 0
    return TokenFeatures(found if layers else found[:, 0], lengths, rest)


class _Cache:
    """The store of one encoder and one way to embed, for a task's files."""

    def __init__(self, task: Task, named: NamedEncoder, cache: Path, kind: Kind, dtype: str):
        self.task, self.named, self.dtype, self.has_layers = task, named, dtype, "layer" in kind
        about = {
            "encoder_key": named.key,
            "frames": "tokens" in kind,
            "layers": self.has_layers,
            "dtype": dtype,
            "unit_seconds": task.unit_seconds,
            "decoders": decoders(),
            "format": FORMAT,
        }
        digest = sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        folder = cache / f"{_plain(named.name)}-{kind}-{digest[:16]}"
        try:
            cache.mkdir(parents=True, exist_ok=True)
            self.store = VectorStore(folder, {**about, "encoder": {"name": named.name}}, "arrow")
        except OSError as error:
            raise _unwritable(cache, error) from error

    def rows(self, road: Road[Tensor]) -> tuple[list[Shaped[np.ndarray, "row width"]], Task]:
        """The rows of every usable clip, mapped, and the task of these clips."""
        task, store = self.task, self.store
        paths = [path_text(path) for path in without_links(task.paths)]
        with store.locked(".filling.lock"):  # a second process waits, and then finds what the first computed
            store.read()
            states = {path: file_state(text_path(path)) for path in paths}
            known = {**store.errors, **store.files}
            todo = [path for path in paths if path not in known or not known[path].is_same(states[path])]
            try:
                with store.writing():
                    self._compute(road, todo, states)
            except OSError as error:
                raise _unwritable(store.folder, error) from error
        failed = {n: store.errors[path].reason for n, path in enumerate(paths) if path not in store.files}
        if len(failed) == len(paths):
            raise MatpacError(
                f"{task.name}, {self.named.name}: not one of {len(paths)} clips can be used; the first, "
                f"{task.paths[0]}: {failed[0]}"
            )
        found = list(store.vectors([path for path in paths if path in store.files]))
        return found, without(task, failed)

    def _compute(self, road: Road[Tensor], todo: Sequence[str], states: Mapping[str, FileState]) -> None:
        what, shape = f"{self.task.name}, {self.named.name}", None
        with closing(road.rows(map(text_path, todo))) as rows:
            for path, row in zip(todo, track(rows, what, len(todo), " clips"), strict=True):
                state = states[path]
                if row.vectors is None:
                    if row.error == NOT_FINITE:
                        raise NotFiniteError(self.named.name, row.path)
                    self.store.fail(path, StoredError(state.size, state.modified, row.error))
                    continue
                values = self._stored(row)
                found = (values.shape[0], values.shape[-1])
                shape = shape or found
                if found != shape:
                    raise EncoderError(
                        f"{self.named.name}: its vector of {row.path} has layers and width {found}, those before "
                        f"{shape}; correct the encoder"
                    )
                table = clip_table(path, row.duration, values, 0 if self.has_layers else None)
                self.store.add(path, state, [table], len(table), values.nbytes)

    def _stored(self, row: Row[Tensor]) -> Float[np.ndarray, "layer *frame width"]:
        assert row.vectors is not None
        values = row.vectors.numpy()
        with np.errstate(over="ignore"):
            stored = values.astype(self.dtype)
        if not np.isfinite(stored).all():
            raise EncoderError(
                f"{self.named.name}: its vector of {row.path} reaches {np.abs(values).max():.3g}, but float16 "
                "ends at 65504; use float32"
            )
        return stored


def _unwritable(place: Path, error: OSError) -> MatpacError:
    return MatpacError(f"{place}: can't be written ({error.strerror or error}); free space, or use another cache")


def _array(shape: tuple[int, ...], dtype: str, folder: Path) -> Float[np.ndarray, "..."]:
    """An array to fill, in memory or mapped."""
    if np.dtype(dtype).itemsize * math.prod(shape) <= IN_MEMORY:
        return np.empty(shape, dtype)
    with TemporaryFile(dir=folder) as file:  # the mapping outlives it
        return np.memmap(file, dtype, "w+", shape=shape)


def _plain(name: str) -> str:
    """The end of a name in letters that any file system takes."""
    return re.sub(r"[^A-Za-z0-9.+]+", "_", name)[-40:].strip("._") or "encoder"


def frame_count(samples: int, embedder: Embedder) -> int:
    """How many frames an embedder gives for a clip of so many samples at its rate."""
    logmel, network = embedder.logmel.config, embedder.config
    need, advance = logmel.samples(network.frames), network.frames * logmel.hop
    full = 0 if samples < need else 1 + (samples - need) // advance
    return full * network.steps + -(-logmel.frames(samples - full * advance) // PATCH)


def _frame_counts(task: Task, embedder: Embedder) -> Iterator[int]:
    """Frames of every clip, by the unit length or by its header."""
    for path in task.paths:
        try:
            seconds = info(path).duration if task.unit_seconds is None else task.unit_seconds
        except AudioError:
            continue  # named when it is read
        yield frame_count(round(seconds * embedder.sample_rate), embedder)


def folder_bytes(folder: Path) -> int:
    """Bytes that a cache takes of the disk."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
