"""Every kind of damage is found and named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.shard_files import members_of, sound_bytes, tar_bytes
from helpers.sound_files import write_sound
from matpac.data.packing.pack import PackOptions, pack
from matpac.data.packing.verify import verify
from matpac.data.shards.index import read_index
from matpac.data.shards.tar import ShardError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verified")
    for seed in range(5):
        write_sound(root / "sounds" / f"{seed}.wav", 16_000, 1.2 + 0.1 * seed, seed=seed)
    pack(PackOptions(str(root / "sounds"), str(root / "shards"), "flac", 2**16, workers=1))
    return root / "shards"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "shards")
    return tmp_path / "shards"


def test_whole_shards_have_no_problems(whole: Path) -> None:
    found = verify(whole, 1)
    assert found.problems == []
    assert found.index == read_index(whole)
    assert verify(whole, 2) == found


@settings(deadline=None, max_examples=25)
@given(share=st.floats(0, 1, exclude_max=True), flipped=st.integers(1, 255))
def test_any_changed_byte_is_found(share: float, flipped: int, whole: Path) -> None:
    path = whole / "000000.tar"
    content = path.read_bytes()
    changed = bytearray(content)
    changed[int(share * len(content))] ^= flipped
    try:
        path.write_bytes(bytes(changed))
        problems = verify(whole, 1).problems
    finally:
        path.write_bytes(content)
    assert any("000000.tar: SHA-256" in problem for problem in problems)
    assert all("000000.tar" in problem for problem in problems)


def rewrite(folder: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]], honest: bool) -> None:
    """Another first shard; with `honest`, an index that has its size and hash."""
    from hashlib import sha256

    before = (folder / "000000.tar").read_bytes()
    content = tar_bytes(list(change(members_of(folder / "000000.tar")).items())).ljust(len(before), b"\0")
    (folder / "000000.tar").write_bytes(content)
    if honest:
        said = json.loads((folder / "index.json").read_text())
        said["shards"][0] |= {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        (folder / "index.json").write_text(json.dumps(said))


def first(members: dict[str, bytes], suffix: str) -> str:
    return next(name for name in members if name.endswith(suffix))


def add(members: dict[str, bytes]) -> dict[str, bytes]:
    return {**members, "more.flac": sound_bytes(0.5)}


def drop(members: dict[str, bytes]) -> dict[str, bytes]:
    return dict(list(members.items())[:-2])


def lie(members: dict[str, bytes]) -> dict[str, bytes]:
    name = first(members, ".json")
    return {**members, name: members[name].replace(b".wav", b".WAV")}


def garble(members: dict[str, bytes]) -> dict[str, bytes]:
    return {**members, first(members, ".json"): b"{"}


def silence(members: dict[str, bytes]) -> dict[str, bytes]:
    name = first(members, ".flac")
    return {**members, name: members[name][:100] + bytes(len(members[name]) - 100)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add, r"000000\.tar/more\.flac: not in clips\.parquet"),
        (drop, r"000000\.tar/\d+\.flac: is not there"),
        (lie, r"000000\.tar/\d+\.json: says other than clips\.parquet"),
        (garble, r"000000\.tar/\d+\.json: no JSON"),
        (silence, r"000000\.tar/\d+\.flac: damaged"),
    ],
)
def test_members_are_looked_at_even_where_the_hash_is_right(change: Callable, message: str, folder: Path) -> None:
    import re

    rewrite(folder, change, honest=True)
    problems = verify(folder, 1).problems
    assert any(re.search(message, problem) for problem in problems), problems
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
    with pytest.raises(ShardError, match=r"clips\.parquet: not there"):
        verify(folder, 1)
    (folder / "index.json").unlink()
    with pytest.raises(ShardError, match=r"no index\.json there"):
        verify(folder, 1)
