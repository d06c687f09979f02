"""A corpus to shards: what is missing is written, and when nothing is, the index."""

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from matpac import audio
from matpac.atomic import write_text, written_whole
from matpac.data.packing.plan import PackOptions, SourceFile, agree, plan_table
from matpac.data.packing.pool import ClipProgress, PackError, work_on
from matpac.data.packing.shard_files import Packed, ShardDone, hash_of, shard_name, write_shard
from matpac.data.shards.index import INDEX, TABLE, UNFINISHED, Index, read_index, write_index
from matpac.errors import Skipped

LEFT_OUT = "left_out.jsonl"


@dataclass(frozen=True)
class PackResult:
    """The shards after a call.

    Args:
        index: of the shards.
        skipped: files of the source that aren't in the shards.
        written: shards that this call wrote.
        seconds: that it took.
    """

    index: Index
    skipped: list[Skipped]
    written: int
    seconds: float


def pack(options: PackOptions) -> PackResult:
    """Writes the shards that aren't there yet, then the index. Can be killed at any time and called again.

    Where the index is there, shards that are gone, or of another size than it says, are written again.

    Raises:
        PackError: the folder can't be used, resumed or written, or a shard can't be written again.
        DataError: no file of the source can be packed.
    """
    began, folder = time.monotonic(), Path(options.output)
    if (folder / INDEX).exists():
        plan, index = agree(options), read_index(folder)
        written = _write_again(folder, index, plan, options)
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)  # also where a kill came before that
        skipped = [Skipped(file.source, file.reason) for file in plan if file.reason]
    else:
        with _writing(folder):
            plan = agree(options)
            written = _write_missing(folder, plan, options)
            index, skipped = _finish(folder, plan, options)
    return PackResult(index, skipped, written, time.monotonic() - began)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Locks the folder for writing. Raises PackError where somebody does, or the disk refuses."""
    work = folder / UNFINISHED
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock", timeout=0):
            _remove_drafts(folder)  # of a call that was killed
            try:
                yield
            finally:
                _remove_drafts(folder)  # of processes that an error ended
    except Timeout as error:
        raise PackError(f"{folder}: another matpac pack is writing there; wait for it, or end it") from error
    except OSError as error:
        raise PackError(
            f"{folder}: can't be written ({error.strerror or error}); make room or check its rights, and run the "
            "same command again to resume"
        ) from error


def _remove_drafts(folder: Path) -> None:
    for draft in folder.glob(".*.tar-*"):
        draft.unlink()


def _write_missing(folder: Path, plan: Sequence[SourceFile], options: PackOptions) -> int:
    """Writes the shards that aren't there whole; returns how many."""
    missing = [number for number in range(_count(plan)) if _done(folder, number) is None]
    for done in _written(folder, missing, plan, options):
        write_text(_note(folder, done.shard.name), done.to_json())
    return len(missing)


def _write_again(folder: Path, index: Index, plan: Sequence[SourceFile], options: PackOptions) -> int:
    """Writes again, to the same bytes, the shards that are gone or have another size; returns how many."""
    if hash_of(folder / TABLE) != index.table_sha256:
        raise PackError(f"{folder / TABLE}: not the one that {INDEX} describes; remove {folder} and pack again")
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.tar") if path.is_file()}
    missing = [number for number, shard in enumerate(index.shards) if sizes.get(shard.name) != shard.bytes]
    if not missing:
        return 0
    with _writing(folder):
        for done in _written(folder, missing, plan, options):
            if done.shard not in index.shards:
                (folder / done.shard.name).unlink()
                raise PackError(
                    f"{folder / done.shard.name}: written again it is not what {INDEX} says (other versions of "
                    f"the libraries that decode and encode?); copy it from where it is whole, or remove {folder} "
                    "and pack again"
                )
    return len(missing)


def _count(plan: Sequence[SourceFile]) -> int:
    """Shards of a plan."""
    return max((file.shard for file in plan), default=-1) + 1


def _written(
    folder: Path, missing: Sequence[int], plan: Sequence[SourceFile], options: PackOptions
) -> Iterator[ShardDone]:
    """Writes the missing shards; yields each when it is whole."""
    if not missing:
        return
    files: dict[int, list[SourceFile]] = defaultdict(list)
    for file in plan:
        files[file.shard].append(file)
    tasks, count = [files[number] for number in missing], _count(plan)
    with ClipProgress("packing", sum(map(len, tasks))) as progress:
        if len(tasks) < count:
            progress.say(f"resuming: {count - len(tasks)} of {count} shards are there")
        for done in work_on(tasks, partial(write_shard, folder, options.encoding), options.workers, progress):
            yield done
            progress.say(f"{done.shard.name}: {done.shard.clips:,} clips, {done.shard.bytes / 1e6:,.1f} MB")


def _note(folder: Path, name: str) -> Path:
    """The note about a shard that is whole; written after it."""
    return (folder / UNFINISHED / name).with_suffix(".json")


def _done(folder: Path, number: int) -> ShardDone | None:
    tar = folder / shard_name(number)
    note = _note(folder, tar.name)
    if not note.exists() or not tar.exists():
        return None
    done = ShardDone.from_json(note.read_text())
    return done if tar.stat().st_size == done.shard.bytes else None


def _finish(folder: Path, plan: Sequence[SourceFile], options: PackOptions) -> tuple[Index, list[Skipped]]:
    """Writes the table, the skipped files and the index; then what was needed to resume is removed."""
    shards, packed = [], {}
    for number in range(_count(plan)):
        done = _done(folder, number)
        if done is None:
            raise PackError(
                f"{folder / shard_name(number)}: disappeared while others were packed; run the command again"
            )
        shards.append(done.shard)
        packed |= {clip.number: clip for clip in done.clips}
    clips = [packed.get(file.number, Packed(-1)) for file in plan]
    pairs = zip(plan, clips, strict=True)
    files = [replace(file, shard=-1, reason=clip.reason) if clip.reason else file for file, clip in pairs]
    _write_table(folder / TABLE, files, clips)
    skipped = [Skipped(file.source, file.reason) for file in files if file.reason]
    write_text(folder / LEFT_OUT, "".join(json.dumps(asdict(file)) + "\n" for file in skipped))
    about = options.encoding, audio.SAMPLE_RATE, options.shard_size, len(skipped), hash_of(folder / TABLE)
    index = Index(*about, shards)
    write_index(folder, index)
    shutil.rmtree(folder / UNFINISHED)
    return index, skipped


def _write_table(path: Path, files: Sequence[SourceFile], clips: Sequence[Packed]) -> None:
    """clips.parquet: the plan, and the place of each file's clip; a skipped file has no shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = plan_table(files)
    table = table.append_column("name", pa.array([clip.name for clip in clips], pa.string()))
    for name in ("offset", "size", "samples"):
        table = table.append_column(name, pa.array([getattr(clip, name) for clip in clips], pa.int64()))
    with written_whole(path) as draft:
        pq.write_table(table, draft, compression="zstd")
