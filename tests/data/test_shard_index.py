"""index.json and clips.parquet as they are written, and as a stranger may have made them."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from matpac.data.shards.index import (
    INDEX,
    Index,
    Shard,
    parse_index,
    read_index,
    read_table,
    write_index,
)
from matpac.data.shards.tar import ShardError

HASH = "0123456789abcdef" * 4
GOOD = Index("flac", 16_000, 10**9, 2, HASH, [Shard("000000.tar", 2, 32_000, 10_240, HASH)])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_index(tmp_path, GOOD)
    assert read_index(tmp_path) == GOOD
    assert (GOOD.clips, GOOD.seconds, GOOD.bytes) == (2, 2.0, 10_240)
    said = json.loads((tmp_path / INDEX).read_text())
    assert (said["clips"], said["seconds"], said["bytes"]) == (2, 2.0, 10_240)
    assert [path.name for path in tmp_path.iterdir()] == [INDEX]


def test_a_folder_without_index(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"no index\.json there; matpac pack writes one"):
        read_index(tmp_path)
    (tmp_path / ".pack").mkdir()
    with pytest.raises(ShardError, match="its packing is not complete"):
        read_index(tmp_path)


def changed(change: Callable[[dict], Any]) -> bytes:
    said = {
        "format": "matpac shards 1", "encoding": "flac", "sample_rate": 16_000, "shard_size": 10**9, "left_out": 0,
        "table_sha256": HASH,
        "shards": [{"name": "000000.tar", "clips": 2, "samples": 9, "bytes": 10_240, "sha256": HASH}],
    }  # fmt: skip
    change(said)
    return json.dumps(said).encode()


def of_shard(**value: object) -> bytes:
    return changed(lambda said: said["shards"][0].update(value))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"words", "Expecting value"),
        (b"\xff\xfe{}", "no index"),
        (b"[" * 100_000, "recursion"),
        (b"[]", "list indices"),
        (b"1" * 5000, "no index"),
        (changed(lambda said: said.pop("shards")), "'shards' is missing"),
        (changed(lambda said: said.update(format="other 2")), "'other 2', and this reads 'matpac shards 1'"),
        (changed(lambda said: said.update(sample_rate=0)), "sample_rate: 0"),
        (changed(lambda said: said.update(sample_rate=1.5)), "sample_rate: 1.5"),
        (changed(lambda said: said.update(left_out=True)), "left_out: True"),
        (changed(lambda said: said.update(table_sha256="../x")), "table_sha256: '../x'"),
        (changed(lambda said: said.update(encoding=["flac"])), r"encoding: \['flac'\]"),
        (changed(lambda said: said.update(shards=said["shards"] * 2)), "a shard is there twice"),
        (changed(lambda said: said["shards"].append([])), "list indices"),
        (of_shard(name="../000000.tar"), "name: '../000000.tar'"),
        (of_shard(name="/etc/x.tar"), "name: '/etc/x.tar'"),
        (of_shard(name="pipe:rm x.tar"), "name: 'pipe:rm x.tar'"),
        (of_shard(name=".hidden.tar"), "name: '.hidden.tar'"),
        (of_shard(name="a.tar\n"), "name: "),
        (of_shard(bytes=-1), "bytes: -1"),
        (of_shard(bytes=2**70), "bytes: "),
        (of_shard(clips="2"), "clips: '2'"),
        (of_shard(sha256="é"), "sha256: 'é'"),
    ],
)
def test_indices_that_cannot_be(content: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message) as error:
        parse_index(content, "x/index.json")
    assert str(error.value).startswith("x/index.json: no index of shards by matpac pack (")
    assert len(str(error.value)) < 300


def table(**columns: Any) -> bytes:
    rows = {
        "shard": [0, 0, -1], "name": ["a.flac", "b.flac", ""], "offset": [512, 2048, 0], "size": [600, 700, 0],
        "samples": [5, 6, 0], "source": ["x", "y", "z"],
    }  # fmt: skip
    file = io.BytesIO()
    kept = {name: column for name, column in {**rows, **columns}.items() if column is not None}
    pq.write_table(pa.table(kept), file)
    return file.getvalue()


def index_of(content: bytes) -> Index:
    return replace(GOOD, table_sha256=hashlib.sha256(content).hexdigest())


def test_table_of_what_is_in_the_shards() -> None:
    rows = read_table(table(), "t", index_of(table()), ["source"])
    assert {name: rows[name].to_pylist() for name in rows} == {
        "shard": [0, 0], "name": ["a.flac", "b.flac"], "offset": [512, 2048], "size": [600, 700],
        "samples": [5, 6], "source": ["x", "y"],
    }  # fmt: skip
    only = table(shard=[-1, -1, -1])
    assert len(read_table(only, "t", index_of(only), [])["name"]) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"words", "not a table"),
        (table(offset=None), "not a table"),
        (table(offset=["a", "b", "c"]), "a place of a member is missing"),
        (table(offset=[512, None, 0]), "a place of a member is missing"),
        (table(name=["a.flac", None, ""]), "a place of a member is missing, or its name"),
        (table(name=[b"a.flac", b"b.flac", b""]), "a place of a member is missing, or its name"),
        (table(name=pa.array([b"a.flac", b"\xff.flac", b""]).view(pa.string())), "not a table"),
        *[
            (table(**{name: column}), "is at no place of a shard")
            for name, column in [
                ("shard", [0, 1, -1]),
                *(("offset", [512, offset, 0]) for offset in (0, -512, 2049, 10_240, 2**62)),
                *(("size", [600, size, 0]) for size in (2**40, 0, -5)),
                ("samples", [5, 0, 0]),
            ]
        ],
        (table(name=["a.flac", "../b.flac", ""]), "names a place outside"),
        (table(name=["a.flac", "b\x1b.flac", ""]), "can't be shown"),
    ],
)
def test_tables_that_cannot_be(content: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        read_table(content, "t", index_of(content), [])


def test_table_of_another_index() -> None:
    with pytest.raises(ShardError, match=r"not the table that index\.json describes"):
        read_table(table(), "t", GOOD, [])
