"""A corpus to shards: what is missing is written, and when nothing is, the index."""

import hashlib
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from matpac import audio
from matpac.data.files import LeftOut
from matpac.data.shards.index import INDEX, TABLE, UNFINISHED, Index, read_index, write_index
from matpac.errors import MatpacError
from matpac.packing.plan import PackError, Settings, SourceFile, agree, plan_table
from matpac.packing.pool import work_on
from matpac.packing.progress import ClipProgress
from matpac.packing.shard_files import Packed, ShardDone, ShardTask, shard_name, write_shard
from matpac.whole_files import written_whole

LEFT_OUT = "left_out.jsonl"
LEAST_SHARD = 2**16
"""Bytes; ours: less holds no clip."""


@dataclass(frozen=True)
class PackOptions:
    """What to pack, and how.

    Args:
        source: a folder (searched deep), a table with a path column, or one sound file.
        output: the folder of the shards.
        encoding: flac, or pcm16: larger, and quicker to decode.
        shard_size: planned bytes of a shard.
        workers: processes; auto takes one a core.
    """

    source: str
    output: str
    encoding: Literal["flac", "pcm16"] = "flac"
    shard_size: int = 10**9
    workers: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.shard_size < LEAST_SHARD:
            raise MatpacError(f"a shard of {self.shard_size} bytes holds nothing; give at least {LEAST_SHARD}")
        if self.workers != "auto" and self.workers < 1:
            raise MatpacError(f"workers must be at least 1, not {self.workers}")


@dataclass(frozen=True)
class PackResult:
    """What lies there now.

    Args:
        index: of the shards.
        left_out: files of the source that aren't in them.
        written: shards that this call wrote.
        seconds: that it took.
    """

    index: Index
    left_out: list[LeftOut]
    written: int
    seconds: float


def count_workers(wanted: int | Literal["auto"]) -> int:
    """Processes that pack: as many as this one may use cores."""
    if wanted != "auto":
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pack(options: PackOptions) -> PackResult:
    """Writes the shards that aren't there yet, then the index. Can be killed at any time and called again.

    Raises:
        PackError: the folder can't be used or gone on with, or not be written.
        DataError: no file of the source can be packed.
    """
    began = time.monotonic()
    folder = Path(options.output)
    settings = Settings(options.encoding, options.shard_size)
    if (folder / INDEX).exists():
        agree(folder, options.source, settings)
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)  # where a kill came before that
        return PackResult(read_index(folder), _read_left_out(folder), 0, time.monotonic() - began)
    work = folder / UNFINISHED
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0):
            plan = agree(folder, options.source, settings)
            written = _write_missing(folder, plan, options)
            index, left_out = _finish(folder, plan, settings)
    except Timeout as error:
        raise PackError(f"{folder}: another matpac pack is writing there; wait for it, or end it") from error
    except OSError as error:
        raise PackError(
            f"{folder}: can't be written ({error.strerror or error}); make room or check its rights, and run the "
            "same command again: it goes on"
        ) from error
    return PackResult(index, left_out, written, time.monotonic() - began)


def _write_missing(folder: Path, plan: Sequence[SourceFile], options: PackOptions) -> int:
    """The shards that aren't there whole; returns how many were written."""
    for draft in folder.glob(".*.tar-*"):  # of a call that was killed
        draft.unlink()
    shards: dict[int, list[SourceFile]] = defaultdict(list)
    for file in plan:
        if file.shard >= 0:
            shards[file.shard].append(file)
    tasks = [
        ShardTask(str(folder), number, files, options.encoding)
        for number, files in sorted(shards.items())
        if _done(folder, number) is None
    ]
    if not tasks:
        return 0
    clips = sum(len(task.files) for task in tasks)
    workers = min(count_workers(options.workers), len(tasks))
    with ClipProgress("packing", clips) as progress:
        if len(tasks) < len(shards):
            progress.say(f"going on: {len(shards) - len(tasks)} of {len(shards)} shards are there")
        for done in work_on(tasks, write_shard, workers, progress.at):
            with written_whole(_note(folder, int(Path(done.shard.name).stem))) as draft:
                draft.write_text(done.to_json())
            progress.say(f"{done.shard.name}: {done.shard.clips:,} clips, {done.shard.bytes / 1e6:,.1f} MB")
    return len(tasks)


def _note(folder: Path, number: int) -> Path:
    """What is said of a shard that is whole; written after it."""
    return folder / UNFINISHED / f"{number:06d}.json"


def _done(folder: Path, number: int) -> ShardDone | None:
    note, tar = _note(folder, number), folder / shard_name(number)
    if not note.exists() or not tar.exists():
        return None
    done = ShardDone.from_json(note.read_text())
    return done if tar.stat().st_size == done.shard.bytes else None


def _finish(folder: Path, plan: Sequence[SourceFile], settings: Settings) -> tuple[Index, list[LeftOut]]:
    """The table, the files left out and the index; then what was needed for going on is removed."""
    count = max((file.shard for file in plan), default=-1) + 1
    shards, packed = [], {}
    for number in range(count):
        done = _done(folder, number)
        if done is None:
            raise PackError(
                f"{folder / shard_name(number)}: has gone while others were packed; run the command again"
            )
        shards.append(done.shard)
        packed |= {clip.number: clip for clip in done.clips}
    _write_table(folder, plan, packed)
    left_out = [
        LeftOut(file.source, reason) for file in plan if (reason := file.reason or packed[file.number].reason)
    ]
    with written_whole(folder / LEFT_OUT) as draft:
        draft.write_text("".join(json.dumps({"path": f.path, "reason": f.reason}) + "\n" for f in left_out))
    digest = hashlib.sha256((folder / TABLE).read_bytes()).hexdigest()
    index = Index(settings.encoding, audio.SAMPLE_RATE, settings.shard_size, len(left_out), digest, shards)
    write_index(folder, index)
    shutil.rmtree(folder / UNFINISHED)
    return index, left_out


def _write_table(folder: Path, plan: Sequence[SourceFile], packed: dict[int, Packed]) -> None:
    """clips.parquet: the plan, and what became of each file; one that wasn't decoded has no shard any more."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    nothing = Packed(-1)
    clips = [packed.get(file.number, nothing) for file in plan]
    table = plan_table(plan)
    shard = [-1 if clip.reason else file.shard for file, clip in zip(plan, clips, strict=True)]
    reason = [file.reason or clip.reason for file, clip in zip(plan, clips, strict=True)]
    table = table.set_column(table.column_names.index("shard"), "shard", pa.array(shard, pa.int32()))
    table = table.set_column(table.column_names.index("reason"), "reason", pa.array(reason, pa.string()))
    table = table.append_column("name", pa.array([clip.name for clip in clips], pa.string()))
    for name in ("offset", "size", "samples"):
        table = table.append_column(name, pa.array([getattr(clip, name) for clip in clips], pa.int64()))
    with written_whole(folder / TABLE) as draft:
        pq.write_table(table, draft, compression="zstd")


def _read_left_out(folder: Path) -> list[LeftOut]:
    lines = (folder / LEFT_OUT).read_text().splitlines()
    return [LeftOut(**json.loads(line)) for line in lines]
