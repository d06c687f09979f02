"""Which shards a name means, and which clips are in them."""

import json
import shutil
from pathlib import Path

import pytest

from helpers.local_server import local_server
from helpers.shard_files import tar_bytes, write_shards
from helpers.sound_files import make_mixed_folder, write_sound
from matpac import audio
from matpac.data import corpus
from matpac.data.files import DataError
from matpac.data.packing.pack import PackOptions, pack
from matpac.data.shards.listing import list_shards
from matpac.data.shards.members import ShardClip
from matpac.data.shards.tar import ShardError
from matpac.errors import Skipped


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    for seed in range(6):
        write_sound(tmp_path / "sounds" / f"{seed}.wav", 16_000, 0.5 + 0.1 * seed, seed=seed)
    pack(PackOptions(str(tmp_path / "sounds"), str(tmp_path / "shards"), "pcm16", 2**16, workers=1))
    return tmp_path / "shards"


# --- with an index -----------------------------------------------------------------------------------------


def places(clips: list) -> list[tuple[str, float, int, int]]:
    return [(Path(clip.path).name, round(clip.duration, 4), clip.offset, clip.size) for clip in clips]


def test_clips_of_a_packed_folder(packed: Path) -> None:
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
    assert [clip.path for clip in some.clips] == [
        clip.path for name in (names[2], names[0]) for clip in found.clips if clip.path.startswith(str(name))
    ]
    assert len(list_shards(str(packed), min_seconds=0.75).clips) == 3


def test_the_scan_finds_what_the_index_says(packed: Path, tmp_path: Path) -> None:
    shutil.copytree(packed, tmp_path / "plain", ignore=shutil.ignore_patterns("*.json", "*.parquet", "*.jsonl"))
    count = len(list(packed.glob("*.tar")))
    scanned = list_shards(f"{tmp_path}/plain/{{000000..{count - 1:06d}}}.tar")
    assert places(scanned.clips) == places(list_shards(str(packed)).clips)


def test_a_shard_that_is_not_its_indexs(packed: Path) -> None:
    shard = packed / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(ShardError, match=r"000001\.tar: has \d+ bytes, and its index\.json says \d+: cut short"):
        list_shards(str(packed))
    assert list_shards(str(packed / "000000.tar")).clips
    shard.unlink()
    with pytest.raises(ShardError, match=r"000001\.tar: in its index\.json, and can't be read .*the matpac pack"):
        list_shards(str(packed))


def test_damaged_and_hostile_indices(packed: Path) -> None:
    said = json.loads((packed / "index.json").read_text())
    said["shards"][0]["name"] = "../../etc/x.tar"
    (packed / "index.json").write_text(json.dumps(said))
    with pytest.raises(ShardError, match=r"index\.json: no index .*'\.\./\.\./etc/x\.tar'"):
        list_shards(str(packed / "000000.tar"))
    shutil.rmtree(packed)
    (packed / ".pack").mkdir(parents=True)
    with pytest.raises(ShardError, match="its packing is not complete"):
        corpus.list_corpus(str(packed))


# --- without -----------------------------------------------------------------------------------------------


def test_other_peoples_shards(tmp_path: Path) -> None:
    mixed = make_mixed_folder(tmp_path / "mixed")
    members = [(f"{n}/{path.name}", path.read_bytes()) for n, path in enumerate(mixed.values())]
    (tmp_path / "a.tar").write_bytes(tar_bytes([*members, ("0/x.json", b"{}"), ("0/x.cls", b"3")]))
    found = list_shards(str(tmp_path / "a.tar"))
    assert {Path(clip.path).name for clip in found.clips} == {
        *("stereo_44k.wav", "mono_48k.flac", "stereo_22k.ogg", "mono_16k.mp3", "stereo_48k.OPUS", "short_8k.aiff"),
        "cut.flac",
    }
    reasons = {Path(item.path).name: item.reason for item in found.skipped}
    assert reasons.keys() == {"empty.wav", "text.wav", "click.wav"}
    assert reasons["empty.wav"].startswith("empty (0 bytes)")
    assert reasons["click.wav"] == "too short: 0.020 s, at least 0.025 s are needed"
    assert all(item.path.startswith(f"{tmp_path}/a.tar/") for item in found.skipped)


def test_nothing_to_use(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_bytes([("a.json", b"{}")]))
    (tmp_path / "b.tar").write_bytes(tar_bytes([("a.wav", b"words")]))
    with pytest.raises(DataError, match="no clip can be used: no member of them is a sound"):
        list_shards(str(tmp_path / "a.tar"))
    with pytest.raises(DataError, match=r"no clip can be used: 1 skipped: .*b\.tar/a\.wav: not a sound"):
        list_shards(str(tmp_path / "b.tar"))
    (tmp_path / "b.tar").write_bytes(b"words" * 500)
    with pytest.raises(ShardError, match=r"b\.tar: no tar, or damaged at byte 0"):
        list_shards(str(tmp_path / "b.tar"))


# --- streams -----------------------------------------------------------------------------------------------


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
        count = len(list(packed.glob("*.tar")))
        data = f"{server.url}/{{000000..{count - 1:06d}}}.tar"
        local = list_shards(str(packed))
        found = list_shards(data)
        assert places(found.clips) == places(local.clips)
        assert [clip.identity for clip in found.clips] == [clip.identity for clip in local.clips]
        assert {path for _, path, _ in server.log} == {"/index.json", "/clips.parquet"}
        del server.files["/index.json"]
        assert places(list_shards(data).clips) == places(local.clips)


def test_the_corpus_is_a_folder_or_shards(tmp_path: Path, packed: Path) -> None:
    assert len(corpus.list_corpus(str(tmp_path / "sounds"), tmp_path).clips) == 6
    assert (tmp_path / "clips.parquet").exists()
    assert len(corpus.list_corpus(str(packed), tmp_path).clips) == 6
    assert corpus.list_corpus(str(packed)).skipped == list[Skipped]()
