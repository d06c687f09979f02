"""index.json and clips.parquet, which `matpac pack` writes beside the shards.

index.json has the counts, and each shard's size and SHA-256; clips.parquet has one row per file of the source,
with the place of its member, or the reason why it was skipped. Both may come from a stranger: names with a path in
them, places outside of a shard and impossible numbers are refused.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from matpac.atomic import write_text
from matpac.data.shards.tar import BLOCK, MOST_MEMBER_BYTES, ShardError, check_name

INDEX, TABLE = "index.json", "clips.parquet"
UNFINISHED = ".pack"  # folder beside the shards for what `matpac pack` has done, until all is done
FORMAT = "matpac shards 1"
MOST = 2**62  # of counts and bytes: sums of them stay integers of 64 bits
MOST_INDEX_BYTES = 2**30  # of index.json and clips.parquet; default: two million clips take some 60 MB

# What text may be; all other fields are whole numbers. A shard is a file beside the index, never a path.
PATTERNS = {"name": r"[0-9A-Za-z_-][0-9A-Za-z_.-]*\.tar", "encoding": "flac|pcm16"}
PATTERNS |= dict.fromkeys(("sha256", "table_sha256"), "[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """One tar.

    Args:
        name: of its file.
        clips: number of clips.
        samples: of all clips, at the index's rate.
        bytes: size of the file.
        sha256: of the file.
    """

    name: str
    clips: int
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """The content of index.json.

    Args:
        encoding: of the sounds: flac or pcm16.
        sample_rate: of the sounds, in Hz.
        shard_size: planned bytes of a shard.
        left_out: number of files of the source that aren't in the shards.
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
        """Clips in all shards."""
        return sum(shard.clips for shard in self.shards)

    @property
    def seconds(self) -> float:
        """Duration of all clips."""
        return sum(shard.samples for shard in self.shards) / self.sample_rate

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)


def write_index(folder: Path, index: Index) -> None:
    """Writes index.json whole or not at all."""
    totals = {"clips": index.clips, "seconds": round(index.seconds, 3), "bytes": index.bytes}
    write_text(folder / INDEX, json.dumps({"format": FORMAT, **totals, **asdict(index)}, indent=1) + "\n")


def parse_index(content: bytes, where: str) -> Index:
    """The content of an index.json; `where` names it in messages.

    Raises:
        ShardError: it isn't one, or has impossible values.
    """
    try:
        said = json.loads(content)
        if said["format"] != FORMAT:
            raise ValueError(f"its format is {said['format']!r:.50}, and this reads {FORMAT!r}")
        shards = [_checked(Shard, shard) for shard in said["shards"]]
        if len({shard.name for shard in shards}) < len(shards):
            raise ValueError("a shard is there twice")
        index = _checked(Index, said, shards=shards)
        if index.sample_rate == 0:
            raise ValueError("sample_rate: 0")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ShardError(f"{where}: no index of shards by matpac pack ({why}); pack again") from error
    return index


def _checked(kind: type[Any], said: Any, **given: Any) -> Any:
    """A dataclass from a JSON object, checked, and from given fields. Raises KeyError, ValueError or TypeError."""
    found = {field.name: said[field.name] for field in fields(kind) if field.name not in given}
    for name, value in found.items():
        right = type(value) is int and 0 <= value < MOST
        if name in PATTERNS:
            right = isinstance(value, str) and re.fullmatch(PATTERNS[name], value)
        if not right:
            raise ValueError(f"{name}: {value!r:.50}")
    return kind(**found, **given)


def read_index(folder: Path) -> Index:
    """The index of a folder of shards. Raises ShardError: there is none, or it can't be used."""
    path = folder / INDEX
    if not path.is_file():
        if (folder / UNFINISHED).is_dir():
            raise ShardError(f"{folder}: its packing is not complete; run the same matpac pack again to resume")
        raise ShardError(f"{folder}: no {INDEX} there; matpac pack writes one")
    if path.stat().st_size > MOST_INDEX_BYTES:
        raise ShardError(f"{path}: {path.stat().st_size} bytes are no index")
    return parse_index(path.read_bytes(), str(path))


def read_table(content: bytes, where: str, index: Index, columns: list[str]) -> Mapping[str, Any]:
    """Columns of clips.parquet (pyarrow arrays by their names) for the rows that have a member.

    `shard`, `name`, `offset`, `size` and `samples` are always there, and checked against the index.

    Raises:
        ShardError: it isn't the table of this index, or has an impossible row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if hashlib.sha256(content).hexdigest() != index.table_sha256:
        raise ShardError(f"{where}: not the table that {INDEX} describes (its SHA-256 differs); copy both again")
    places = ["shard", "name", "offset", "size", "samples"]
    try:
        table = pq.read_table(io.BytesIO(content), columns=list(dict.fromkeys([*places, *columns])))
        table.validate(full=True)  # text is not checked before
        table = table.filter(pc.field("shard") >= 0)
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
    bad |= (size < 1) | (size > MOST_MEMBER_BYTES) | (offset > ends[np.minimum(shard, len(ends) - 1)] - size)
    if bad.any():
        raise ShardError(f"{where}: row {int(bad.argmax())} is at no place of a shard; pack again")
    for name in rows["name"].to_pylist():
        check_name(where, name)
    return rows
