"""Which file of a source goes into which shard: decided from headers, kept, and compared when packing goes on."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matpac import audio
from matpac.atomic import written_whole
from matpac.data.files import list_clips
from matpac.data.packing.encode import planned_bytes
from matpac.data.shards.index import INDEX, TABLE, UNFINISHED, read_index
from matpac.data.shards.tar import BLOCK, MOST_MEMBER_BYTES
from matpac.data.tables import is_label, is_table, read_table
from matpac.errors import MatpacError

if TYPE_CHECKING:  # it is slow to import
    import pyarrow as pa

PLAN, SETTINGS, DURATIONS = "plan.parquet", "settings.json", "durations.parquet"

AROUND_BYTES = 3 * BLOCK
"""Of a tar, with each clip: the headers of sound and JSON, and the JSON, which mostly fits a block."""

LONGEST_SECONDS = MOST_MEMBER_BYTES / (2 * audio.SAMPLE_RATE) - 1
"""A longer recording would be a member that isn't read; 9.3 hours."""


class PackError(MatpacError):
    """Packing can't be done, or not gone on with; the message tells why and the way out."""


@dataclass(frozen=True)
class Settings:
    """What decides how a clip lies in the shards: `flac` or `pcm16`, and the planned bytes of a shard."""

    encoding: str
    shard_size: int


@dataclass(frozen=True)
class SourceFile:
    """A file of the source, and its place.

    Args:
        number: in the order of the source.
        path: absolute.
        source: its name as told: relative to the source's folder where it lies in it.
        seconds: by its header.
        bytes: of the file.
        modified: time of its last change, in ns.
        labels: by the table; empty without.
        shard: number of its shard; −1 for one left out.
        reason: for which it is left out; empty for the others.
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
        """Of its members in the tar: WebDataset's key."""
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
    longest = f"longer than {LONGEST_SECONDS / 3600:.1f} h; cut it into parts"
    clips = {clip.path: clip.duration for clip in listed.clips}
    reasons = {left.path: left.reason for left in listed.skipped}
    reasons |= {path: longest for path, seconds in clips.items() if seconds > LONGEST_SECONDS}
    shards = _assign({path: seconds for path, seconds in clips.items() if path not in reasons}, settings)
    plan = []
    for number, path in enumerate(sorted(clips | reasons)):
        size, modified = _state(path)
        name = os.path.relpath(path, root) if path.startswith(root + os.sep) else path
        plan.append(
            SourceFile(
                number,
                path,
                _text(name),
                clips.get(path, 0.0),
                size,
                modified,
                labels.get(path, []),
                shards.get(path, -1),
                reasons.get(path, ""),
            )
        )
    return plan


def _assign(clips: dict[str, float], settings: Settings) -> dict[str, int]:
    paths = sorted(clips)
    shards: dict[str, int] = {}
    shard, filled = 0, 0
    for place in np.random.default_rng(0).permutation(len(paths)):
        path = paths[place]
        content = planned_bytes(clips[path], settings.encoding)
        size = content + -content % BLOCK + AROUND_BYTES
        if filled and filled + size > settings.shard_size:
            shard, filled = shard + 1, 0
        shards[path] = shard
        filled += size
    return shards


def _state(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)  # noqa: PTH116 (millions of files)
    except OSError:
        return -1, -1  # it is among those left out, with its reason
    return state.st_size, state.st_mtime_ns


def _text(name: str) -> str:
    """A name as text that any file can hold: names of files need not be UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


# --- kept, and compared ------------------------------------------------------------------------------------

COLUMNS = ("source", "seconds", "bytes", "modified", "labels", "shard", "reason")


def plan_table(plan: Sequence[SourceFile]) -> "pa.Table":
    """The plan as a pyarrow table, a row a file in their order."""
    import pyarrow as pa

    kinds = (pa.string(), pa.float64(), pa.int64(), pa.int64(), pa.list_(pa.string()), pa.int32(), pa.string())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    return pa.table({name: [getattr(file, name) for file in plan] for name in COLUMNS}, schema=schema)


def agree(folder: Path, source: str, settings: Settings) -> list[SourceFile]:
    """The plan for a folder of shards: a new one, or the one that it was begun with, or made from.

    Raises:
        PackError: the folder holds something else, or was begun with other settings, or from other files.
        DataError: no file of the source can be packed.
    """
    work = folder / UNFINISHED
    if (folder / INDEX).exists():
        index = read_index(folder)
        before = Settings(index.encoding, index.shard_size)
        _compare_settings(folder, before, settings)
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
    with written_whole(work / SETTINGS) as draft:  # written last: it says that a plan is there
        draft.write_text(json.dumps(asdict(settings)) + "\n")
    return plan


def _compare_settings(folder: Path, before: Settings, now: Settings) -> None:
    names = {"encoding": "--format", "shard_size": "--shard-size"}
    changed = [
        f"{option} {getattr(before, name)} → {getattr(now, name)}"
        for name, option in names.items()
        if getattr(before, name) != getattr(now, name)
    ]
    if changed:
        raise PackError(
            f"{folder}: its packing began with other settings: {', '.join(changed)}; give the same, or another "
            "--output"
        )


def _compare(folder: Path, kept: Path, plan: list[SourceFile]) -> list[SourceFile]:
    """The plan with the shards that were kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(kept, columns=list(COLUMNS))
        rows = list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise PackError(f"{kept}: can't be read ({error}); remove {folder} and pack again") from error
    before = {row[0]: row for row in rows}
    now = {file.source: file for file in plan}
    gone = [f"{name} is gone" for name in before if name not in now]
    new = [f"{name} is new" for name in now if name not in before]
    changed = [
        f"{name} has changed" for name, file in now.items() if name in before and not _same(before[name], file)
    ]
    differences = [*gone, *changed, *new]
    if differences:
        more = f", and {len(differences) - 1} more differences" if len(differences) > 1 else ""
        raise PackError(
            f"{folder}: the source is not the one that its packing began with: {differences[0]}{more}; put it "
            "back, or give another --output"
        )
    return [_as_planned(file, before[file.source]) for file in plan]


def _as_planned(file: SourceFile, row: tuple) -> SourceFile:
    seconds, shard, reason = row[1], row[5], row[6]
    return replace(file, seconds=seconds, shard=shard, reason=reason)


def _same(row: tuple, file: SourceFile) -> bool:
    return row[2:5] == (file.bytes, file.modified, file.labels)
