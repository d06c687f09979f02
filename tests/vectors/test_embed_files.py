"""`embed_files` on real small files: equal to one file at a time, bounded, and open about what it left out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

import matpac
from helpers.sound_files import GOOD, make_mixed_folder, write_sound
from helpers.tiny_encoder import tiny
from matpac import MatpacError, read
from matpac.vectors import embed_files as module

ENCODER = tiny()
RATE = ENCODER.sample_rate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make_mixed_folder`, and the name of one file a second time in another format."""
    root = tmp_path_factory.mktemp("mixed")
    make_mixed_folder(root)
    write_sound(root / "short_8k.wav", 16_000, 0.6, seed=50)
    return root


GOOD_NAMES = {*GOOD, "short_8k.wav"}
BAD_NAMES = {"empty.wav", "text.wav", "cut.flac", "click.wav"}


def embed(sources: list[Path], output: Path, **options: bool | int) -> module.Embedded:
    how = module.EmbedOptions(str(output), **options)  # type: ignore[arg-type]
    return module.embed_files([str(source) for source in sources], ENCODER, how)


def rows_of(output: Path) -> list[dict]:
    return parquet.read_table(output).to_pylist()


def test_scenes_equal_one_file_at_a_time(folder: Path, tmp_path: Path) -> None:
    result = embed([folder], tmp_path / "v.parquet")
    rows = {str(Path(row["path"]).relative_to(folder)): row for row in rows_of(tmp_path / "v.parquet")}
    assert rows.keys() == GOOD_NAMES
    for name, row in rows.items():
        waveform = read(folder / name)
        assert row["duration"] == pytest.approx(len(waveform) / RATE)
        expected = ENCODER.scene(waveform, RATE)[0]
        torch.testing.assert_close(torch.tensor(row["vector"]), expected, atol=1e-5, rtol=0)
    assert result.files == len(GOOD_NAMES)
    assert result.seconds_of_audio == pytest.approx(sum(row["duration"] for row in rows.values()))
    assert result.seconds > 0


def test_rows_come_in_the_order_of_the_files(folder: Path, tmp_path: Path) -> None:
    embed([folder / "stereo_44k.wav", folder / "album"], tmp_path / "v.parquet", batch_size=1)
    assert [Path(row["path"]).name for row in rows_of(tmp_path / "v.parquet")] == [
        *("stereo_44k.wav", "stereo_48k.OPUS", "mono_16k.mp3", "stereo_22k.ogg")
    ]


def test_bad_files_are_named_each_with_its_reason(folder: Path, tmp_path: Path) -> None:
    result = embed([folder], tmp_path / "v.parquet")
    reasons = {Path(path).name: reason for path, reason in result.skipped}
    assert reasons.keys() == BAD_NAMES
    assert len(result.skipped) == 4
    for path, reason in result.skipped:
        assert reason.startswith(f"{path}: ")
    assert "empty file" in reasons["empty.wav"]
    assert "not a sound file" in reasons["text.wav"]
    assert "cut short" in reasons["cut.flac"]
    assert reasons["click.wav"] == (
        f"{folder / 'click.wav'}: 20.0 ms of sound is shorter than one window (25 ms); remove it or pad it"
    )


def test_frames_have_times(folder: Path, tmp_path: Path) -> None:
    name = folder / "album" / "stereo_22k.ogg"
    embed([name], tmp_path / "v.parquet", frames=True)
    table = parquet.read_table(tmp_path / "v.parquet")
    frames, times = ENCODER.frames(read(name), RATE)
    assert isinstance(times, torch.Tensor)
    assert table["time"].to_pylist() == pytest.approx(times.tolist())
    found = torch.tensor(table["vector"].to_pylist())
    torch.testing.assert_close(found, frames[0], atol=1e-5, rtol=0)
    assert "layer" not in table.column_names


def test_layers_are_rows(folder: Path, tmp_path: Path) -> None:
    name = folder / "album" / "mono_16k.mp3"
    embed([name], tmp_path / "scene.parquet", layers=True)
    scene = ENCODER.scene(read(name), RATE, layers="all")[0]
    rows = rows_of(tmp_path / "scene.parquet")
    assert [row["layer"] for row in rows] == [0, 1]
    torch.testing.assert_close(torch.tensor([row["vector"] for row in rows]), scene, atol=1e-5, rtol=0)

    embed([name], tmp_path / "frames.parquet", layers=True, frames=True)
    frames, times = ENCODER.frames(read(name), RATE, layers="all")
    assert isinstance(times, torch.Tensor)
    rows = rows_of(tmp_path / "frames.parquet")
    for layer in (0, 1):
        mine = [row for row in rows if row["layer"] == layer]
        assert [row["time"] for row in mine] == pytest.approx(times.tolist())
        found = torch.tensor([row["vector"] for row in mine])
        torch.testing.assert_close(found, frames[0][layer], atol=1e-5, rtol=0)


def test_npz_holds_the_same(folder: Path, tmp_path: Path) -> None:
    for output in ("v.npz", "v.parquet"):
        embed([folder / "album"], tmp_path / output, frames=True)
    rows = rows_of(tmp_path / "v.parquet")
    with np.load(tmp_path / "v.npz", allow_pickle=False) as found:
        assert found["path"].tolist() == [row["path"] for row in rows]
        assert found["duration"].tolist() == [row["duration"] for row in rows]
        assert found["time"].tolist() == [row["time"] for row in rows]
        assert np.array_equal(found["vectors"], np.array([row["vector"] for row in rows], np.float32))


def test_the_file_says_what_made_it(folder: Path, tmp_path: Path) -> None:
    embed([folder / "album"], tmp_path / "v.parquet", frames=True)
    about = json.loads((parquet.read_schema(tmp_path / "v.parquet").metadata or {})[b"matpac"])
    assert about["matpac"] == matpac.__version__
    assert about["encoder"]["name"] == ENCODER.card.name
    assert about["network"]["width"] == 16
    assert about["logmel"]["mels"] == 16
    assert (about["frames"], about["layers"], about["width"]) == (True, False, ENCODER.width)
    assert about["hop_seconds"] == pytest.approx(0.16)


def test_nothing_to_embed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MatpacError, match=r"not one of 2 files could be embedded; the first: .*empty"):
        embed([folder / "empty.wav", folder / "text.wav"], tmp_path / "v.parquet")
    (tmp_path / "none").mkdir()
    with pytest.raises(MatpacError, match="none: no sound files there"):
        embed([tmp_path / "none"], tmp_path / "v.parquet")
    with pytest.raises(MatpacError, match=r"missing\.wav: no such file"):
        embed([tmp_path / "missing.wav"], tmp_path / "v.parquet")
    with pytest.raises(MatpacError, match="there is no folder"):
        embed([folder], tmp_path / "missing" / "v.parquet")
    with pytest.raises(MatpacError, match="a batch of 0 chunks"):
        embed([folder], tmp_path / "v.parquet", batch_size=0)
    assert [path.name for path in tmp_path.iterdir()] == ["none"]


def test_names_that_are_not_utf8(folder: Path, tmp_path: Path) -> None:
    odd = tmp_path / "s\udcffound.wav"
    odd.write_bytes((folder / "short_8k.wav").read_bytes())
    embed([odd], tmp_path / "v.parquet")
    assert rows_of(tmp_path / "v.parquet")[0]["path"] == str(tmp_path / "s\ufffdound.wav")
