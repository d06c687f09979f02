"""Shards that can only be read from their beginning: the order of an epoch, and reading in that order.

The clips of an epoch, shard after shard in an order drawn anew, are cut into lanes: stretches of equal length that
are read side by side, each mixed in itself. Which lane a row of a batch comes from, and which clip of it, depends
on the seed, the epoch and the step alone. So a resumed run gives the same batches: it reads the stretches from the
first clip on that it still needs.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int

from matpac.data.crops import StepBatches
from matpac.data.files import DataError
from matpac.data.shards.addresses import open_address, read_on
from matpac.data.shards.members import HeldSound, MemberTable
from matpac.data.shards.tar import Member, ShardError, TarReader

REACH_BYTES = 2**28
"""Of clips, in each lane, among which the next one is drawn: what it holds in memory; ours. 1,500 clips of ten
seconds as FLAC, about the thousand that WebDataset's users take."""


@dataclass(frozen=True)
class Lanes:
    """How many lanes there are: `rows` parts of a batch, each of which takes `turns` lanes by turns, step by step.

    A process takes rows of a batch, its reading processes take batches by turns: with processes × micro-batches
    rows and as many turns as readers, each reader has lanes of its own. With other numbers of them the batches are
    the same, but several readers read the same lanes.
    """

    rows: int
    turns: int


@dataclass(frozen=True)
class Epoch:
    """The order of an epoch.

    Args:
        sequence: the clips that are used, as the shards have them, shard after shard: lanes are stretches of it.
        bounds: where each lane begins in `sequence`, and where the last one ends.
        ranks: at each place of `sequence`, how many clips of its lane are used before it.
        order: clips as the steps use them.
    """

    sequence: Int[np.ndarray, " used"]
    bounds: Int[np.ndarray, " bound"]
    ranks: Int[np.ndarray, " used"]
    order: Int[np.ndarray, " used"]


class StreamOrder:
    """The order of every epoch.

    Args:
        table: the clips, shard by shard, each shard's in the order of its members.
        reads: clips of a step.
        lanes: into which an epoch is cut.
        seed: not negative.

    Raises:
        DataError: fewer clips than a step takes, or rows that don't split its batch.
    """

    def __init__(self, table: MemberTable, reads: int, lanes: Lanes, seed: int) -> None:
        if reads < 1 or reads % lanes.rows or len(table) < reads:
            raise DataError(
                f"a batch of {reads} clips can't be taken from {len(table)} clips in {lanes.rows} parts; "
                "lower the batch size or add clips"
            )
        self.table, self.reads, self.lanes, self.seed = table, reads, lanes, seed
        self.reach = max(1, int(REACH_BYTES / table.sizes.mean()))
        self._epoch, self._found = -1, None

    def epoch(self, epoch: int) -> Epoch:
        """Of one epoch; the last one asked for is kept."""
        if self._found is None or self._epoch != epoch:
            self._epoch, self._found = epoch, self._draw(epoch)
        return self._found

    def _draw(self, epoch: int) -> Epoch:
        rng = np.random.default_rng([self.seed, epoch])
        place_of_shard = rng.permutation(len(self.table.shards))
        sequence = np.argsort(place_of_shard[self.table.shard], kind="stable")
        steps = len(sequence) // self.reads
        # what the last batch would lack is left out anywhere, or the ends of few shards would never be seen
        sequence = sequence[np.sort(rng.permutation(len(sequence))[: steps * self.reads])]
        width = self.reads // self.lanes.rows
        lengths = [width * len(range(turn, steps, self.lanes.turns)) for turn in range(self.lanes.turns)]
        bounds = np.concatenate([[0], np.cumsum(lengths * self.lanes.rows)])
        ranks = np.empty(bounds[-1], np.int64)
        order = np.empty((steps, self.lanes.rows, width), np.int64)
        for lane, (begin, end) in enumerate(pairwise(bounds.tolist())):
            row, turn = divmod(lane, self.lanes.turns)
            # each clip moves back by less than `reach` places: so many at most wait to be used
            places = np.argsort(np.arange(end - begin) + self.reach * rng.random(end - begin))
            ranks[begin + places] = np.arange(end - begin)
            order[turn :: self.lanes.turns, row] = sequence[begin + places].reshape(-1, width)
        return Epoch(sequence, bounds, ranks, order.ravel())


