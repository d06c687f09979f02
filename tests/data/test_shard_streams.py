"""Shards that are read from their beginning: the order, the same bytes after a break, and what can go wrong."""

import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers.local_server import local_server
from helpers.shard_files import members_of, tar_bytes, write_shards
from matpac.data.crops import CropBatch, RandomCrops, StepBatches, Steps, crop_loader
from matpac.data.files import Clip
from matpac.data.shards import streams
from matpac.data.shards.listing import list_shards
from matpac.data.shards.members import MemberTable, ShardClip
from matpac.data.shards.streams import LANES, Lanes, StreamedSounds, StreamOrder, keep_lanes, order_clips
from matpac.data.shards.tar import ShardError

SAMPLES = 4_000
MANY = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
FORK = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

# --- the order ---------------------------------------------------------------------------------------------


def table(counts: Sequence[int], size: int = 1000) -> MemberTable:
    clips = [
        ShardClip(f"s3://{shard}/{clip}.flac", 1.0, f"s3://{shard}", 512 + 2048 * clip, size)
        for shard, count in enumerate(counts)
        for clip in range(count)
    ]
    return MemberTable(clips)


COUNTS = st.lists(st.integers(1, 30), min_size=1, max_size=6)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))  # rows, turns, clips of a row


@settings(deadline=None, max_examples=150)
@given(counts=COUNTS, shape=SHAPES, reach=st.integers(1, 40), epoch=st.integers(0, 5), seed=st.integers(0, 99))
def test_every_clip_once_by_lanes_that_take_turns(
    counts: list[int], shape: tuple[int, int, int], reach: int, epoch: int, seed: int
) -> None:
    rows, turns, width = shape
    reads, found = rows * width, table(counts)
    assume(sum(counts) >= reads)
    order = StreamOrder(found, reads, Lanes(rows, turns), seed)
    order.reach = reach
    drawn = order.epoch(epoch)
    used = drawn.order.tolist()
    assert sorted(drawn.sequence.tolist()) == sorted(used)
    assert len(used) == sum(counts) // reads * reads
    assert max(Counter(used).values()) == 1
    # a shard's clips lie together, in the order of its members
    shards = [found.shard[clip] for clip in drawn.sequence]
    assert sum(one != other for one, other in pairwise(shards)) == len(set(shards)) - 1
    for number in range(len(counts)):
        clips = [clip for clip in drawn.sequence if found.shard[clip] == number]
        assert clips == sorted(clips)
    place = {clip: number for number, clip in enumerate(drawn.sequence.tolist())}
    lanes: dict[tuple[int, int], list[int]] = {}
    for step, batch in enumerate(drawn.order.reshape(-1, rows, width)):
        for row, clips in enumerate(batch):
            lanes.setdefault((row, step % turns), []).extend(place[clip] for clip in clips.tolist())
    for places in lanes.values():
        begin = min(places)
        assert sorted(places) == list(range(begin, begin + len(places)))  # a stretch
        # so many at most were read and not yet used, whenever one was used
        for number in range(len(places)):
            assert max(places[: number + 1]) - begin + 1 - number <= reach
    for number in place.values():
        lane = int(np.searchsorted(drawn.bounds, number, side="right")) - 1
        assert lanes[divmod(lane, turns)].index(number) == drawn.ranks[number]


def test_order_is_the_seeds_and_the_epochs() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return StreamOrder(table([20, 20, 20]), 6, Lanes(2, 2), seed).epoch(epoch).order.tolist()

    assert len({tuple(order(*key)) for key in [(0, 0), (0, 1), (1, 0), (1, 1)]}) == 4
    one = StreamOrder(table([20, 20, 20]), 6, Lanes(2, 2), 1)
    assert [one.epoch(e).order.tolist() for e in (1, 0, 1)] == [order(1, e) for e in (1, 0, 1)]


def test_no_clip_is_dropped_for_ever() -> None:
    """Of one shard of seven clips, in batches of four, another three are dropped each time."""
    order = StreamOrder(table([7]), 4, Lanes(1, 1), 0)
    seen = Counter(clip for epoch in range(40) for clip in order.epoch(epoch).order.tolist())
    assert seen.keys() == set(range(7))
    assert min(seen.values()) > 12  # of 40 · 4/7 = 23


