"""Verify shards: every hash computed again, every member read, every sound decoded to its last sample."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matpac import audio
from matpac.data.packing.pool import ClipProgress, Tick, work_on
from matpac.data.packing.shard_files import hash_of
from matpac.data.shards.addresses import read_address
from matpac.data.shards.index import INDEX, MOST_INDEX_BYTES, TABLE, Index, Shard, read_index, read_table
from matpac.data.shards.members import HeldSound
from matpac.data.shards.tar import Member, ShardError, TarReader

Row = dict[str, Any]  # of clips.parquet


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
    index, table = read_index(folder), str(folder / TABLE)
    rows = read_table(read_address(table, MOST_INDEX_BYTES), table, index, ["source", "labels"])
    clips: dict[int, list[Row]] = defaultdict(list)
    for values in zip(*(column.to_pylist() for column in rows.values()), strict=True):
        row = dict(zip(rows, values, strict=True))
        clips[row["shard"]].append(row)
    names = {shard.name for shard in index.shards}
    problems = [f"{path}: not in {INDEX}" for path in sorted(folder.glob("*.tar")) if path.name not in names]
    tasks = [(shard, clips[number]) for number, shard in enumerate(index.shards)]
    work = partial(verify_shard, folder, index.sample_rate)
    with ClipProgress("verifying", index.clips) as progress:
        for found in work_on(tasks, work, workers, progress):
            problems += found
    return Verified(index, sorted(problems))


def verify_shard(folder: Path, sample_rate: int, task: tuple[Shard, Sequence[Row]], tick: Tick) -> list[str]:
    """The problems of one shard, whose clips the table lists; calls `tick` for each of them."""
    shard, clips = task
    path = folder / shard.name
    if not path.is_file():
        return [f"{path}: is not there"]
    problems = []
    if (size := path.stat().st_size) != shard.bytes:
        problems.append(f"{path}: {size} bytes, {shard.bytes} in {INDEX}")
    if (digest := hash_of(path)) != shard.sha256:
        problems.append(f"{path}: SHA-256 {digest}, {shard.sha256} in {INDEX}")
    if len(clips) != shard.clips or sum(clip["samples"] for clip in clips) != shard.samples:
        problems.append(f"{path}: {INDEX} and {TABLE} differ about its clips")
    sounds = {Member(clip["name"], clip["offset"], clip["size"]): clip for clip in clips}
    texts = {f"{Path(clip['name']).stem}.json": clip for clip in clips}
    try:
        with path.open("rb") as file:
            reader = TarReader(file, str(path))
            for member in reader:
                name = f"{path}/{member.name}"
                if member in sounds:
                    problems += _verify_sound(name, reader.read(), sounds.pop(member), sample_rate)
                    tick()
                elif member.name in texts:
                    problems += _verify_text(name, reader.read(), texts.pop(member.name), sample_rate)
                else:
                    problems.append(f"{name}: not in {TABLE}")
    except ShardError as error:
        return [*problems, str(error)]
    missing = [*(clip["name"] for clip in sounds.values()), *texts]
    return problems + [f"{path}/{name}: is not there" for name in missing]


def _verify_sound(name: str, content: bytes, clip: Row, sample_rate: int) -> list[str]:
    sound = HeldSound(name, content)
    try:
        info = audio.info(sound)
        samples = sum(map(len, audio.blocks(sound, sample_rate=info.sample_rate)))
    except audio.AudioError as error:
        return [str(error)]
    if (info.sample_rate, info.channels, samples) == (sample_rate, 1, clip["samples"]):
        return []
    found = f"{samples} samples of {info.channels} channels at {info.sample_rate} Hz"
    return [f"{name}: {found}, {clip['samples']} of one at {sample_rate} Hz in {TABLE}"]


def _verify_text(name: str, content: bytes, clip: Row, sample_rate: int) -> list[str]:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:
        return [f"{name}: no JSON ({error})"]
    wanted = {"source": clip["source"], "duration": clip["samples"] / sample_rate}
    wanted |= {"labels": clip["labels"]} if clip["labels"] else {}
    return [] if said == wanted else [f"{name}: says other than {TABLE}"]
