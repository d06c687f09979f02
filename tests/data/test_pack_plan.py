"""Which file goes into which shard, and what happens when the source is another one."""

import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sound_files import make_mixed_folder, write_sound
from matpac.data.files import DataError
from matpac.data.packing import plan as plan_module
from matpac.data.packing.encode import planned_bytes
from matpac.data.packing.plan import Settings, SourceFile, _assign, agree, make_plan
from matpac.data.packing.pool import PackError

SMALL = Settings("pcm16", 2**17)


@settings(max_examples=80)
@given(st.lists(st.floats(0.1, 20), max_size=40), st.sampled_from(["flac", "pcm16"]), st.integers(2**16, 2**21))
def test_shards_are_full_but_not_more(lengths: list[float], encoding: str, size: int) -> None:
    clips = {f"{number:03d}": seconds for number, seconds in enumerate(lengths)}
    found = _assign(clips, Settings(encoding, size))
    assert found.keys() == clips.keys()
    sizes: dict[int, list[int]] = defaultdict(list)
    for path, shard in found.items():
        content = planned_bytes(clips[path], encoding)
        sizes[shard].append(content + -content % 512 + 1536)
    assert sorted(sizes) == list(range(len(sizes)))
    largest = max(map(max, sizes.values()), default=0)
    for shard, parts in sizes.items():
        assert len(parts) == 1 or sum(parts) <= size
        if shard < len(sizes) - 1:
            assert sum(parts) > size - largest


def test_shards_are_mixed_and_do_not_change() -> None:
    clips = {f"{number:03d}": 1.0 for number in range(200)}
    found = _assign(clips, Settings("pcm16", 2**20))
    assert found == _assign(dict(reversed(clips.items())), Settings("pcm16", 2**20))
    first = [path for path, shard in found.items() if shard == 0]
    assert min(first) < "020"
    assert max(first) > "180"


def test_plan_of_a_mixed_folder(tmp_path: Path) -> None:
    files = make_mixed_folder(tmp_path / "mixed")
    plan = make_plan(str(tmp_path / "mixed"), SMALL, tmp_path / "cache")
    assert [file.number for file in plan] == list(range(len(plan)))
    assert {file.source: Path(file.path) for file in plan} == dict(files)
    for file in plan:
        state = files[file.source].stat()
        assert (file.bytes, file.modified) == (state.st_size, state.st_mtime_ns)
        assert (file.shard < 0) == bool(file.reason) == (file.source in {"empty.wav", "text.wav", "click.wav"})
    assert [file.key for file in plan][:2] == ["000000000", "000000001"]


def test_recordings_longer_than_a_member_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "LONGEST_SECONDS", 1.5)
    for seconds in (1.0, 2.0):
        write_sound(tmp_path / f"{seconds}.wav", 8_000, seconds)
    plan = make_plan(str(tmp_path), SMALL, None)
    assert [(file.source, file.reason) for file in plan] == [
        ("1.0.wav", ""),
        ("2.0.wav", "longer than 0.0 h; cut it into parts"),
    ]


def test_names_outside_of_the_source_are_whole(tmp_path: Path) -> None:
    outside = write_sound(tmp_path / "other" / "a.wav", 8_000, 1.0)
    inside = write_sound(tmp_path / "here" / "b.wav", 8_000, 1.0)
    table = tmp_path / "here" / "t.csv"
    table.write_text(f"path,label\n{outside},dog\nb.wav,cat\n")
    plan = make_plan(str(table), SMALL, None)
    assert {file.source: file.labels for file in plan} == {str(outside): ["dog"], "b.wav": ["cat"]}
    assert [file.source for file in make_plan(str(inside), SMALL, None)] == ["b.wav"]


# --- kept, and compared ------------------------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path: Path) -> tuple[str, Path, list[SourceFile]]:
    make_mixed_folder(tmp_path / "mixed")
    (tmp_path / "shards" / ".pack").mkdir(parents=True)
    plan = agree(tmp_path / "shards", str(tmp_path / "mixed"), SMALL)
    return str(tmp_path / "mixed"), tmp_path / "shards", plan


Begun = tuple[str, Path, list[SourceFile]]


def test_the_same_source_gives_the_plan_that_was_kept(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder, plan = begun
    assert agree(folder, source, SMALL) == plan
    monkeypatch.setattr(
        plan_module, "_assign", lambda clips, settings: dict.fromkeys(clips, 7)
    )  # of another version
    assert agree(folder, source, SMALL) == plan


def test_a_moved_source_is_the_same(begun: Begun) -> None:
    source, folder, plan = begun
    moved = Path(source).with_name("moved")
    Path(source).rename(moved)
    assert [replace(file, path="") for file in agree(folder, str(moved), SMALL)] == [
        replace(file, path="") for file in plan
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("flac", 2**17), "--format pcm16 → flac"),
        (Settings("pcm16", 2**18), "--shard_size 131072 → 262144"),
        (Settings("flac", 2**18), "--format pcm16 → flac, --shard_size 131072 → 262144"),
    ],
)
def test_other_settings_are_refused_by_name(begun: Begun, settings: Settings, message: str) -> None:
    source, folder, _ = begun
    with pytest.raises(
        PackError, match=f"began with other settings: {message}; give the same, or another --output"
    ):
        agree(folder, source, settings)


def change(source: Path) -> None:
    write_sound(source / "stereo_44k.wav", 44_100, 1.0)


def touch(source: Path) -> None:
    os.utime(source / "text.wav", ns=(0, 0))


def remove(source: Path) -> None:
    (source / "album/mono_16k.mp3").unlink()


def add(source: Path) -> None:
    write_sound(source / "new.wav", 8_000, 1.0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (change, "stereo_44k.wav has changed"),
        (touch, "text.wav has changed"),
        (remove, "album/mono_16k.mp3 is gone"),
        (add, "new.wav is new"),
    ],
)
def test_another_source_is_refused_by_name(begun: Begun, act, message: str) -> None:
    source, folder, _ = begun
    act(Path(source))
    with pytest.raises(PackError, match=f"the source is not the one .*: {message}; restore it, or give another"):
        agree(folder, source, SMALL)
    add(Path(source))
    if act is not add:
        with pytest.raises(PackError, match=f"{message}, and 1 more differences"):
            agree(folder, source, SMALL)


def test_other_labels_are_another_source(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", 8_000, 1.0)
    (tmp_path / "t.csv").write_text("path,label\na.wav,dog\n")
    (tmp_path / "shards" / ".pack").mkdir(parents=True)
    agree(tmp_path / "shards", str(tmp_path / "t.csv"), SMALL)
    (tmp_path / "t.csv").write_text("path,label\na.wav,cat\n")
    with pytest.raises(PackError, match=r"a\.wav has changed"):
        agree(tmp_path / "shards", str(tmp_path / "t.csv"), SMALL)


def test_a_folder_of_other_tars_is_left_alone(tmp_path: Path) -> None:
    make_mixed_folder(tmp_path / "mixed")
    (tmp_path / "a.tar").write_bytes(b"mine")
    with pytest.raises(PackError, match=r"holds a\.tar, which matpac pack did not write; choose another folder"):
        agree(tmp_path, str(tmp_path / "mixed"), SMALL)


def test_nothing_to_pack(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sound file in this folder"):
        make_plan(str(tmp_path), SMALL, None)
