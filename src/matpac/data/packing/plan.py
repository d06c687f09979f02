"""Which file of a source goes into which shard: decided from headers, kept, and compared when packing resumes."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from matpac import audio
from matpac.atomic import write_text, written_whole
from matpac.data.files import list_clips
from matpac.data.headers import state_of
from matpac.data.packing.pool import PackError
from matpac.data.shards.index import INDEX, TABLE, UNFINISHED, read_index
from matpac.data.shards.tar import BLOCK, MOST_MEMBER_BYTES
from matpac.data.tables import is_label, is_table, read_table
from matpac.errors import MatpacError

if TYPE_CHECKING:  # it is slow to import
    import pyarrow as pa

PLAN, SETTINGS, DURATIONS = "plan.parquet", "settings.json", "durations.parquet"
COLUMNS = ("source", "seconds", "bytes", "modified", "labels", "shard", "reason")
LEAST_SHARD = 2**16  # bytes; a smaller shard holds no clip
AROUND_BYTES = 3 * BLOCK  # in a tar, with each clip: headers of sound and JSON, and the JSON, mostly one block
HEADER_BYTES = 44  # of a WAV file with PCM
FLAC_SHARE = 0.6  # bytes of FLAC for each of PCM, by which shards are planned; default: chords over noise take 0.7
LONGEST_SECONDS = MOST_MEMBER_BYTES / (2 * audio.SAMPLE_RATE) - 1  # 9.3 hours; a longer one would not be read


@dataclass(frozen=True)
class PackOptions:
    """What to pack, and how.

    Args:
        source: a folder (searched recursively), a table with a path column, or one sound file.
        output: the folder of the shards.
        encoding: flac, or pcm16: larger, and quicker to decode.
        shard_size: planned bytes of a shard.
        workers: processes; one per core if None.
    """

    source: str
    output: str
    encoding: Literal["flac", "pcm16"] = "flac"
    shard_size: int = 10**9
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.shard_size < LEAST_SHARD:
            raise MatpacError(f"a shard of {self.shard_size} bytes holds nothing; give at least {LEAST_SHARD}")


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


def make_plan(options: PackOptions, cache: Path | None) -> list[SourceFile]:
    """All files of the source, those that can be packed with their shards.

    Clips come into the shards in a mixed order (fixed, by a seed), so that each shard is a sample of the corpus; a
    shard is full when the next clip's planned bytes don't fit.

    Raises:
        TableError: a table of files that can't be read.
        DataError: no file there that can be packed.
    """
    source = Path(options.source)
    listed = list_clips(source, cache)
    labels = read_table(source, also=is_label).labels_by_path() if is_table(source) else {}
    root = os.path.abspath(source if source.is_dir() else source.parent)  # noqa: PTH100 (as list_clips)
    seconds = {clip.path: clip.duration for clip in listed.clips}
    reasons = {skipped.path: skipped.reason for skipped in listed.skipped}
    longest = f"longer than {LONGEST_SECONDS / 3600:.1f} h; cut it into parts"
    reasons |= {clip.path: longest for clip in listed.clips if clip.duration > LONGEST_SECONDS}
    shards = assign({path: length for path, length in seconds.items() if path not in reasons}, options)
    plan = []
    for number, path in enumerate(sorted(seconds | reasons)):
        name = os.path.relpath(path, root) if path.startswith(root + os.sep) else path
        name = os.fsencode(name).decode("utf-8", "backslashreplace")  # file names need not be UTF-8
        about = seconds.get(path, 0.0), *state_of(path), labels.get(path, [])
        plan.append(SourceFile(number, path, name, *about, shards.get(path, -1), reasons.get(path, "")))
    return plan


def assign(clips: dict[str, float], options: PackOptions) -> dict[str, int]:
    """The number of each clip's shard, by the clips' paths and seconds."""
    paths = sorted(clips)
    shards: dict[str, int] = {}
    shard, filled = 0, 0
    for place in np.random.default_rng(0).permutation(len(paths)):
        content = planned_bytes(clips[paths[place]], options.encoding)
        size = content + -content % BLOCK + AROUND_BYTES
        if filled and filled + size > options.shard_size:
            shard, filled = shard + 1, 0
        shards[paths[place]] = shard
        filled += size
    return shards


def planned_bytes(seconds: float, encoding: str) -> int:
    """What a clip of that length will take: right for pcm16, a guess for flac."""
    pcm = 2 * seconds * audio.SAMPLE_RATE
    return HEADER_BYTES + round(pcm if encoding == "pcm16" else pcm * FLAC_SHARE)


# --- kept, and compared ------------------------------------------------------------------------------------


def plan_table(plan: Sequence[SourceFile]) -> "pa.Table":
    """The plan as a pyarrow table, one row per file in their order."""
    import pyarrow as pa

    kinds = (pa.string(), pa.float64(), pa.int64(), pa.int64(), pa.list_(pa.string()), pa.int32(), pa.string())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    return pa.table({name: [getattr(file, name) for file in plan] for name in COLUMNS}, schema=schema)


def agree(options: PackOptions) -> list[SourceFile]:
    """The plan for a folder of shards: a new one, or the one with which its packing began.

    Raises:
        PackError: the folder holds something else, or was begun with other settings, or from other files.
        DataError: no file of the source can be packed.
    """
    folder = Path(options.output)
    work = folder / UNFINISHED
    if (folder / INDEX).exists():
        index = read_index(folder)
        _compare_settings(options, {"encoding": index.encoding, "shard_size": index.shard_size})
        return _compare(folder, folder / TABLE, make_plan(options, None))
    if (work / SETTINGS).exists():
        _compare_settings(options, json.loads((work / SETTINGS).read_text()))
        return _compare(folder, work / PLAN, make_plan(options, work / DURATIONS))
    if strange := sorted(folder.glob("*.tar")):
        raise PackError(
            f"{folder}: holds {strange[0].name}, which matpac pack did not write; choose another folder"
        )
    plan = make_plan(options, work / DURATIONS)
    import pyarrow.parquet as pq

    with written_whole(work / PLAN) as draft:
        pq.write_table(plan_table(plan), draft)
    settings = {"encoding": options.encoding, "shard_size": options.shard_size}
    write_text(work / SETTINGS, json.dumps(settings) + "\n")  # last: it shows that a plan is there
    return plan


def _compare_settings(options: PackOptions, before: dict[str, object]) -> None:
    named = (("--format", "encoding"), ("--shard_size", "shard_size"))
    now = {name: getattr(options, name) for _, name in named}
    changed = [f"{option} {before[name]} → {now[name]}" for option, name in named if before[name] != now[name]]
    if changed:
        raise PackError(
            f"{options.output}: its packing began with other settings: {', '.join(changed)}; give the same, or "
            "another --output"
        )


def _compare(folder: Path, kept: Path, plan: list[SourceFile]) -> list[SourceFile]:
    """The plan with the seconds, shards and reasons that were kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        before = {row["source"]: row for row in pq.read_table(kept, columns=list(COLUMNS)).to_pylist()}
    except (pa.ArrowException, KeyError, OSError) as error:
        raise PackError(f"{kept}: can't be read ({error}); remove {folder} and pack again") from error
    now = {file.source: file for file in plan}
    both = [name for name in now if name in before]
    changed = [name for name in both if any(before[name][key] != getattr(now[name], key) for key in COLUMNS[2:5])]
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