def test_mixing_reaches_as_far_as_the_memory_allows() -> None:
    assert StreamOrder(table([9], size=streams.REACH_BYTES // 4), 1, Lanes(1, 1), 0).reach == 4
    assert StreamOrder(table([9], size=streams.REACH_BYTES * 4), 1, Lanes(1, 1), 0).reach == 1
    order = StreamOrder(table([400], size=streams.REACH_BYTES // 100), 1, Lanes(1, 1), 0)
    moved = np.abs(order.epoch(0).order - np.arange(400))
    assert 20 < moved.mean() < 60  # of a uniform draw among 100: about a third


# --- reading in that order ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams") / "shards"
    write_shards(folder, [5, 7, 4], seconds=0.3)
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
    # out of order it costs more
    streamed = RandomCrops(
        clips, SAMPLES, 3, sounds=StreamedSounds(StreamOrder(table_of(clips), 4, Lanes(1, 1), 3))
    )
    for epoch, clip in [(1, 3), (0, 15), (0, 2), (0, 9), (1, 3)]:
        assert torch.equal(streamed[epoch, clip].waveform, crops[epoch, clip].waveform)


@pytest.mark.parametrize("lanes", [Lanes(1, 1), Lanes(2, 3), Lanes(4, 2)])
def test_after_a_break_the_same_bytes(lanes: Lanes, clips: list[Clip]) -> None:
    whole = load(clips, lanes)
    for first in range(1, 9):  # anywhere in an epoch of four steps, and at its ends
        assert same(load(clips, lanes, first=first), whole[first:])


@FORK
@MANY
@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_readers_give_the_same_bytes(workers: int, clips: list[Clip]) -> None:
    whole = load(clips, Lanes(2, 3))
    assert same(load(clips, Lanes(2, 3), workers), whole)
    assert same(load(clips, Lanes(2, 3), workers, first=3), whole[3:])


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_processes_and_micro_batches_share_out_the_batch(world: int, accumulate: int, clips: list[Clip]) -> None:
    whole = load(clips, Lanes(2, 2))
    ranks = [load(clips, Lanes(2, 2), rank=r, world_size=world, accumulate=accumulate) for r in range(world)]
    for step, batch in enumerate(whole):
        parts = [part for rank in ranks for part in rank[step * accumulate : (step + 1) * accumulate]]
        assert [number for part in parts for number in part.numbers] == batch.numbers
        assert torch.equal(torch.cat([part.waveforms for part in parts]), batch.waveforms)


@FORK
@pytest.mark.slow
def test_lanes_that_fit_the_readers_are_read_once(shards: Path) -> None:
    with local_server() as server:
        server.files = {f"/{path.name}": path.read_bytes() for path in shards.iterdir()}
        clips = list_shards(f"{server.url}/{{000..002}}.tar").clips

        def opened(lanes: Lanes, workers: int) -> int:
            server.log.clear()
            load(clips, lanes, workers, last=4, reach=2)
            return sum(method == "GET" for method, _ in server.log)

        assert opened(Lanes(1, 1), 1) == 3
        assert opened(Lanes(1, 2), 2) <= 4  # one shard has the seam
        assert opened(Lanes(1, 1), 2) > 4


def test_a_clip_that_cannot_be_decoded_is_replaced_and_named(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    members, bad = members_of(folder / "001.tar"), {"clip6.flac", "clip8.flac"}
    for name in bad:
        members[name] = members[name][:200] + bytes(len(members[name]) - 200)  # the header stays whole
    (folder / "001.tar").write_bytes(tar_bytes(list(members.items())))
    clips = list_shards(f"local://{folder}/{{000..002}}.tar").clips
    whole = load(clips, Lanes(1, 2))
    assert {Path(f.path).name for batch in whole for f in batch.failures} == bad
    assert not bad & {Path(path).name for batch in whole for path in batch.paths}
    for first in (1, 3, 6):
        assert same(load(clips, Lanes(1, 2), first=first), whole[first:])


def test_a_shard_that_changed_ends_it(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    listed = list_shards(f"local://{folder}/{{000..002}}.tar").clips
    shutil.copy(folder / "000.tar", folder / "001.tar")
    with pytest.raises(ShardError, match=r"001\.tar: clip\d+\.flac is not at byte \d+: the shard has changed"):
        load(listed, Lanes(1, 1))
    (folder / "001.tar").unlink()
    with pytest.raises(ShardError, match=r"001\.tar: no such file"):
        load(listed, Lanes(1, 1))


# --- what a run makes of it --------------------------------------------------------------------------------

STEPS = Steps(4, 5, 0, 3)


def test_files_and_local_shards_keep_their_order(shards: Path, clips: list[Clip], tmp_path: Path) -> None:
    plain = list(StepBatches(16, STEPS))
    files = [Clip(f"{number}.wav", 1.0) for number in range(16)]
    local = list_shards(f"{shards}/{{000..002}}.tar").clips
    for corpus, kind in ((files, type(None)), (local, MemberTable)):
        (tmp_path / LANES).touch()  # of a start that failed
        keep_lanes(tmp_path, corpus, 1, 1)
        sounds, order = order_clips(corpus, tmp_path, STEPS)
        assert isinstance(sounds, kind)
        assert list(order) == plain
    with pytest.raises(ShardError, match=r"lanes\.json: not there, so the run began with clips on this"):
        order_clips(clips, tmp_path, STEPS)


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
