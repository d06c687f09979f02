"""Packing for real: what is in the shards, processes, bad files, a full disk."""

import json
import os
import shutil
import tarfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.packed_corpus import files_of, packed
from helpers.shard_files import decoded, members_of
from helpers.sound_files import BAD, write_sound
from matpac import audio
from matpac.data.packing import shard_files
from matpac.data.packing.plan import planned_bytes
from matpac.data.packing.pool import PackError
from matpac.data.packing.shard_files import to_16_bits
from matpac.data.packing.verify import verify
from matpac.data.shards.index import read_index

# --- what lies there ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["flac", "pcm16"])
def test_every_clip_is_there_once_with_its_sound(encoding: str, source: Path, tmp_path: Path) -> None:
    result = packed(source, tmp_path / "shards", encoding=encoding)
    suffix = {"flac": ".flac", "pcm16": ".wav"}[encoding]
    seen = {}
    for tar in sorted((tmp_path / "shards").glob("*.tar")):
        members = members_of(tar)
        for name in [name for name in members if name.endswith(suffix)]:
            about = json.loads(members[name.removesuffix(suffix) + ".json"])
            sound = decoded(members[name])
            assert about["duration"] == len(sound) / 16_000
            whole_sound = np.concatenate(list(audio.blocks(source / about["source"])))
            np.testing.assert_allclose(sound[:, 0], whole_sound, atol=0.5 / 32_768 + 1e-7)
            assert about["source"] not in seen
            seen[about["source"]] = len(sound)
            planned = planned_bytes(len(sound) / 16_000, encoding)
            assert 0.5 < planned / len(members[name]) < 2 if encoding == "flac" else planned == len(members[name])
    everything = {str(path.relative_to(source)) for path in audio.find_audio([source])}
    assert seen.keys() == everything - BAD
    assert result.index.clips == len(seen)
    assert result.index.seconds == pytest.approx(sum(seen.values()) / 16_000)
    assert {file.path for file in result.skipped} == BAD


@pytest.mark.parametrize("encoding", ["flac", "pcm16"])
def test_16_bits_at_16_khz_pass_without_loss(encoding: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-32_768, 32_768, 50_000).astype(np.int16)
    values[:2] = -32_768, 32_767
    soundfile.write(tmp_path / "a.wav", values, 16_000, subtype="PCM_16")
    packed(tmp_path / "a.wav", tmp_path / "shards", encoding=encoding)
    (sound,) = (c for name, c in members_of(tmp_path / "shards" / "000000.tar").items() if "json" not in name)
    np.testing.assert_array_equal(decoded(sound)[:, 0] * 32_768, values)


@settings(deadline=None)
@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=50))
def test_rounding_and_clipping(values: list[float]) -> None:
    expected = [max(-32_768, min(32_767, round(value * 32_768))) for value in values]
    assert to_16_bits(np.array(values, np.float32)).tolist() == expected


def test_index_table_and_hashes(whole: Path, source: Path) -> None:
    index = read_index(whole)
    assert len(index.shards) > 2
    table = pq.read_table(whole / "clips.parquet").to_pylist()
    for number, shard in enumerate(index.shards):
        content = (whole / shard.name).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (shard.bytes, shard.sha256)
        rows = [row for row in table if row["shard"] == number]
        assert (len(rows), sum(row["samples"] for row in rows)) == (shard.clips, shard.samples)
        with tarfile.open(whole / shard.name) as tar:
            places = {info.name: (info.offset_data, info.size) for info in tar}
            assert {info.mtime for info in tar} == {0}
        for row in rows:
            assert places[row["name"]] == (row["offset"], row["size"])
            assert row["bytes"] == (source / row["source"]).stat().st_size
    left_out = [row for row in table if row["shard"] < 0]
    assert {row["source"] for row in left_out} == BAD
    assert all(row["reason"] and not row["name"] for row in left_out)
    lines = [json.loads(line) for line in (whole / "left_out.jsonl").read_text().splitlines()]
    assert {line["path"]: line["reason"] for line in lines} == {row["source"]: row["reason"] for row in left_out}
    names = {path.name for path in whole.iterdir() if path.suffix != ".tar"}
    assert names == {"index.json", "clips.parquet", "left_out.jsonl"}


def test_webdataset_reads_it(whole: Path) -> None:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    samples = []
    for path in sorted(whole.glob("*.tar")):
        with path.open("rb") as file:
            samples += group_by_keys(tar_file_expander(iter([{"url": path.name, "stream": file}])))
    assert len(samples) == len({sample["__key__"] for sample in samples}) == read_index(whole).clips
    for sample in samples:
        assert json.loads(sample["json"])["duration"] == len(decoded(sample["wav"])) / 16_000


def test_labels_come_from_the_table(source: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"path,labels\n{source}/more/0.wav,dog;ж\n{source}/more/1.wav,\n")
    packed(tmp_path / "t.csv", tmp_path / "shards")
    members = members_of(tmp_path / "shards" / "000000.tar")
    said = [json.loads(content) for name, content in members.items() if name.endswith(".json")]
    labels = sorted((Path(text["source"]).name, text.get("labels")) for text in said)
    assert labels == [("0.wav", ["dog", "ж"]), ("1.wav", None)]
    assert verify(tmp_path / "shards", 1).problems == []


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsencode(write_sound(tmp_path / "in" / "a.wav", 16_000, 0.5)).replace(b"a.wav", b"\xff\xe9.wav")
    (tmp_path / "in" / "a.wav").rename(os.fsdecode(name))
    packed(tmp_path / "in", tmp_path / "shards")
    members = members_of(tmp_path / "shards" / "000000.tar")
    assert json.loads(members["000000000.json"])["source"] == "\\xff\\xe9.wav"
    assert packed(tmp_path / "in", tmp_path / "shards").written == 0


def test_a_source_of_nothing_decodable(source: Path, tmp_path: Path) -> None:
    """Headers that promise sound: the shard is empty, and all is named."""
    result = packed(source / "cut.flac", tmp_path / "shards")
    assert result.index.clips == 0
    assert [file.path for file in result.skipped] == ["cut.flac"]
    assert verify(tmp_path / "shards", 1).problems == []


# --- processes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_write_the_same_bytes(source: Path, whole: Path, tmp_path: Path) -> None:
    result = packed(source, tmp_path / "shards", workers=2)
    assert result.written == len(result.index.shards)
    assert files_of(tmp_path / "shards") == files_of(whole)
    assert verify(tmp_path / "shards", 2) == verify(whole, 1)


def test_a_disk_that_refuses_is_one_clear_line_and_packing_resumes(
    source: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(1000))
    original = shard_files._add_member

    def full(*arguments: object) -> None:
        if next(calls) == 9:
            raise OSError(28, "No space left on device")
        original(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(shard_files, "_add_member", full)
        with pytest.raises(PackError, match=r"can't be written \(No space left on device\); make room "):
            packed(source, tmp_path / "shards")
    assert not list((tmp_path / "shards").glob(".*.tar-*"))
    packed(source, tmp_path / "shards")
    assert files_of(tmp_path / "shards") == files_of(whole)


def test_two_at_once_are_refused(source: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "gone")
    (tmp_path / "gone" / "000000.tar").unlink()
    for output in (tmp_path / "shards", tmp_path / "gone"):
        (output / ".pack").mkdir(parents=True)
        with FileLock(output / ".pack" / "lock"), pytest.raises(PackError, match="another matpac pack is"):
            packed(source, output)
