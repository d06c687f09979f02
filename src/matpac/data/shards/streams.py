"""Shards that are read from their beginning: the order of an epoch, and reading in that order.

The clips of an epoch, shard after shard in a random order, are cut into lanes: stretches of equal length that are
read side by side, each mixed in itself. Which lane a row of a batch comes from, and which clip of it, depends
on the seed, the epoch and the step alone. So a resumed run gives the same batches: it reads the stretches from the
first clip on that it still needs.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Int

from matpac.atomic import write_text
from matpac.data.crops import StepBatches, Steps
from matpac.data.files import Clip, Sounds
from matpac.data.shards.addresses import is_url, open_address
from matpac.data.shards.members import HeldSound, MemberTable, ShardClip
from matpac.data.shards.tar import Member, ShardError, TarReader

# Clips that a lane holds in memory, among which the next one is drawn; default: 1,500 clips of ten seconds as
# FLAC, about the thousand that WebDataset's users take.
REACH_BYTES = 2**28


@dataclass(frozen=True)
class Lanes:
    """The number of lanes: each of `rows` parts of a batch alternates between `turns` lanes from step to step.

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
    """

    def __init__(self, table: MemberTable, reads: int, lanes: Lanes, seed: int) -> None:
        self.table, self.reads, self.lanes, self.seed = table, reads, lanes, seed
        self.reach = max(1, int(REACH_BYTES / table.sizes.mean()))
        self._epoch, self._found = -1, None

    def epoch(self, epoch: int) -> Epoch:
        """One epoch; the last one asked for is kept."""
        if self._found is None or self._epoch != epoch:
            self._epoch, self._found = epoch, self._draw(epoch)
        return self._found

    def order(self, epoch: int) -> Int[np.ndarray, " used"]:
        """Clips of an epoch as the steps use them, for `StepBatches`."""
        return self.epoch(epoch).order

    def _draw(self, epoch: int) -> Epoch:
        rng = np.random.default_rng([self.seed, epoch])
        place_of_shard = rng.permutation(len(self.table.shards))
        sequence = np.argsort(place_of_shard[self.table.shard], kind="stable")
        steps = len(sequence) // self.reads
        # clips that fill no whole batch are dropped anywhere: the ends of few shards would never be seen otherwise
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


class StreamedSounds:
    """The sounds of clips in shards that are streamed, for `RandomCrops`: asked for in order, read once."""

    def __init__(self, order: StreamOrder) -> None:
        self._order, self._table = order, order.table
        self._epoch = -1
        self._places = np.empty(0, np.int64)  # of every clip in the epoch's sequence; −1 for one that isn't used
        self._lanes: dict[int, _Lane] = {}

    def sound(self, epoch: int, index: int, replaces: bool) -> HeldSound:
        """A clip's sound. One out of turn is read from its shard's beginning.

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
            return HeldSound(self._table.clip(index).path, next(read_members(self._table, [index])))
        number = int(np.searchsorted(found.bounds, place, side="right")) - 1
        if number not in self._lanes:
            begin, end = found.bounds[number : number + 2]
            self._lanes[number] = _Lane(self._table, found.sequence[begin:end], found.ranks[begin:end])
        lane = self._lanes[number]
        return HeldSound(self._table.clip(index).path, lane.take(place - int(found.bounds[number])))

    def close(self) -> None:
        """Closes all streams."""
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
        self._stream: Iterator[tuple[int, bytes]] | None = None

    def take(self, place: int) -> bytes:
        """The content of the clip at a place; after it, asking for one of a lower rank reads the lane again."""
        rank = int(self._ranks[place])
        if self._stream is None or rank < self._next:
            self.close()
            self._waiting.clear()
            first = int(np.flatnonzero(self._ranks >= rank)[0])
            contents = read_members(self._table, self._sequence[first:].tolist())
            self._stream = enumerate(contents, start=first)
        if rank > self._next:  # another reader took those between
            self._waiting = {old: content for old, content in self._waiting.items() if self._ranks[old] >= rank}
        self._next = rank + 1
        while place not in self._waiting:
            found, content = next(self._stream)
            if self._ranks[found] >= rank:
                self._waiting[found] = content
        return self._waiting.pop(place)

    def close(self) -> None:
        self._stream = None  # which closes the shard


def read_members(table: MemberTable, clips: Sequence[int]) -> Iterator[bytes]:
    """The contents of clips that follow each other as the members of their shards do. Each shard is opened once.

    Raises:
        ShardError: a member isn't where it should be, or a shard can't be read.
    """
    shards = table.shard[list(clips)]
    seams = (np.flatnonzero(np.diff(shards)) + 1).tolist()
    for begin, end in pairwise([0, *seams, len(clips)] if clips else []):
        address = table.shards[shards[begin]]
        with open_address(address) as stream:
            reader = TarReader(stream, address)
            members = iter(reader)
            for clip in clips[begin:end]:
                found = table.clip(clip)
                wanted = Member(found.name, found.offset, found.size)
                member = next((member for member in members if member.offset >= wanted.offset), None)
                if member != wanted:
                    raise ShardError(
                        f"{address}: {wanted.name} is not at byte {wanted.offset}: the shard has changed, or its "
                        "index isn't its own; start another run"
                    )
                yield reader.read()


# --- what a run reads its clips from, and in which order ----------------------------------------------------

LANES = "lanes.json"


def _streamed(clips: Sequence[Clip]) -> bool:
    return any(isinstance(clip, ShardClip) and is_url(clip.shard) for clip in clips)


def keep_lanes(folder: Path, clips: Sequence[Clip], parts: int, readers: int) -> None:
    """Writes into a run's folder in which lanes streamed shards are read, which decides the order of clips.

    Args:
        folder: the run's.
        clips: the corpus; if none of them is streamed there are no lanes.
        parts: of a batch: processes × micro-batches.
        readers: reading processes of each process.
    """
    if _streamed(clips):
        write_text(folder / LANES, json.dumps(asdict(Lanes(parts, max(1, readers)))) + "\n")
    else:
        (folder / LANES).unlink(missing_ok=True)  # of a start that failed


def order_clips(clips: Sequence[Clip], folder: Path, steps: Steps) -> tuple[Sounds | None, StepBatches]:
    """What the clips are read from (None for files), and in which order.

    Args:
        clips: the corpus.
        folder: the run's, with what `keep_lanes` wrote.
        steps: which steps are read, and this process's part of them.

    Raises:
        DataError: too few clips for a batch.
        ShardError: the run began with streams and these clips aren't streamed, or the other way round; or the
            lanes can't be read.
    """
    plain, streamed, kept = StepBatches(len(clips), steps), _streamed(clips), folder / LANES
    if streamed != kept.exists():
        found, began = ("not there", "clips on this machine") if streamed else ("there", "streamed shards")
        raise ShardError(
            f"{kept}: {found}, so the run began with {began}, whose order is another; name such with --data, or "
            "start another run"
        )
    members = [clip for clip in clips if isinstance(clip, ShardClip)]
    if len(members) < len(clips):
        return None, plain
    table = MemberTable(members)
    if not streamed:
        return table, plain
    try:
        said = json.loads(kept.read_text())
        lanes = Lanes(int(said["rows"]), int(said["turns"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{kept}: decides the order of clips and can't be read ({error}); restore it") from error
    order = StreamOrder(table, steps.batch_size, lanes, steps.seed)
    return StreamedSounds(order), StepBatches(len(clips), steps, order.order)
