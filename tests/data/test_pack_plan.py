"""Which file goes into which shard, and what happens when the source is another one."""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sound_files import make_mixed_folder, write_sound
from matpac.data.packing import plan as plan_module
from matpac.data.packing.plan import PackOptions, SourceFile, agree, assign, make_plan, planned_bytes
from matpac.data.packing.pool import PackError


def options(source: Path, output: Path | str = "", **changes: Any) -> PackOptions:
    return PackOptions(str(source), str(output), **{"encoding": "pcm16", "shard_size": 2**17, **changes})


@settings(max_examples=60)
@given(st.lists(st.floats(0.1, 20), max_size=40), st.sampled_from(["flac", "pcm16"]), st.integers(2**16, 2**21))
def test_shards_are_full_but_not_more(lengths: list[float], encoding: Any, size: int) -> None:
    clips = {f"{number:03d}": seconds for number, seconds in enumerate(lengths)}
    found = assign(clips, PackOptions("", "", encoding, size))
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
    found = assign(clips, PackOptions("", "", "pcm16", 2**20))
    assert found == assign(dict(reversed(clips.items())), PackOptions("", "", "pcm16", 2**20))
    first = [path for path, shard in found.items() if shard == 0]
    assert min(first) < "020"
    assert max(first) > "180"


def test_plan_of_a_mixed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "LONGEST_SECONDS", 2.9)
    files = make_mixed_folder(tmp_path / "mixed")
    plan = make_plan(options(tmp_path / "mixed"), tmp_path / "cache")
    assert [file.number for file in plan] == list(range(len(plan)))
    assert {file.source: Path(file.path) for file in plan} == dict(files)
    skipped = {"empty.wav", "text.wav", "click.wav", "album/stereo_22k.ogg"}
    for file in plan:
        state = files[file.source].stat()
        assert (file.bytes, file.modified) == (state.st_size, state.st_mtime_ns)
        assert (file.shard < 0) == bool(file.reason) == (file.source in skipped)
    assert {file.reason for file in plan if file.source.endswith("ogg")} == {
        "longer than 0.0 h; cut it into parts"
    }
    assert [file.key for file in plan][:2] == ["000000000", "000000001"]


def test_names_outside_of_the_source_are_whole(tmp_path: Path) -> None:
    outside = write_sound(tmp_path / "other" / "a.wav", 8_000, 1.0)
    inside = write_sound(tmp_path / "here" / "b.wav", 8_000, 1.0)
    table = tmp_path / "here" / "t.csv"
    table.write_text(f"path,label\n{outside},dog\nb.wav,cat\n")
    plan = make_plan(options(table), None)
    assert {file.source: file.labels for file in plan} == {str(outside): ["dog"], "b.wav": ["cat"]}
    assert [file.source for file in make_plan(options(inside), None)] == ["b.wav"]


# --- kept, and compared ------------------------------------------------------------------------------------

Begun = tuple[PackOptions, list[SourceFile]]


@pytest.fixture
def begun(tmp_path: Path) -> Begun:
    write_sound(tmp_path / "in" / "a.wav", 8_000, 1.0)
    write_sound(tmp_path / "in" / "b.wav", 8_000, 0.5)
    (tmp_path / "in" / "empty.wav").touch()
    (tmp_path / "in" / "t.csv").write_text("path,label\na.wav,dog\nb.wav,cat\nempty.wav,\n")
    (tmp_path / "shards" / ".pack").mkdir(parents=True)
    given = options(tmp_path / "in" / "t.csv", tmp_path / "shards")
    return given, agree(given)


def test_the_same_source_gives_the_plan_that_was_kept(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    given, plan = begun
    monkeypatch.setattr(plan_module, "assign", lambda clips, _: dict.fromkeys(clips, 7))  # of another version
    assert agree(given) == plan
    folder = Path(given.source).parent
    moved = folder.rename(folder.with_name("moved"))
    found = agree(replace(given, source=str(moved / "t.csv")))
    assert [replace(file, path="") for file in found] == [replace(file, path="") for file in plan]


def test_other_settings_are_refused_by_name(begun: Begun) -> None:
    with pytest.raises(PackError, match="settings: --format pcm16 → flac, --shard_size 131072 → 262144; "):
        agree(replace(begun[0], encoding="flac", shard_size=2**18))


def change(source: Path) -> None:
    write_sound(source / "a.wav", 8_000, 0.7)


def touch(source: Path) -> None:
    os.utime(source / "empty.wav", ns=(0, 0))


def relabel(source: Path) -> None:
    (source / "t.csv").write_text("path,label\na.wav,dog\nb.wav,cow\nempty.wav,\n")


def remove(source: Path) -> None:
    (source / "t.csv").write_text("path,label\na.wav,dog\nempty.wav,\n")


def add(source: Path) -> None:
    write_sound(source / "new.wav", 8_000, 1.0)
    (source / "t.csv").write_text("path,label\na.wav,dog\nb.wav,cow\nnew.wav,\nempty.wav,\n")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (change, "a.wav has changed"),
        (touch, "empty.wav has changed"),
        (relabel, "b.wav has changed"),
        (remove, "b.wav is gone"),
        (add, "b.wav has changed, and 1 more differences"),
    ],
)
def test_another_source_is_refused_by_name(begun: Begun, act: Callable[[Path], None], message: str) -> None:
    given, _ = begun
    act(Path(given.source).parent)
    with pytest.raises(PackError, match=f"the source is not the one .*: {message}; restore it, or give another"):
        agree(given)


def test_a_folder_of_other_tars_is_left_alone(begun: Begun, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"mine")
    with pytest.raises(PackError, match=r"holds a\.tar, which matpac pack did not write; choose another folder"):
        agree(replace(begun[0], output=str(tmp_path)))
