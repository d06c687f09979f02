"""Which file of a source goes into which shard: decided from headers, kept, and compared when packing resumes."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matpac import audio
from matpac.atomic import write_text, written_whole
from matpac.data.files import list_clips
from matpac.data.packing.encode import planned_bytes
from matpac.data.packing.pool import PackError
from matpac.data.shards.index import INDEX, TABLE, UNFINISHED, read_index
from matpac.data.shards.tar import BLOCK, MOST_MEMBER_BYTES
from matpac.data.tables import is_label, is_table, read_table

if TYPE_CHECKING:  # it is slow to import
    import pyarrow as pa

PLAN, SETTINGS, DURATIONS = "plan.parquet", "settings.json", "durations.parquet"
COLUMNS = ("source", "seconds", "bytes", "modified", "labels", "shard", "reason")
AROUND_BYTES = 3 * BLOCK  # in a tar, with each clip: headers of sound and JSON, and the JSON, mostly one block
LONGEST_SECONDS = MOST_MEMBER_BYTES / (2 * audio.SAMPLE_RATE) - 1  # 9.3 hours; a longer one would not be read


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of the shards.

    Args:
        encoding: flac or pcm16.
        shard_size: planned bytes of a shard.
    """

    encoding: str
    shard_size: int


@dataclass(frozen=True)
class SourceFile:
    """A file of the source, and its place.

    Args:
        number: in the order of the source.
        path: absolute.
        source: its name for messages and the table: relative to the source's folder where it lies in it.
        seconds: by its header.
        bytes: size of the file; -1 where there is none.
        modified: time of its last change, in ns.
        labels: by the table; empty without.
        shard: number of its shard; -1 for a skipped file.
        reason: why it is skipped; empty for the others.
    """

    number: int
    path: str
    source: str
    seconds: float
    bytes: int
    modified: int
    labels: list[str]
    shard: int
    reason: str

    @property
    def key(self) -> str:
        """WebDataset's key: the stem of its members in the tar."""
        return f"{self.number:09d}"


def make_plan(source: str, settings: Settings, cache: Path | None) -> list[SourceFile]:
    """All files of the source, those that can be packed with their shards.

    Clips come into the shards in a mixed order (fixed, by a seed), so that each shard is a sample of the corpus; a
    shard is full when the next clip's planned bytes don't fit.

    Raises:
        TableError: a table of files that can't be read.
        DataError: no file there that can be packed.
    """
    listed = list_clips(source, cache)
    labels = read_table(source, also=is_label).labels_by_path() if is_table(Path(source)) else {}
    root = os.path.abspath(source if Path(source).is_dir() else Path(source).parent)  # noqa: PTH100 (as list_clips)
    seconds = {clip.path: clip.duration for clip in listed.clips}
    reasons = {skipped.path: skipped.reason for skipped in listed.skipped}
    longest = f"longer than {LONGEST_SECONDS / 3600:.1f} h; cut it into parts"
    reasons |= {clip.path: longest for clip in listed.clips if clip.duration > LONGEST_SECONDS}
    shards = _assign({path: length for path, length in seconds.items() if path not in reasons}, settings)
    plan = []
    for number, path in enumerate(sorted(seconds | reasons)):
        name = os.path.relpath(path, root) if path.startswith(root + os.sep) else path
        name = os.fsencode(name).decode("utf-8", "backslashreplace")  # file names need not be UTF-8
        about = seconds.get(path, 0.0), *_state(path), labels.get(path, [])
        plan.append(SourceFile(number, path, name, *about, shards.get(path, -1), reasons.get(path, "")))
    return plan


def _assign(clips: dict[str, float], settings: Settings) -> dict[str, int]:
    paths = sorted(clips)
    shards: dict[str, int] = {}
    shard, filled = 0, 0
    for place in np.random.default_rng(0).permutation(len(paths)):
        content = planned_bytes(clips[paths[place]], settings.encoding)
        size = content + -content % BLOCK + AROUND_BYTES
        if filled and filled + size > settings.shard_size:
            shard, filled = shard + 1, 0
        shards[paths[place]] = shard
        filled += size
    return shards


def _state(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)  # noqa: PTH116 (millions of files)
    except OSError:
        return -1, -1  # it is among the skipped ones, with its reason
    return state.st_size, state.st_mtime_ns


# --- kept, and compared ------------------------------------------------------------------------------------


def plan_table(plan: Sequence[SourceFile]) -> "pa.Table":
    """The plan as a pyarrow table, one row per file in their order."""
    import pyarrow as pa

    kinds = (pa.string(), pa.float64(), pa.int64(), pa.int64(), pa.list_(pa.string()), pa.int32(), pa.string())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    return pa.table({name: [getattr(file, name) for file in plan] for name in COLUMNS}, schema=schema)


def agree(folder: Path, source: str, settings: Settings) -> list[SourceFile]:
    """The plan for a folder of shards: a new one, or the one with which its packing began.

    Raises:
        PackError: the folder holds something else, or was begun with other settings, or from other files.
        DataError: no file of the source can be packed.
    """
    work = folder / UNFINISHED
    if (folder / INDEX).exists():
        index = read_index(folder)
        _compare_settings(folder, Settings(index.encoding, index.shard_size), settings)
        return _compare(folder, folder / TABLE, make_plan(source, settings, None))
    if (work / SETTINGS).exists():
        _compare_settings(folder, Settings(**json.loads((work / SETTINGS).read_text())), settings)
        return _compare(folder, work / PLAN, make_plan(source, settings, work / DURATIONS))
    strange = sorted(folder.glob("*.tar"))
    if strange:
        raise PackError(
            f"{folder}: holds {strange[0].name}, which matpac pack did not write; choose another folder"
        )
    plan = make_plan(source, settings, work / DURATIONS)
    import pyarrow.parquet as pq

    with written_whole(work / PLAN) as draft:
        pq.write_table(plan_table(plan), draft)
    write_text(work / SETTINGS, json.dumps(asdict(settings)) + "\n")  # last: it shows that a plan is there
    return plan


def _compare_settings(folder: Path, before: Settings, now: Settings) -> None:
    options = (("--format", before.encoding, now.encoding), ("--shard_size", before.shard_size, now.shard_size))
    changed = [f"{name} {old} → {new}" for name, old, new in options if old != new]
    if changed:
        raise PackError(
            f"{folder}: its packing began with other settings: {', '.join(changed)}; give the same, or another "
            "--output"
        )


def _compare(folder: Path, kept: Path, plan: list[SourceFile]) -> list[SourceFile]:
    """The plan with the seconds, shards and reasons that were kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(kept, columns=list(COLUMNS)).to_pylist()
        before = {row["source"]: row for row in rows}
    except (pa.ArrowException, KeyError, OSError) as error:
        raise PackError(f"{kept}: can't be read ({error}); remove {folder} and pack again") from error
    now = {file.source: file for file in plan}
    changed = [
        name
        for name, file in now.items()
        if name in before and any(before[name][field] != getattr(file, field) for field in COLUMNS[2:5])
    ]
    differences = [f"{name} is gone" for name in before if name not in now]
    differences += [f"{name} has changed" for name in changed]
    differences += [f"{name} is new" for name in now if name not in before]
    if differences:
        more = f", and {len(differences) - 1} more differences" if len(differences) > 1 else ""
        raise PackError(
            f"{folder}: the source is not the one with which its packing began: {differences[0]}{more}; restore "
            "it, or give another --output"
        )
    kept_fields = ("seconds", "shard", "reason")
    return [replace(file, **{name: before[file.source][name] for name in kept_fields}) for file in plan]
