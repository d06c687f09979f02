"""Every kind of damage is found and named."""

import json
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.packed_corpus import packed
from helpers.shard_files import members_of, sound_bytes, tar_bytes
from helpers.sound_files import write_sound
from matpac.data.packing.verify import Verified, verify
from matpac.data.shards.index import read_index
from matpac.data.shards.tar import ShardError

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verified")
    for seed in range(5):
        write_sound(root / "sounds" / f"{seed}.wav", 16_000, 1.2 + 0.1 * seed, seed=seed)
    packed(root / "sounds", root / "shards", encoding="flac", shard_size=2**16)
    assert verify(root / "shards", 1) == Verified(read_index(root / "shards"), [])
    return root / "shards"


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    shutil.copytree(small, tmp_path / "shards")
    return tmp_path / "shards"


@settings(deadline=None, max_examples=25)
@given(share=st.floats(0, 1, exclude_max=True), flipped=st.integers(1, 255))
def test_any_changed_byte_is_found(share: float, flipped: int, small: Path) -> None:
    path = small / "000000.tar"
    content = path.read_bytes()
    changed = bytearray(content)
    changed[int(share * len(content))] ^= flipped
    try:
        path.write_bytes(bytes(changed))
        problems = verify(small, 1).problems
    finally:
        path.write_bytes(content)
    assert any("000000.tar: SHA-256" in problem for problem in problems)
    assert all("000000.tar" in problem for problem in problems)


def first(members: Members, suffix: str) -> str:
    return next(name for name in members if name.endswith(suffix))


def silence(members: Members) -> Members:
    name = first(members, ".flac")
    return {name: members[name][:100] + bytes(len(members[name]) - 100)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members: {"more.flac": sound_bytes(0.5)}, r"more\.flac: not in clips\.parquet"),
        (lambda members: dict.fromkeys(list(members)[-2:]), r"\d+\.flac: is not there"),
        (lambda members: {first(members, ".json"): b'{"source": ""}'}, r"\d+\.json: says other than clips"),
        (lambda members: {first(members, ".json"): b"{"}, r"\d+\.json: no JSON"),
        (silence, r"\d+\.flac: damaged"),
    ],
)
def test_members_are_checked_even_where_size_and_hash_are_right(
    change: Callable[[Members], dict[str, bytes | None]], message: str, folder: Path
) -> None:
    shard = folder / "000000.tar"
    members = members_of(shard)
    changed = {name: content for name, content in (members | change(members)).items() if content is not None}
    content = tar_bytes(list(changed.items())).ljust(shard.stat().st_size, b"\0")
    shard.write_bytes(content)
    said = json.loads((folder / "index.json").read_text())
    said["shards"][0] |= {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    (folder / "index.json").write_text(json.dumps(said))
    problems = verify(folder, 1).problems
    assert any(re.search(rf"000000\.tar/{message}", problem) for problem in problems), problems
    assert not any("SHA-256" in problem for problem in problems)


def test_missing_cut_strange_and_hostile_shards(folder: Path) -> None:
    names = sorted(path.name for path in folder.glob("*.tar"))
    assert len(names) > 2
    (folder / names[0]).unlink()
    content = (folder / names[1]).read_bytes()
    (folder / names[1]).write_bytes(content[:3000])
    (folder / "other.tar").write_bytes(content)
    (folder / names[2]).write_bytes(tar_bytes([("../../x.wav", b"1")]))
    problems = verify(folder, 1).problems
    for name, message in [
        (names[0], "is not there"),
        (names[1], "3000 bytes, "),
        (names[1], "cut short"),
        (names[1], "SHA-256"),
        ("other.tar", "not in index.json"),
        (names[2], "names a place outside"),
    ]:
        assert any(f"{name}: " in problem and message in problem for problem in problems), (name, message)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["shards"]


def test_a_table_that_is_not_the_indexs(folder: Path) -> None:
    (folder / "clips.parquet").write_bytes(b"words")
    with pytest.raises(ShardError, match="not the table that"):
        verify(folder, 1)
    (folder / "clips.parquet").unlink()
    with pytest.raises(ShardError, match=r"clips\.parquet: can\'t be read"):
        verify(folder, 1)
    (folder / "index.json").unlink()
    with pytest.raises(ShardError, match=r"no index\.json there"):
        verify(folder, 1)
