"""A task's features by a frozen encoder: computed once, then memory-mapped from the disk."""

import json
import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from matpac.audio import may_be_read
from matpac.audio import readers as decoders
from matpac.model.gather import Mean
from matpac.probe.encoders import EncoderError, NamedEncoder
from matpac.probe.feature_cache import FeatureFile
from matpac.probe.filling import fill, require_rows, road_encoder
from matpac.probe.shared_rows import clip_digests, settings
from matpac.tasks import Task, without
from matpac.tasks.task import without_links
from matpac.vectors.road import Road

Kind = Literal["scenes", "layers", "tokens", "layer_tokens"]
FORMAT = 1
"""Rises when the same settings give other features than before, and all caches are computed anew."""


@dataclass(frozen=True, eq=False)
class TaskFeatures:
    """One row a clip of `task`, in its order."""

    vectors: Float[np.memmap, "clip *layer width"]
    task: Task
    """Without the clips that could not be read; they are in its `missing`, with the reason."""
    key: str
    """SHA-256 over all that the features depend on, hexadecimal."""


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
    cache is keyed by encoder, settings and the place (without links), size and time of every file; a run that was
    killed goes on, and what another task has of the same files is copied (`shared_rows.py`).

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
    file = feature_file(task, named, cache, "layers" if layers else "scenes", dtype)
    with file.lock():
        done = file.resume()
        if done < len(task.paths):
            which = "all" if layers else None
            unit, encoder = task.unit_seconds, road_encoder(named)
            road = Road(encoder, Mean, layers=which, unit_seconds=unit, readers=readers)
            fill(file, task, named, done, road)
        require_rows(file, task, named)
        found = file.open()
    return TaskFeatures(found, without(task, file.failed), file.state.key)


def feature_file(task: Task, named: NamedEncoder, cache: Path, kind: Kind, dtype: str) -> FeatureFile:
    """The file in `cache` that is of these clips, this encoder and these settings, and of nothing else."""
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
    digest = sha256(json.dumps(settings(about), sort_keys=True).encode())
    stats = [_size_and_time(path) for path in task.paths]
    clips = clip_digests(without_links(task.paths), stats)
    digest.update(clips)
    key = digest.hexdigest()
    stem = f"{_plain(task.name)}-{_plain(named.name)}-{kind}-{key[:16]}"
    return FeatureFile(Path(cache), stem, key, len(task.paths), dtype, about, clips)


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 (hundreds of thousands)
    except OSError:
        return -1, -1  # told when it is read; once it is back, the key is another
    if not may_be_read(path, found.st_mode):
        return -1, -1  # the same: what gives permission leaves size and time
    return found.st_size, found.st_mtime_ns


def _plain(name: str) -> str:
    """A name's last letters that any file system takes."""
    return re.sub(r"[^A-Za-z0-9.+]+", "_", name)[-40:].strip("._") or "encoder"
