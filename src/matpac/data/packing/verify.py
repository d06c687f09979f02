"""Verify shards: every hash computed again, every member read, every sound decoded to its last sample."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matpac import audio
from matpac.data.packing.pool import ClipProgress, Tick, work_on
from matpac.data.shards.index import INDEX, MOST_INDEX_BYTES, TABLE, Index, Shard, read_index, read_table
from matpac.data.shards.members import HeldSound
from matpac.data.shards.tar import ByteStream, Member, ShardError, TarReader

READ_BYTES = 2**22


@dataclass(frozen=True)
class Expected:
    """A clip as the table has it."""

    name: str
    offset: int
    size: int
    samples: int
    source: str
    labels: list[str]


@dataclass(frozen=True)
class VerifyTask:
    """A shard to check, and the clips that it should have."""

    folder: str
    shard: Shard
    sample_rate: int
    clips: Sequence[Expected]


@dataclass(frozen=True)
class Verified:
    """The index, and a line for each thing that differs from it."""

    index: Index
    problems: list[str]


def verify(folder: Path, workers: int | None) -> Verified:
    """Checks every byte of a folder of shards, by so many processes (one per core if None).

    Raises:
        ShardError: it has no index, or one that can't be read.
    """
    index = read_index(folder)
    clips = _expected(folder, index)
    tasks = [
        VerifyTask(str(folder), shard, index.sample_rate, clips[number])
        for number, shard in enumerate(index.shards)
    ]
    names = {shard.name for shard in index.shards}
    problems = [f"{path}: not in {INDEX}" for path in sorted(folder.glob("*.tar")) if path.name not in names]
    with ClipProgress("verifying", index.clips) as progress:
        for found in work_on(tasks, verify_shard, workers, progress):
            problems += found
    return Verified(index, sorted(problems))


def _expected(folder: Path, index: Index) -> list[list[Expected]]:
    table = folder / TABLE
    if not table.is_file() or table.stat().st_size > MOST_INDEX_BYTES:
        raise ShardError(f"{table}: not there, or too large to be one; copy the folder again")
    rows = read_table(table.read_bytes(), str(table), index, ["source", "labels"])
    columns = [
        rows[name].to_pylist() for name in ("shard", "name", "offset", "size", "samples", "source", "labels")
    ]
    clips: list[list[Expected]] = [[] for _ in index.shards]
    for shard, *clip in zip(*columns, strict=True):
        clips[shard].append(Expected(*clip))
    return clips


class _Hashing:
    """A file to read that hashes what passes."""

    def __init__(self, file: ByteStream) -> None:
        self._file, self.hash = file, hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        content = self._file.read(size)
        self.hash.update(content)
        return content


def verify_shard(task: VerifyTask, tick: Tick) -> list[str]:
    """What is wrong with one shard; calls `tick` for each of its clips."""
    path = Path(task.folder) / task.shard.name
    if not path.is_file():
        return [f"{path}: is not there"]
    problems = []
    size = path.stat().st_size
    if size != task.shard.bytes:
        problems.append(f"{path}: {size} bytes, {task.shard.bytes} in {INDEX}")
    if len(task.clips) != task.shard.clips or sum(clip.samples for clip in task.clips) != task.shard.samples:
        problems.append(f"{path}: {INDEX} and {TABLE} differ about its clips")
    with path.open("rb") as file:
        stream = _Hashing(file)
        try:
            problems += _verify_members(TarReader(stream, str(path)), path, task, tick)
        except ShardError as error:
            problems.append(str(error))
        while stream.read(READ_BYTES):
            pass
    if stream.hash.hexdigest() != task.shard.sha256:
        problems.append(f"{path}: SHA-256 {stream.hash.hexdigest()}, {task.shard.sha256} in {INDEX}")
    return problems


def _verify_members(reader: TarReader, path: Path, task: VerifyTask, tick: Tick) -> list[str]:
    sounds = {Member(clip.name, clip.offset, clip.size): clip for clip in task.clips}
    texts = {f"{Path(clip.name).stem}.json": clip for clip in task.clips}
    problems = []
    for member in reader:
        if member in sounds:
            problems += _verify_sound(f"{path}/{member.name}", reader.read(), sounds.pop(member), task.sample_rate)
            tick()
        elif member.name in texts:
            problems += _verify_text(
                f"{path}/{member.name}", reader.read(), texts.pop(member.name), task.sample_rate
            )
        else:
            problems.append(f"{path}/{member.name}: not in {TABLE}")
    problems += [f"{path}/{clip.name}: is not there" for clip in sounds.values()]
    return problems + [f"{path}/{name}: is not there" for name in texts]


def _verify_sound(name: str, content: bytes, clip: Expected, sample_rate: int) -> list[str]:
    sound = HeldSound(name, content)
    try:
        info = audio.info(sound)
        samples = sum(map(len, audio.blocks(sound, sample_rate=info.sample_rate)))
    except audio.AudioError as error:
        return [str(error)]
    if (info.sample_rate, info.channels, samples) != (sample_rate, 1, clip.samples):
        return [
            f"{name}: {samples} samples of {info.channels} channels at {info.sample_rate} Hz, "
            f"{clip.samples} of one at {sample_rate} Hz in {TABLE}"
        ]
    return []


def _verify_text(name: str, content: bytes, clip: Expected, sample_rate: int) -> list[str]:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:
        return [f"{name}: no JSON ({error})"]
    wanted = {"source": clip.source, "duration": clip.samples / sample_rate}
    wanted |= {"labels": clip.labels} if clip.labels else {}
    return [] if said == wanted else [f"{name}: says other than {TABLE}"]
