"""index.json and clips.parquet: what `matpac pack` says of the shards that lie beside them.

index.json has the counts, and each shard's size and SHA-256; clips.parquet a row a file of the source, with the
place of its member, or the reason why it was left out. Both are read as a stranger's: names with a path in them,
places outside of a shard and numbers that can't be are refused.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matpac.atomic import write_text
from matpac.data.shards.tar import BLOCK, MOST_MEMBER_BYTES, ShardError, check_name

INDEX, TABLE = "index.json", "clips.parquet"
UNFINISHED = ".pack"
"""The folder beside the shards in which `matpac pack` keeps what it has done until all is done."""

FORMAT = "matpac shards 1"
SHARD_NAME = r"[0-9A-Za-z_-][0-9A-Za-z_.-]*\.tar"  # a file beside the index, never a path
MOST = 2**62  # of counts and bytes: sums of them stay integers of 64 bits
MOST_INDEX_BYTES = 2**30
"""Of index.json and clips.parquet; ours. Two million clips take some 60 MB."""


@dataclass(frozen=True)
class Shard:
    """One tar: its file's name, its clips, their samples (at the index's rate), its bytes and their SHA-256."""

    name: str
    clips: int
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """What index.json says.

    Args:
        encoding: of the sounds: flac or pcm16.
        sample_rate: of the sounds, in Hz.
        shard_size: that was planned, in bytes.
        left_out: files of the source that aren't in the shards.
        table_sha256: of clips.parquet.
        shards: in their order.
    """

    encoding: str
    sample_rate: int
    shard_size: int
    left_out: int
    table_sha256: str
    shards: list[Shard]

    @property
    def clips(self) -> int:
        """In all shards."""
        return sum(shard.clips for shard in self.shards)

    @property
    def seconds(self) -> float:
        """Of sound in all shards."""
        return sum(shard.samples for shard in self.shards) / self.sample_rate

    @property
    def bytes(self) -> int:
        """Of all shards."""
        return sum(shard.bytes for shard in self.shards)


def write_index(folder: Path, index: Index) -> None:
    """Writes index.json whole or not at all."""
    totals = {"clips": index.clips, "seconds": round(index.seconds, 3), "bytes": index.bytes}
    write_text(folder / INDEX, json.dumps({"format": FORMAT, **totals, **asdict(index)}, indent=1) + "\n")


def parse_index(content: bytes, where: str) -> Index:
    """The content of an index.json; `where` names it in messages.

    Raises:
        ShardError: it isn't one, or says what can't be.
    """
    try:
        said = json.loads(content)
        if said["format"] != FORMAT:
            raise ValueError(f"its format is {said['format']!r:.50}, and this reads {FORMAT!r}")
        if not all(isinstance(shard, dict) for shard in said["shards"]):
            raise ValueError("a shard in it is no object")
        shards = [
            Shard(
                _text(shard, "name", SHARD_NAME),
                _count(shard, "clips"),
                _count(shard, "samples"),
                _count(shard, "bytes"),
                _text(shard, "sha256", "[0-9a-f]{64}"),
            )
            for shard in said["shards"]
        ]
        names = [shard.name for shard in shards]
        if len(set(names)) < len(names):
            raise ValueError("a shard is there twice")
        if said["sample_rate"] == 0:
            raise ValueError("sample_rate: 0")
        return Index(
            _text(said, "encoding", "flac|pcm16"),
            _count(said, "sample_rate"),
            _count(said, "shard_size"),
            _count(said, "left_out"),
            _text(said, "table_sha256", "[0-9a-f]{64}"),
            shards,
        )
    except KeyError as error:
        raise ShardError(f"{where}: no index of shards by matpac pack ({error} is missing); pack again") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ShardError(f"{where}: no index of shards by matpac pack ({error}); pack again") from error


def _count(said: Mapping[str, Any], name: str) -> int:
    value = said[name]
    if type(value) is not int or not 0 <= value < MOST:
        raise ValueError(f"{name}: {value!r:.50}")
    return value


def _text(said: Mapping[str, Any], name: str, pattern: str) -> str:
    value = said[name]
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"{name}: {value!r:.50}")
    return value


def read_index(folder: Path) -> Index:
    """The index of a folder of shards. Raises ShardError: there is none, or it can't be used."""
    path = folder / INDEX
    if not path.is_file():
        if (folder / UNFINISHED).is_dir():
            raise ShardError(f"{folder}: packing it has not ended; run the same matpac pack again, it goes on")
        raise ShardError(f"{folder}: no {INDEX} there; matpac pack writes one")
    if path.stat().st_size > MOST_INDEX_BYTES:
        raise ShardError(f"{path}: {path.stat().st_size} bytes are no index")
    return parse_index(path.read_bytes(), str(path))


def read_table(content: bytes, where: str, index: Index, columns: list[str]) -> Mapping[str, Any]:
    """Columns of clips.parquet (pyarrow arrays by their names) for the rows that have a member.

    `shard`, `name`, `offset`, `size` and `samples` are always there, and checked against the index.

    Raises:
        ShardError: it isn't the table of this index, or a row of it can't be.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if hashlib.sha256(content).hexdigest() != index.table_sha256:
        raise ShardError(f"{where}: not the table that {INDEX} describes (its SHA-256 differs); copy both again")
    places = ["shard", "name", "offset", "size", "samples"]
    try:
        table = pq.read_table(io.BytesIO(content), columns=list(dict.fromkeys([*places, *columns])))
        table.validate(full=True)  # text is not looked at before
        table = table.filter(pc.greater_equal(table["shard"], 0))  # pyright: ignore[reportAttributeAccessIssue]
        rows = {name: table[name] for name in table.column_names}
        shard, offset, size, samples = (rows[name].to_numpy() for name in ("shard", "offset", "size", "samples"))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise ShardError(f"{where}: not a table of shards' clips ({error!s:.200}); copy it again") from error
    import numpy as np

    ends = np.array([entry.bytes for entry in index.shards] or [0])
    numbers = all(array.dtype.kind == "i" for array in (shard, offset, size, samples))
    if not numbers or not pa.types.is_string(rows["name"].type) or rows["name"].null_count:
        raise ShardError(f"{where}: a place of a member is missing, or its name; copy it again")
    bad = (shard >= len(index.shards)) | (offset < BLOCK) | (offset % BLOCK > 0) | (samples < 1)
    bad |= (size < 1) | (size > MOST_MEMBER_BYTES)
    if not bad.any():
        bad |= offset > ends[shard] - size
    if bad.any():
        raise ShardError(f"{where}: row {int(bad.argmax())} is at no place of a shard; pack again")
    for name in rows["name"].to_pylist():
        check_name(where, name)
    return rows
