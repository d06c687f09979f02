"""The order in which clips of streamed shards are used."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac.data.files import DataError
from matpac.data.shards import streams
from matpac.data.shards.members import MemberTable, ShardClip
from matpac.data.shards.streams import Lanes, StreamOrder


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
@given(counts=COUNTS, shape=SHAPES, reach=st.integers(1, 10**6), epoch=st.integers(0, 5), seed=st.integers(0, 99))
def test_every_clip_comes_once_an_epoch_but_for_less_than_a_batch(
    counts: list[int], shape: tuple[int, int, int], reach: int, epoch: int, seed: int
) -> None:
    rows, turns, width = shape
    reads, found = rows * width, table(counts)
    if sum(counts) < reads:
        with pytest.raises(DataError, match="lower the batch size or add clips"):
            StreamOrder(found, reads, Lanes(rows, turns), seed)
        return
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


@settings(deadline=None, max_examples=100)
@given(counts=COUNTS, shape=SHAPES, reach=st.integers(1, 40), seed=st.integers(0, 99))
def test_lanes_are_taken_by_turns_and_mixed_within_their_reach(
    counts: list[int], shape: tuple[int, int, int], reach: int, seed: int
) -> None:
    rows, turns, width = shape
    reads = rows * width
    if sum(counts) < reads:
        return
    order = StreamOrder(table(counts), reads, Lanes(rows, turns), seed)
    order.reach = reach
    drawn = order.epoch(0)
    place = {clip: number for number, clip in enumerate(drawn.sequence.tolist())}
    lanes: dict[tuple[int, int], list[int]] = {}
    for step, batch in enumerate(drawn.order.reshape(-1, rows, width)):
        for row, clips in enumerate(batch):
            lanes.setdefault((row, step % turns), []).extend(place[clip] for clip in clips.tolist())
    for used in lanes.values():
        begin = min(used)
        assert sorted(used) == list(range(begin, begin + len(used)))  # a stretch
        # so many at most were read and not yet used, whenever one was used
        for number in range(len(used)):
            assert max(used[: number + 1]) - begin + 1 - number <= reach
    for number, clip in enumerate(drawn.sequence.tolist()):
        lane = int(np.searchsorted(drawn.bounds, number, side="right")) - 1
        row, turn = divmod(lane, turns)
        assert lanes[row, turn].index(number) == drawn.ranks[number], clip


def test_order_is_the_seeds_and_the_epochs() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return StreamOrder(table([20, 20, 20]), 6, Lanes(2, 2), seed).epoch(epoch).order.tolist()

    assert order(1, 1) == order(1, 1)
    assert len({tuple(order(*key)) for key in [(0, 0), (0, 1), (1, 0), (1, 1)]}) == 4
    one = StreamOrder(table([20, 20, 20]), 6, Lanes(2, 2), 1)
    assert [one.epoch(e).order.tolist() for e in (1, 0, 1)] == [order(1, e) for e in (1, 0, 1)]


def test_no_clip_is_dropped_for_ever() -> None:
    """Of one shard of seven clips, in batches of four, another three are dropped each time."""
    order = StreamOrder(table([7]), 4, Lanes(1, 1), 0)
    seen = Counter(clip for epoch in range(40) for clip in order.epoch(epoch).order.tolist())
    assert seen.keys() == set(range(7))
    assert min(seen.values()) > 12  # of 40 · 4/7 = 23


def test_reach_is_by_bytes() -> None:
    assert StreamOrder(table([9], size=streams.REACH_BYTES // 4), 1, Lanes(1, 1), 0).reach == 4
    assert StreamOrder(table([9], size=streams.REACH_BYTES * 4), 1, Lanes(1, 1), 0).reach == 1


def test_mixing_reaches_far(monkeypatch: pytest.MonkeyPatch) -> None:
    order = StreamOrder(table([400]), 1, Lanes(1, 1), 0)
    order.reach = 100
    used = order.epoch(0).order
    moved = np.abs(used - np.arange(400))
    assert 20 < moved.mean() < 60  # of a uniform draw among 100: about a third
    assert math.isclose(np.corrcoef(used[:-1], used[1:])[0, 1], 0.85, abs_tol=0.15)
