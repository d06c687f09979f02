"""Sounds inside of tars, decoded where they lie."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers.shard_files import sound_bytes, tar_bytes
from helpers.sound_files import GOOD, make_mixed_folder, make_sound
from matpac import audio
from matpac.audio import AudioError
from matpac.data.files import Clip, FileSounds
from matpac.data.shards import members as members_module
from matpac.data.shards.members import HeldSound, MemberTable, ShardClip


def tarred(shard: Path, content: dict[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> dict[str, ShardClip]:
    shard.write_bytes(tar_bytes(list(content.items()), kind))
    with tarfile.open(shard) as tar:
        return {info.name: clip_of(shard, info.name, info.offset_data, info.size) for info in tar}


def clip_of(shard: Path, name: str, offset: int, size: int) -> ShardClip:
    return ShardClip(f"{shard}/{name}", 0.3, str(shard), offset, size)


@pytest.fixture(params=[members_module.WHOLE_BYTES, 1000], ids=["in memory", "by a window"])
def _whole(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_module, "WHOLE_BYTES", request.param)


@pytest.mark.usefixtures("_whole")
def test_every_format_decodes_as_its_file_does(tmp_path: Path) -> None:
    files = make_mixed_folder(tmp_path / "mixed")
    path = tmp_path / "mixed" / "a.mp3"  # without length header
    soundfile.write(path, make_sound(44_100, 3.0), 44_100, bitrate_mode="CONSTANT", compression_level=0.5)
    path.write_bytes(path.read_bytes().replace(b"Xing", b"none", 1).replace(b"Info", b"none", 1))
    files["a.mp3"] = path
    content = {name: files[name].read_bytes() for name in (*GOOD, "a.mp3")}
    for name, sound in tarred(tmp_path / "a.tar", content).items():
        assert audio.info(sound).frames == audio.info(files[name]).frames
        whole = audio.read(files[name])
        np.testing.assert_array_equal(audio.read(sound), whole)
        np.testing.assert_array_equal(audio.read(HeldSound("x", content[name])), whole)
        for start in (0.0, 0.26):
            crop = audio.read_crop(files[name], start, 1600)
            np.testing.assert_array_equal(audio.read_crop(sound, start, 1600), crop)


def test_bad_members_are_audio_errors_with_their_names(tmp_path: Path) -> None:
    bad = {"empty.wav": b"", "text.wav": b"words" * 99, "cut.flac": sound_bytes(2.0)[:9000]}
    sounds = tarred(tmp_path / "a.tar", bad)
    for name, message in (("empty.wav", "empty"), ("text.wav", "not a sound"), ("cut.flac", "cut short")):
        with pytest.raises(AudioError, match=message) as error:
            audio.read(sounds[name])
        assert str(error.value).startswith(f"{tmp_path}/a.tar/{name}: ")


@pytest.mark.usefixtures("_whole")
def test_a_tar_that_changed_is_seen(tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    content = {name: sound_bytes(0.5, seed) for seed, name in enumerate(("a.flac", "b.flac"))}
    sound = tarred(shard, content)["b.flac"]
    assert len(audio.read(sound)) == 8000
    whole = shard.read_bytes()
    other = tar_bytes([("c.flac", whole[: sound.offset - 1024]), ("d.flac", b"1")])
    for changed in (other, whole.replace(b"b.flac", b"c.flac"), b"", whole[: sound.offset + 600]):
        shard.write_bytes(changed)
        with pytest.raises(AudioError, match=r"another member at byte|cut short"):
            audio.read(sound)
    shard.unlink()
    with pytest.raises(AudioError, match="the shard can't be read"):
        audio.read(sound)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["./a.flac", "long/" * 18 + "a.flac", "long/" * 30 + "a.flac", "Ümläut/ж.flac"])
def test_names_of_all_kinds(kind: int, name: str, tmp_path: Path) -> None:
    if kind == tarfile.USTAR_FORMAT and len(name) > 100:
        return  # it has no such names
    content = sound_bytes(0.5)
    (sound,) = tarred(tmp_path / "a.tar", {name: content}, kind).values()
    with clip_of(tmp_path / "a.tar", name.removeprefix("./"), sound.offset, sound.size).open() as file:
        assert file.read() == content


def test_a_window_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_module, "WHOLE_BYTES", 100)
    content = bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8))
    sound = tarred(tmp_path / "a.tar", {"a": b"before", "b.wav": content, "c": b"after"})["b.wav"]
    with sound.open() as file:
        like = io.BytesIO(content)
        for offset, whence, count in [(0, 0, 10), (-20, 2, 50), (100, 0, -1), (-300, 1, 200), (9999, 0, 5)]:
            assert file.seek(offset, whence) == like.seek(offset, whence)
            assert file.read(count) == like.read(count)
            assert file.tell() == like.tell()


def test_identity_depends_on_the_content_and_not_on_the_place() -> None:
    one = ShardClip("/a/000.tar/k.flac", 1.0, "/a/000.tar", 512, 9, "abc")
    other = ShardClip("/b/7.tar/k.flac", 1.0, "/b/7.tar", 512, 9, "abc")
    assert one.identity == other.identity == "abc/k.flac"
    assert ShardClip("/a/0.tar/k.flac", 1.0, "/a/0.tar", 512, 9).identity == "/a/0.tar/k.flac"
    assert Clip("/a/k.flac", 1.0).identity == Clip("/a/k.flac", 1.0).source == "/a/k.flac"


def test_a_table_gives_what_it_got_in_little_memory() -> None:
    names = [*(f"{number}ж.flac" for number in range(2000)), "a" * 60_000 + ".flac"]  # one takes its own room
    clips = [ShardClip(f"/{n % 2}.tar/{name}", n / 8, f"/{n % 2}.tar", 512 * n, n) for n, name in enumerate(names)]
    table, files = MemberTable(clips), FileSounds(clips)
    assert [table.sound(5, number, replaces=False) for number in range(2001)] == clips
    assert [files.sound(0, number, replaces=False) for number in range(2001)] == [clip.path for clip in clips]
    assert len(table) == 2001
    assert len(pickle.dumps((table, files))) < 400_000
