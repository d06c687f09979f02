"""How a training run reads its clips: files and local shards in any order, streamed shards in lanes."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matpac.atomic import written_whole
from matpac.data.crops import StepBatches
from matpac.data.files import Clip
from matpac.data.shards.addresses import is_url
from matpac.data.shards.members import MemberTable, ShardClip
from matpac.data.shards.streams import Lanes, StreamBatches, StreamedSounds, StreamOrder
from matpac.data.shards.tar import ShardError
from matpac.data.sounds import Sounds

LANES = "lanes.json"


def _streamed(clips: Sequence[Clip]) -> bool:
    return any(isinstance(clip, ShardClip) and is_url(clip.shard) for clip in clips)


def keep_lanes(folder: Path, clips: Sequence[Clip], parts: int, readers: int) -> None:
    """Writes into a run's folder in which lanes streamed shards are read, which decides the order of clips.

    Args:
        folder: of the run.
        clips: of its corpus; where none of them is streamed there are no lanes.
        parts: of a batch: processes × micro-batches.
        readers: reading processes of each process.
    """
    if _streamed(clips):
        with written_whole(folder / LANES) as draft:
            draft.write_text(json.dumps(asdict(Lanes(parts, max(1, readers)))) + "\n")
    else:
        (folder / LANES).unlink(missing_ok=True)  # of a start that came to nothing


def order_clips(
    clips: Sequence[Clip], folder: Path, *, batch_size: int, seed: int, crops_per_read: int, **steps: Any
) -> tuple[Sounds | None, StepBatches]:
    """What the clips are read from (None for files), and in which order.

    Args:
        clips: of the corpus.
        folder: of the run, with what `keep_lanes` wrote.
        batch_size: crops of a step over all processes.
        seed: not negative.
        crops_per_read: crops that a batch takes of each of its clips.
        steps: the other arguments of `StepBatches`.

    Raises:
        DataError: too few clips for a batch, or one that can't be split.
        ShardError: the run began with streams and these clips are none, or the other way round; or `keep_lanes`
            wrote nothing that can be read.
    """
    named = {"batch_size": batch_size, "seed": seed, "crops_per_read": crops_per_read, **steps}
    plain = StepBatches(len(clips), **named)
    members = [clip for clip in clips if isinstance(clip, ShardClip)]
    streamed = _streamed(clips)
    if streamed != (folder / LANES).exists():
        found, began = ("not there", "clips on this machine") if streamed else ("there", "streamed shards")
        raise ShardError(
            f"{folder / LANES}: {found}, so that the run began with {began}, whose order is another; name such "
            "with --data, or start another run"
        )
    if len(members) < len(clips):
        return None, plain
    table = MemberTable(members)
    if not streamed:
        return table, plain
    order = StreamOrder(table, plain.reads, _read_lanes(folder), seed)
    return StreamedSounds(order), StreamBatches(order, len(clips), **named)


def _read_lanes(folder: Path) -> Lanes:
    path = folder / LANES
    try:
        said = json.loads(path.read_text())
        return Lanes(int(said["rows"]), int(said["turns"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"{path}: says in which order clips come, and can't be read ({error}); put it back"
        ) from error
