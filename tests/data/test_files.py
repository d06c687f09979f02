"""Listing a corpus: what is a clip, what is skipped and why, and what the cache saves."""

import os
from pathlib import Path

import pytest

from helpers.sound_files import GOOD, make_mixed_folder, write_sound
from matpac import audio
from matpac.data.files import Clip, Corpus, DataError, list_clips
from matpac.errors import Skipped


@pytest.fixture
def mixed(tmp_path: Path) -> dict[str, Path]:
    return make_mixed_folder(tmp_path / "mixed")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose header is read from now on."""
    names: list[str] = []
    original = audio.info

    def counting(path: str | Path) -> audio.AudioInfo:
        names.append(Path(path).name)
        return original(path)

    monkeypatch.setattr(audio, "info", counting)
    return names


def test_a_folder_of_mixed_files(mixed: dict[str, Path]) -> None:
    files = list_clips(mixed["text.wav"].parent)
    found = {Path(clip.path): clip.duration for clip in files.clips}
    expected = {mixed[name]: seconds for name, (_, _, seconds, _, _) in GOOD.items()}
    expected[mixed["cut.flac"]] = 2.0  # its header is whole: only decoding shows the damage
    assert found == pytest.approx(expected)
    assert [clip.path for clip in files.clips] == sorted(map(str, expected))
    reasons = {Path(item.path).name: item.reason for item in files.skipped}
    assert set(reasons) == {"empty.wav", "text.wav", "click.wav"}
    assert reasons["empty.wav"].startswith("empty file (0 bytes)")
    assert reasons["text.wav"].startswith("not a sound file")
    assert reasons["click.wav"] == "too short: 0.020 s, at least 0.025 s are needed"


def test_min_seconds_relative_sources_and_single_files(
    mixed: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mixed["text.wav"].parent)
    files = list_clips(Path("album"), min_seconds=2.5)
    path = str(mixed["album/stereo_22k.ogg"])
    assert files.clips == [Clip(path, 3.0)]
    assert len(files.skipped) == 2
    assert list_clips(path) == Corpus([Clip(path, 3.0)], [])


def test_a_table(mixed: dict[str, Path]) -> None:
    root = mixed["text.wav"].parent
    rows = ["stereo_44k.wav", "gone.wav", str(mixed["mono_48k.flac"]), "album/mono_16k.mp3", "stereo_44k.wav"]
    (root / "corpus.csv").write_text("label,path\n" + "".join(f"a,{row}\n" for row in rows))
    files = list_clips(root / "corpus.csv")
    names = ["stereo_44k.wav", "mono_48k.flac", "album/mono_16k.mp3"]
    assert [clip.path for clip in files.clips] == [str(mixed[name]) for name in names]
    assert files.skipped == [Skipped(str(root / "gone.wav"), "no such file; check the path")]


def test_nothing_to_use(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such file or folder"):
        list_clips(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no sound file in this folder \(looked for .*\.flac.*\)"):
        list_clips(tmp_path)
    for number in range(5):
        (tmp_path / f"{number}.wav").touch()
    with pytest.raises(DataError, match=r"no clip can be used: 5 skipped: .*0\.wav: empty.*; and 2 more$"):
        list_clips(tmp_path)


def test_cache_saves_reading_headers(mixed: dict[str, Path], tmp_path: Path, opened: list[str]) -> None:
    root, cache = mixed["text.wav"].parent, tmp_path / "run" / "durations.parquet"
    first = list_clips(root, cache)
    assert sorted(opened) == sorted(path.name for path in mixed.values())
    opened.clear()
    assert list_clips(root, cache) == first
    assert opened == []
    write_sound(mixed["stereo_44k.wav"], 44_100, 1.25)
    os.utime(mixed["mono_48k.flac"], ns=(0, 0))
    mixed["click.wav"].unlink()
    added = write_sound(root / "new.wav", 8_000, 1.0)
    second = list_clips(root, cache)
    assert sorted(opened) == ["mono_48k.flac", "new.wav", "stereo_44k.wav"]
    assert Clip(str(added), 1.0) in second.clips
    assert Clip(str(mixed["stereo_44k.wav"]), 1.25) in second.clips


def test_order_does_not_depend_on_workers(mixed: dict[str, Path]) -> None:
    root = mixed["text.wav"].parent
    assert list_clips(root, workers=1) == list_clips(root, workers=16)