class StreamBatches(StepBatches):
    """`StepBatches` in the order of a stream.

    Args:
        stream: the order of epochs.
        arguments: of `StepBatches`.
    """

    def __init__(self, stream: StreamOrder, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._stream = stream

    def order(self, epoch: int) -> Int[np.ndarray, " clip"]:
        """See `StepBatches`."""
        return self._stream.epoch(epoch).order


class StreamedSounds:
    """The sounds of clips in shards that are streamed, for `RandomCrops`: asked for in order, read once."""

    def __init__(self, order: StreamOrder) -> None:
        self._order, self._table = order, order.table
        self._epoch = -1
        self._places = np.empty(0, np.int64)  # of every clip in the epoch's sequence; −1 for one that isn't used
        self._lanes: dict[int, _Lane] = {}

    def sound(self, epoch: int, index: int, replaces: bool) -> HeldSound:
        """A clip's sound. One out of turn costs reading its shard up to it.

        Raises:
            ShardError: a shard isn't what its index says, or can't be read.
        """
        found = self._order.epoch(epoch)
        if epoch != self._epoch:
            self.close()
            self._epoch = epoch
            self._places = np.full(len(self._table), -1)
            self._places[found.sequence] = np.arange(len(found.sequence))
        place = int(self._places[index])
        if replaces or place < 0:
            (content,) = (content for _, content in read_members(self._table, [index]))
            return HeldSound(self._table.path(index), content)
        number = int(np.searchsorted(found.bounds, place, side="right")) - 1
        if number not in self._lanes:
            begin, end = found.bounds[number : number + 2]
            self._lanes[number] = _Lane(self._table, found.sequence[begin:end], found.ranks[begin:end])
        lane = self._lanes[number]
        return HeldSound(self._table.path(index), lane.take(place - int(found.bounds[number])))

    def close(self) -> None:
        """Ends all streams."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()


class _Lane:
    """One lane as it is read: what was read and not yet used waits in memory."""

    def __init__(
        self, table: MemberTable, sequence: Int[np.ndarray, " place"], ranks: Int[np.ndarray, " place"]
    ) -> None:
        self._table, self._sequence, self._ranks = table, sequence, ranks
        self._waiting: dict[int, bytes] = {}
        self._next = 0
        self._stream: Generator[tuple[int, bytes], None, None] | None = None

    def take(self, place: int) -> bytes:
        """The content of the clip at a place; clips of lower ranks aren't asked for any more, or all anew."""
        rank = int(self._ranks[place])
        if self._stream is None or rank < self._next:
            self.close()
            self._waiting.clear()
            first = int(np.flatnonzero(self._ranks >= rank)[0])
            self._stream = _places(self._table, self._sequence, first)
        if rank > self._next:  # another reader took those between
            self._waiting = {old: content for old, content in self._waiting.items() if self._ranks[old] >= rank}
        self._next = rank + 1
        while place not in self._waiting:
            found, content = next(self._stream)
            if self._ranks[found] >= rank:
                self._waiting[found] = content
        return self._waiting.pop(place)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


def _places(
    table: MemberTable, sequence: Int[np.ndarray, " place"], first: int
) -> Generator[tuple[int, bytes], None, None]:
    """The places of a lane from one on, each with its clip's content."""
    for place, (_, content) in enumerate(read_members(table, sequence[first:].tolist()), start=first):
        yield place, content


def read_members(table: MemberTable, clips: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """The contents of clips that follow each other as the members of their shards do. Each shard is opened once.

    A transfer that breaks off is begun again and goes on where it was.

    Raises:
        ShardError: a member isn't where it should be, or a shard can't be read.
    """
    shards = table.shard[list(clips)]
    seams = (np.flatnonzero(np.diff(shards)) + 1).tolist()
    for begin, end in pairwise([0, *seams, len(clips)] if clips else []):
        address = table.shards[shards[begin]]
        yield from read_on(address, partial(_read_shard, table, address, clips[begin:end]))


def _read_shard(table: MemberTable, address: str, clips: Sequence[int], done: int) -> Iterator[tuple[int, bytes]]:
    """The contents of clips of one shard, but for the first `done`."""
    with open_address(address) as stream:
        reader = TarReader(stream, address)
        members = iter(reader)
        for clip in clips[done:]:
            wanted = Member(table.name(clip), int(table.offsets[clip]), int(table.sizes[clip]))
            member = next((member for member in members if member.offset >= wanted.offset), None)
            if member != wanted:
                raise ShardError(
                    f"{address}: {wanted.name} is not at byte {wanted.offset}: the shard has changed, or its "
                    "index isn't its own; start another run"
                )
            yield clip, reader.read()
