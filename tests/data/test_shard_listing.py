"""Which shards a name means, and which clips are in them."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.local_server import Local, Reply, local_server
from helpers.shard_files import sound_bytes, tar_bytes, write_shards
from helpers.sound_files import make_mixed_folder, write_sound
from matpac import audio
from matpac.data import corpus
from matpac.data.files import DataError
from matpac.data.packing.pack import PackOptions, pack
from matpac.data.shards import listing
from matpac.data.shards.addresses import (
    TRIES,
    beside,
    find_shards,
    is_url,
    names_shards,
    open_address,
    read_address,
)
from matpac.data.shards.listing import list_shards
from matpac.data.shards.members import ShardClip
from matpac.data.shards.tar import CutShortError, ShardError
from matpac.errors import Skipped

CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="WebDataset reads http by curl")


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    for seed in range(6):
        write_sound(tmp_path / "sounds" / f"{seed}.wav", 16_000, 0.5 + 0.1 * seed, seed=seed)
    pack(PackOptions(str(tmp_path / "sounds"), str(tmp_path / "shards"), "pcm16", 2**16, workers=1))
    return tmp_path / "shards"


@pytest.fixture
def server() -> Iterator[Local]:
    with local_server() as local:
        yield local


# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", ["a.tar", "x/{000..007}.tar", "pipe:cat a b", "http://h/{1,2}.tar", "s3://b/k.tar"]
)
def test_what_means_shards(data: str) -> None:
    assert names_shards(data)


def test_what_does_not(tmp_path: Path, packed: Path) -> None:
    (tmp_path / "odd{1,2}.tar folder").mkdir()
    for data in ("sounds", "clips.csv", "a.wav", "c:/clips", str(tmp_path / "odd{1,2}.tar folder"), "{a,b}/x.wav"):
        assert not names_shards(data), data
    assert names_shards(str(packed))


def test_patterns_are_expanded_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(path) for path in write_shards(tmp_path, [1] * 12)]
    assert find_shards(f"{tmp_path}/{{000..011}}.tar") == paths
    assert find_shards(f"{tmp_path}/{{003,001}}.tar::{tmp_path}/009.tar") == [paths[3], paths[1], paths[9]]
    assert find_shards(f"file://{tmp_path}/{{000..001}}.tar") == paths[:2]
    assert find_shards("pipe:cat {a,b}.tar") == ["pipe:cat a.tar", "pipe:cat b.tar"]
    monkeypatch.chdir(tmp_path)
    assert find_shards("{000..001}.tar") == paths[:2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{000..002}.tar", r"002\.tar: no such shard \(1 of 3 are missing\); check"),
        ("{000..001.tar", "a brace is open"),
        ("{000,001,000}.tar", r"000\.tar: named twice"),
        ("{0..9999999}.tar", "more than 1,000,000 shards"),
    ],
)
def test_patterns_that_cannot_be(data: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path, [1, 1])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ShardError, match=message):
        find_shards(data)


def test_what_lies_beside() -> None:
    assert beside("/a/b.tar", "index.json") == "/a/index.json"
    assert beside("https://h/a/b.tar?key=1", "index.json") == "https://h/a/index.json?key=1"
    assert beside("s3://bucket/b.tar", "index.json") == "s3://bucket/index.json"
    assert beside("pipe:cat b.tar", "index.json") is None
    assert [is_url(a) for a in ("/a:b.tar", "C:/b.tar", "pipe:x", "hf://a/b.tar")] == [False, False, True, True]


# --- with an index -----------------------------------------------------------------------------------------


def places(clips: list) -> list[tuple[str, float, int, int]]:
    return [(Path(clip.path).name, round(clip.duration, 4), clip.offset, clip.size) for clip in clips]


def test_clips_of_a_packed_folder(packed: Path) -> None:
    found = list_shards(str(packed))
    assert not found.remote
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
    with pytest.raises(ShardError, match="packing it has not ended"):
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


def test_the_cache_saves_going_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = write_shards(tmp_path / "shards", [2, 0, 3])
    read: list[str] = []
    original = listing._sounds

    def counting(address: str, done: int) -> Iterator:
        read.append(Path(address).name)
        return original(address, done)

    monkeypatch.setattr(listing, "_sounds", counting)
    data, cache = f"{tmp_path}/shards/{{000..002}}.tar", tmp_path / "run" / "shards.parquet"
    first = list_shards(data, cache)
    assert sorted(read) == ["000.tar", "001.tar", "002.tar"]
    read.clear()
    assert list_shards(data, cache) == first
    assert read == []
    os.utime(shards[1], ns=(0, 0))
    assert list_shards(data, cache) == first
    assert read == ["001.tar"]
    cache.write_text("words")
    with pytest.raises(DataError, match=r"not a list of shards' clips .*remove it"):
        list_shards(data, cache)


@pytest.mark.parametrize("error", [ShardError("damaged"), KeyboardInterrupt()])
def test_what_is_known_is_kept_whatever_ends_it(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(tmp_path / "shards", [2, 1, 3])
    read: list[str] = []
    original = listing._sounds

    def failing_once(address: str, done: int) -> Iterator:
        read.append(Path(address).name)
        if len(read) == 3:
            raise error
        return original(address, done)

    monkeypatch.setattr(listing, "_sounds", failing_once)
    data, cache = f"{tmp_path}/shards/{{000..002}}.tar", tmp_path / "shards.parquet"
    with pytest.raises(type(error)):
        list_shards(data, cache, workers=1)
    assert len(list_shards(data, cache, workers=1).clips) == 6
    assert read == ["000.tar", "001.tar", "002.tar", "002.tar"]


def test_what_is_known_is_kept_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path / "shards", [1, 1, 1])
    written: list[int] = []
    original = listing._write_cache

    def counting(cache: Path, known: dict) -> None:
        written.append(len(known))
        original(cache, known)

    monkeypatch.setattr(listing, "_write_cache", counting)
    monkeypatch.setattr(listing, "KEEP_SECONDS", -1.0)
    data, cache = f"{tmp_path}/shards/{{000..002}}.tar", tmp_path / "shards.parquet"
    found = list_shards(data, cache)
    assert written == [1, 2, 3, 3]
    assert list_shards(data, cache) == found


def test_an_error_ends_the_other_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path, [1, 1])

    def sounds(address: str, done: int) -> Iterator:
        while address.endswith("000.tar"):
            time.sleep(0.001)
            yield listing._Row("a.wav", 512, 9, 1.0, "")
        raise ShardError("damaged")

    monkeypatch.setattr(listing, "_sounds", sounds)
    with pytest.raises(ShardError, match="damaged"):
        list_shards(f"{tmp_path}/{{000..001}}.tar", workers=2)


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


def test_pipes_are_gone_through_once(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", [2, 3])
    data = f"pipe:echo >> {tmp_path}/log; cat {tmp_path}/shards/{{000,001}}.tar"
    cache = tmp_path / "shards.parquet"
    found = list_shards(data, cache)
    assert found.remote
    plain = list_shards(f"{tmp_path}/shards/{{000,001}}.tar")
    assert places(found.clips) == places(plain.clips)
    assert list_shards(data, cache) == found
    assert (tmp_path / "log").read_text() == "\n" * 2


@CURL
def test_http_with_and_without_index(packed: Path, tmp_path: Path, server: Local) -> None:
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


@CURL
def test_transfers_that_fail(server: Local) -> None:
    with pytest.raises(CutShortError, match=r"ended with 22\); tried 4 times"):
        list_shards(f"{server.url}/gone.tar")
    assert [path for _, path, _ in server.log].count("/gone.tar") == TRIES
    server.files["/a.tar"] = tar_bytes([(f"{seed}.flac", sound_bytes(0.5, seed)) for seed in range(3)])
    plain = list_shards(f"{server.url}/a.tar")
    assert len(plain.clips) == 3
    size = len(server.files["/a.tar"])
    breaks = [Reply(cut=900)] * (TRIES - 1)
    server.replies = [*breaks, Reply(cut=size // 2), *breaks[1:]]  # new clips come in between
    assert list_shards(f"{server.url}/a.tar") == plain
    assert not server.replies
    server.replies = [Reply(cut=900)] * TRIES
    with pytest.raises(CutShortError, match=r"a\.tar: cut short: .*ended with 18\); tried 4 times"):
        list_shards(f"{server.url}/a.tar")


def test_reading_all_of_an_address(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_address(str(tmp_path / "a"), 5) == read_address(f"pipe:cat {tmp_path}/a", 5) == b"12345"
    with pytest.raises(ShardError, match="more than 4 bytes"):
        read_address(f"pipe:cat {tmp_path}/a", 4)
    with pytest.raises(CutShortError, match="not there, or not to be read to its end"):
        read_address(f"pipe:cat {tmp_path}/gone 2>/dev/null", 4)
    with pytest.raises(ShardError, match="can't be read"):
        read_address(str(tmp_path), 4)
    with pytest.raises(ShardError, match="no gopen handler"), open_address("strange://x"):
        pass


def test_s3_is_read_by_its_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "aws"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1 $2 $3 $5" = "s3 cp --only-show-errors -" ] && cat "${4#s3://}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "it's; a.tar").write_bytes(tar_bytes([("a.flac", sound_bytes(0.5))]))
    found = list_shards("s3://bucket/it's; a.tar")
    assert found.clips[0].path == "s3://bucket/it's; a.tar/a.flac"
    assert found.skipped == []


def test_a_stream_left_early_leaves_no_process(tmp_path: Path) -> None:
    with open_address("pipe:yes") as stream:
        assert stream.read(2) == b"y\n"
        process = stream.proc  # type: ignore[attr-defined]
    assert process.returncode is not None


def test_the_corpus_is_a_folder_or_shards(tmp_path: Path, packed: Path) -> None:
    assert len(corpus.list_corpus(str(tmp_path / "sounds"), tmp_path).clips) == 6
    assert (tmp_path / "clips.parquet").exists()
    assert len(corpus.list_corpus(str(packed), tmp_path).clips) == 6
    assert corpus.list_corpus(str(packed)).skipped == list[Skipped]()
