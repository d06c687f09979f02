"""Which clips are in shards, and in whatever a person calls a corpus."""

import json
import shutil
from pathlib import Path

import pytest

from helpers import packed_corpus
from helpers.local_server import local_server
from helpers.shard_files import tar_bytes, write_shards
from helpers.sound_files import make_mixed_folder, write_sound
from matpac import audio
from matpac.data.corpus import list_corpus
from matpac.data.files import DataError
from matpac.data.shards.listing import list_shards
from matpac.data.shards.members import ShardClip
from matpac.data.shards.tar import ShardError


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    for seed in range(6):
        write_sound(tmp_path / "sounds" / f"{seed}.wav", 16_000, 0.5 + 0.1 * seed, seed=seed)
    packed_corpus.packed(tmp_path / "sounds", tmp_path / "shards", shard_size=2**16)
    return tmp_path / "shards"


def places(clips: list) -> list[tuple[str, float, int, int]]:
    return [(Path(clip.path).name, round(clip.duration, 4), clip.offset, clip.size) for clip in clips]


def test_clips_of_a_packed_folder(packed: Path, tmp_path: Path) -> None:
    found = list_shards(str(packed))
    assert found.skipped == []
    assert sorted(clip.duration for clip in found.clips) == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    names = sorted(packed.glob("*.tar"))
    assert len(names) > 2
    order = [(clip.shard, clip.offset) for clip in found.clips if isinstance(clip, ShardClip)]
    assert order == sorted(order)
    assert {shard for shard, _ in order} == set(map(str, names))
    for clip in found.clips:
        assert len(audio.read(clip.source)) == round(clip.duration * 16_000)
    some = list_shards(f"{names[2]}::{names[0]}")
    chosen = [c.path for name in (names[2], names[0]) for c in found.clips if c.path.startswith(str(name))]
    assert [clip.path for clip in some.clips] == chosen
    assert len(list_shards(str(packed), min_seconds=0.75).clips) == 3
    # a scan finds what the index says
    for shard in packed.glob("*.tar"):
        (tmp_path / "plain").mkdir(exist_ok=True)
        shutil.copy(shard, tmp_path / "plain")
    scanned = list_shards(f"{tmp_path}/plain/{{000000..{len(names) - 1:06d}}}.tar")
    assert places(scanned.clips) == places(found.clips)


def test_shards_and_indices_that_are_not_whole(packed: Path) -> None:
    shard, index = packed / "000001.tar", packed / "index.json"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(ShardError, match=r"000001\.tar: has \d+ bytes, and its index\.json says \d+: cut short"):
        list_shards(str(packed))
    assert list_shards(str(packed / "000000.tar")).clips
    shard.unlink()
    with pytest.raises(ShardError, match=r"000001\.tar: in its index\.json, and can't be read .*the matpac pack"):
        list_shards(str(packed))
    said = json.loads(index.read_text())
    said["shards"][0]["name"] = "../../etc/x.tar"
    index.write_text(json.dumps(said))
    with pytest.raises(ShardError, match=r"index\.json: no index .*'\.\./\.\./etc/x\.tar'"):
        list_shards(str(packed / "000000.tar"))
    index.unlink()
    (packed / ".pack").mkdir()
    with pytest.raises(ShardError, match="its packing is not complete"):
        list_corpus(str(packed))


def test_other_peoples_shards(tmp_path: Path) -> None:
    mixed = make_mixed_folder(tmp_path / "mixed")
    members = [(f"{n}/{path.name}", path.read_bytes()) for n, path in enumerate(mixed.values())]
    (tmp_path / "a.tar").write_bytes(tar_bytes([*members, ("0/x.json", b"{}"), ("0/x.cls", b"3")]))
    found = list_shards(str(tmp_path / "a.tar"))
    bad = {"empty.wav", "text.wav", "click.wav"}
    assert {Path(clip.path).name for clip in found.clips} == {path.name for path in mixed.values()} - bad
    reasons = {Path(item.path).name: item.reason for item in found.skipped}
    assert reasons.keys() == bad
    assert reasons["empty.wav"].startswith("empty (0 bytes)")
    assert reasons["click.wav"] == "too short: 0.020 s, at least 0.025 s are needed"
    assert all(item.path.startswith(f"{tmp_path}/a.tar/") for item in found.skipped)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (tar_bytes([("a.json", b"{}")]), DataError, "no clip can be used: no member of them is a sound"),
        (
            tar_bytes([("a.wav", b"words")]),
            DataError,
            r"no clip can be used: 1 skipped: .*b\.tar/a\.wav: not a sound",
        ),
        (b"words" * 500, ShardError, r"b\.tar: no tar, or damaged at byte 0"),
    ],
)
def test_nothing_to_use(content: bytes, error: type[Exception], message: str, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(error, match=message):
        list_shards(str(tmp_path / "b.tar"))


def test_streams_are_read_once(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", [2, 3])
    data, cache = f"{tmp_path}/shards/{{000,001}}.tar", tmp_path / "shards.parquet"
    found = list_shards(f"local://{data}", cache)
    assert places(found.clips) == places(list_shards(data).clips)
    shutil.rmtree(tmp_path / "shards")
    assert list_shards(f"local://{data}", cache) == found


def test_http_with_and_without_index(packed: Path) -> None:
    with local_server() as server:
        server.files = {f"/{path.name}": path.read_bytes() for path in packed.iterdir()}
        data = f"{server.url}/{{000000..{len(list(packed.glob('*.tar'))) - 1:06d}}}.tar"
        local, found = list_shards(str(packed)), list_shards(data)
        assert places(found.clips) == places(local.clips)
        assert [clip.identity for clip in found.clips] == [clip.identity for clip in local.clips]
        assert {path for _, path in server.log} == {"/index.json", "/clips.parquet"}
        del server.files["/index.json"]
        assert places(list_shards(data).clips) == places(local.clips)


def test_the_corpus_is_a_folder_or_shards(tmp_path: Path, packed: Path) -> None:
    assert len(list_corpus(str(tmp_path / "sounds"), tmp_path).clips) == 6
    assert (tmp_path / "clips.parquet").exists()
    assert len(list_corpus(str(packed), tmp_path).clips) == 6
