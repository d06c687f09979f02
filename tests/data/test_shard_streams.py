"""Shards that are read from their beginning: the same bytes after a break, and what can go wrong."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from helpers.local_server import local_server
from helpers.shard_files import members_of, tar_bytes, write_shards
from matpac.data.crops import CropBatch, RandomCrops, StepBatches, Steps, crop_loader
from matpac.data.files import Clip
from matpac.data.shards.listing import list_shards
from matpac.data.shards.members import MemberTable, ShardClip
from matpac.data.shards.streams import (
    LANES,
    Lanes,
    StreamedSounds,
    StreamOrder,
    keep_lanes,
    order_clips,
    read_members,
)
from matpac.data.shards.tar import ShardError

SAMPLES = 4_000
MANY = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
FORK = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams") / "shards"
    write_shards(folder, [5, 7, 4])
    return folder


@pytest.fixture(scope="module")
def clips(shards: Path) -> list[Clip]:
    return list_shards(f"local://{shards}/{{000..002}}.tar").clips


def table_of(clips: Sequence[Clip]) -> MemberTable:
    return MemberTable([clip for clip in clips if isinstance(clip, ShardClip)])


def load(
    clips: list[Clip], lanes: Lanes, workers: int = 0, first: int = 0, last: int = 9, reach: int = 4, **part: int
) -> list[CropBatch]:
    steps = Steps(4, 3, first, last, **part)
    order = StreamOrder(table_of(clips), 4, lanes, 3)
    order.reach = reach
    crops = RandomCrops(clips, SAMPLES, 3, sounds=StreamedSounds(order))
    return list(crop_loader(crops, StepBatches(len(clips), steps, order.order), workers))


def same(one: Sequence[CropBatch], other: Sequence[CropBatch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.waveforms, b.waveforms)
        and (a.paths, a.failures, a.numbers) == (b.paths, b.failures, b.numbers)
        for a, b in zip(one, other, strict=True)
    )


def test_a_stream_gives_the_crops_that_a_local_shard_gives(shards: Path, clips: list[Clip]) -> None:
    local = list_shards(f"{shards}/{{000..002}}.tar").clips
    crops = RandomCrops(local, SAMPLES, 3, sounds=table_of(local))
    seen = Counter()
    for number, batch in enumerate(load(clips, Lanes(2, 2))):
        epoch = number // 4
        for clip, waveform in zip(batch.numbers, batch.waveforms, strict=True):
            assert torch.equal(waveform, crops[epoch, clip].waveform)
            seen[epoch, clip] += 1
    assert len(seen) == 9 * 4
    assert set(seen.values()) == {1}


@FORK
@MANY
@pytest.mark.parametrize("lanes", [Lanes(1, 1), Lanes(2, 3), Lanes(4, 2)])
def test_after_a_break_the_same_bytes(lanes: Lanes, clips: list[Clip]) -> None:
    whole = load(clips, lanes)
    for first in range(1, 9):  # anywhere in an epoch of four steps, and at its ends
        assert same(load(clips, lanes, first=first), whole[first:])
    assert same(load(clips, lanes, 2), whole)
    assert same(load(clips, lanes, 3, first=3), whole[3:])


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_processes_and_micro_batches_share_out_the_batch(world: int, accumulate: int, clips: list[Clip]) -> None:
    whole = load(clips, Lanes(2, 2))
    ranks = [load(clips, Lanes(2, 2), rank=r, world_size=world, accumulate=accumulate) for r in range(world)]
    for step, batch in enumerate(whole):
        parts = [part for rank in ranks for part in rank[step * accumulate : (step + 1) * accumulate]]
        assert [number for part in parts for number in part.numbers] == batch.numbers
        assert torch.equal(torch.cat([part.waveforms for part in parts]), batch.waveforms)


@FORK
def test_lanes_that_fit_the_readers_are_read_once(shards: Path) -> None:
    with local_server() as server:
        server.files = {f"/{path.name}": path.read_bytes() for path in shards.iterdir()}
        clips = list_shards(f"{server.url}/{{000..002}}.tar").clips

        def opened(lanes: Lanes, workers: int) -> int:
            server.log.clear()
            load(clips, lanes, workers, last=4, reach=2)
            return sum(method == "GET" for method, _, _ in server.log)

        assert opened(Lanes(1, 1), 1) == 3
        assert opened(Lanes(1, 2), 2) <= 4  # one shard has the seam
        assert opened(Lanes(1, 1), 2) > 4


def test_a_clip_that_cannot_be_decoded_is_replaced_and_named(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    members = members_of(folder / "001.tar")
    for name in ("clip6.flac", "clip8.flac"):
        members[name] = members[name][:200] + bytes(len(members[name]) - 200)  # the header stays whole
    (folder / "001.tar").write_bytes(tar_bytes(list(members.items())))
    clips = list_shards(f"local://{folder}/{{000..002}}.tar").clips
    whole = load(clips, Lanes(1, 2))
    assert {Path(f.path).name for batch in whole for f in batch.failures} == {"clip6.flac", "clip8.flac"}
    assert not {"clip6.flac", "clip8.flac"} & {Path(path).name for batch in whole for path in batch.paths}
    for first in (1, 3, 6):
        assert same(load(clips, Lanes(1, 2), first=first), whole[first:])
    local = list_shards(f"{folder}/{{000..002}}.tar").clips
    crops = RandomCrops(local, SAMPLES, 3, sounds=table_of(local))
    bad = next(number for number, clip in enumerate(local) if clip.path.endswith("clip6.flac"))
    streamed = RandomCrops(clips, SAMPLES, 3, sounds=_sounds(clips))
    assert torch.equal(crops[0, bad].waveform, streamed[0, bad].waveform)


def _sounds(clips: list[Clip]) -> StreamedSounds:
    return StreamedSounds(StreamOrder(table_of(clips), 4, Lanes(1, 1), 3))


def test_a_shard_that_changed_ends_it(shards: Path, clips: list[Clip], tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    listed = list_shards(f"local://{folder}/{{000..002}}.tar").clips
    shutil.copy(folder / "000.tar", folder / "001.tar")
    with pytest.raises(ShardError, match=r"001\.tar: clip\d+\.flac is not at byte \d+: the shard has changed"):
        load(listed, Lanes(1, 1))
    (folder / "001.tar").unlink()
    with pytest.raises(ShardError, match=r"001\.tar: no such file"):
        load(listed, Lanes(1, 1))


def test_out_of_order_costs_but_works(clips: list[Clip]) -> None:
    crops = RandomCrops(clips, SAMPLES, 3, sounds=_sounds(clips))
    keys = [(epoch, number) for epoch in (0, 1) for number in range(len(clips))]
    first = {key: crops[key].waveform for key in keys if key[1] in crops_of(clips, key[0])}
    for key in reversed(first):
        assert torch.equal(crops[key].waveform, first[key])


def crops_of(clips: list[Clip], epoch: int) -> set[int]:
    order = StreamOrder(table_of(clips), 4, Lanes(1, 1), 3)
    return set(order.epoch(epoch).order.tolist())


def test_members_of_none(clips: list[Clip]) -> None:
    assert list(read_members(table_of(clips), [])) == []


# --- what a run makes of it --------------------------------------------------------------------------------

STEPS = Steps(4, 5, 0, 3)


def test_files_and_local_shards_keep_their_order(shards: Path, tmp_path: Path) -> None:
    plain = list(StepBatches(16, STEPS))
    files = [Clip(f"{number}.wav", 1.0) for number in range(16)]
    sounds, order = order_clips(files, tmp_path, STEPS)
    assert sounds is None
    assert list(order) == plain
    local = list_shards(f"{shards}/{{000..002}}.tar").clips
    sounds, order = order_clips(local, tmp_path, STEPS)
    assert isinstance(sounds, MemberTable)
    assert list(order) == plain
    (tmp_path / LANES).touch()  # of a start that failed
    keep_lanes(tmp_path, local, 1, 1)
    keep_lanes(tmp_path, files, 1, 1)
    assert not (tmp_path / LANES).exists()
    streamed = list_shards(f"local://{shards}/{{000..002}}.tar").clips
    with pytest.raises(ShardError, match=r"lanes\.json: not there, so the run began with clips on this"):
        order_clips(streamed, tmp_path, STEPS)


def test_streams_keep_their_lanes(clips: list[Clip], tmp_path: Path) -> None:
    keep_lanes(tmp_path, clips, 2, 0)
    sounds, order = order_clips(clips, tmp_path, STEPS)
    assert isinstance(sounds, StreamedSounds)
    expected = StreamOrder(table_of(clips), 4, Lanes(2, 1), 5).epoch(0).order
    assert [index for keys in order for _, index in keys] == expected[:12].tolist()
    with pytest.raises(ShardError, match=r"lanes\.json: there, so the run began with streamed shards"):
        order_clips([Clip("a.wav", 1.0)] * 16, tmp_path, STEPS)
    (tmp_path / LANES).write_text("{}")
    with pytest.raises(ShardError, match=r"lanes\.json: decides the order of clips and can't be read"):
        order_clips(clips, tmp_path, STEPS)
