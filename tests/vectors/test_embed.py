"""`matpac embed`: one table of a folder's files; a folder is brought up to date, by one process or many."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import dataset

import matpac
from helpers.sound_files import BAD, GOOD, write_sound
from helpers.tiny_encoder import tiny
from matpac import MatpacError, read
from matpac.cli import main
from matpac.machine import Share
from matpac.vectors.embed import Embedded, EmbedOptions, embed_files
from matpac.vectors.states import path_text

ENCODER = tiny()


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(matpac.save(ENCODER, tmp_path_factory.mktemp("encoder") / "tiny.safetensors"))


def embed(sources: list[Path], output: Path | str, **options: bool) -> Embedded:
    return embed_files([str(source) for source in sources], ENCODER, EmbedOptions(str(output), **options))


def as_process(patch: pytest.MonkeyPatch, rank: int, count: int) -> None:
    patch.setenv("RANK", str(rank))
    patch.setenv("WORLD_SIZE", str(count))


def rows_of(output: Path) -> list[dict]:
    table = dataset.dataset(output).to_table()
    keys = [(name, "ascending") for name in ("path", "layer", "time") if name in table.column_names]
    return table.sort_by(keys).to_pylist()


def assert_same(found: Path, expected: Path) -> None:
    for one, other in zip(rows_of(found), rows_of(expected), strict=True):
        assert one.pop("vector") == pytest.approx(other.pop("vector"), abs=1e-5)
        assert one == other


@pytest.mark.parametrize("layers", [False, True])
@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("output", ["v.parquet", "v.npz", "v"])
def test_rows_are_the_encoders(
    frames: bool, layers: bool, output: str, mixed_folder: Path, tmp_path: Path
) -> None:
    result = embed([mixed_folder], tmp_path / output, frames=frames, layers=layers)
    assert {Path(item.path).name for item in result.skipped} == BAD
    assert not any(item.reason.startswith(item.path) for item in result.skipped)
    if output == "v.npz":
        with np.load(tmp_path / output, allow_pickle=False) as found:
            paths, vectors, about = found["path"].tolist(), found["vectors"], str(found["matpac"])
            times = found["time"].tolist() if frames else None
    else:
        table = dataset.dataset(tmp_path / output).to_table()
        paths, vectors = table["path"].to_pylist(), np.array(table["vector"].to_pylist())
        times = table["time"].to_pylist() if frames else None
        about = (table.schema.metadata or {})[b"matpac"].decode()
    assert list(dict.fromkeys(paths)) == sorted(str(mixed_folder / name) for name in GOOD)
    seconds, start = 0.0, 0
    for path in dict.fromkeys(paths):
        waveform = read(path)
        seconds += len(waveform) / ENCODER.sample_rate
        which = "all" if layers else [-1]
        expected = ENCODER.scene(waveform, 16_000, layers=which)[0]
        if frames:
            expected, centres = ENCODER.frames(waveform, 16_000, layers=which)
            assert isinstance(expected, torch.Tensor)
            assert isinstance(centres, torch.Tensor)
            assert times is not None
            assert times[start : start + len(centres)] == pytest.approx(centres.tolist())
        expected = expected.reshape(-1, ENCODER.width)
        np.testing.assert_allclose(vectors[start : start + len(expected)], expected, atol=1e-5)
        start += len(expected)
    assert start == len(vectors)
    assert (result.files, result.seconds_of_audio) == (len(GOOD), pytest.approx(seconds))
    written = json.loads(about)
    assert (written["matpac"], written["encoder_key"]) == (matpac.__version__, ENCODER.key)
    assert (written["frames"], written["layers"], written["width"]) == (frames, layers, ENCODER.width)
    left = {path.name for path in tmp_path.rglob("*")} - {output, "part-00000.parquet", "_errors.jsonl", ".lock"}
    assert not left


def test_nothing_to_embed(mixed_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for sources, named in (
        ([mixed_folder / "empty.wav", mixed_folder / "text.wav"], "empty.wav"),
        ([tmp_path / "none"], "none"),
        ([tmp_path / "missing.wav"], "missing.wav"),
    ):
        with pytest.raises(MatpacError, match=named):
            embed(sources, tmp_path / "v.parquet")
    with pytest.raises(MatpacError, match="empty"):
        embed([mixed_folder / "empty.wav"], tmp_path / "parts")
    assert not (tmp_path / "v.parquet").exists()


def test_an_output_without_suffix_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "there.parquet").mkdir()
    outputs = {"v": True, "v.parquet": False, "v.npz": False, "v.parquet/": True, "there.parquet": True}
    for output, is_folder in outputs.items():
        assert EmbedOptions(f"{tmp_path}/{output}").is_folder == is_folder


@pytest.mark.parametrize("options", [{}, {"frames": True, "layers": True}])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_parts_of_all_processes_are_the_one_table(
    count: int, options: dict, mixed_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed([mixed_folder], tmp_path / "one.parquet", **options)
    files, skipped = 0, set()
    for rank in range(count):
        as_process(monkeypatch, rank, count)
        result = embed([mixed_folder], tmp_path / "parts", **options)
        files += result.files
        skipped |= {Path(item.path).name for item in result.skipped}
        assert result.share == Share(rank, count)
    assert (files, skipped) == (len(GOOD), BAD)
    assert_same(tmp_path / "parts", tmp_path / "one.parquet")
    if count > 1:
        with pytest.raises(MatpacError, match="v/"):
            embed([mixed_folder], tmp_path / "v.parquet")


def test_a_folder_is_brought_up_to_date(tmp_path: Path) -> None:
    """New and changed files are embedded, vanished ones named and kept; errors wait for the file to change."""
    sounds, parts = tmp_path / "sounds", tmp_path / "parts"
    for name in ("same", "changed", "gone", "mended", "link"):
        write_sound(sounds / f"{name}.wav", 16_000, 0.5)
    (sounds / "bad.wav").write_text("no sound")
    (sounds / "mended.wav").write_text("no sound")
    (sounds / "link.wav").rename(tmp_path / "target.wav")
    (sounds / "link.wav").symlink_to(tmp_path / "target.wav")
    first = embed([sounds], parts)
    assert (first.files, first.found, first.recomputed, len(first.skipped)) == (4, 0, 0, 2)
    again = embed([sounds], parts)
    assert (again.files, again.found) == (0, 4)
    assert {(item.path, item.reason) for item in again.skipped} == {(i.path, i.reason) for i in first.skipped}

    write_sound(sounds / "changed.wav", 16_000, 0.7, seed=1)
    write_sound(sounds / "mended.wav", 16_000, 0.3)
    write_sound(sounds / "new.wav", 16_000, 0.4)
    (sounds / "gone.wav").unlink()
    (tmp_path / "target.wav").unlink()
    (sounds / "link.wav").unlink()
    result = embed([sounds], parts)
    assert (result.files, result.recomputed, result.found) == (3, 1, 1)
    assert [Path(item.path).name for item in result.skipped] == ["bad.wav"]
    assert sorted(Path(path).name for path in result.gone) == ["gone.wav", "link.wav"]
    embed([sounds], tmp_path / "fresh.parquet")
    there = {row["path"]: row for row in rows_of(parts)}
    for row in rows_of(tmp_path / "fresh.parquet"):
        assert there.pop(row["path"])["vector"] == pytest.approx(row["vector"], abs=1e-5)
    assert {Path(path).name for path in there} == {"gone.wav", "link.wav"}

    (sounds / "changed.wav").write_text("no sound any more")
    assert {Path(item.path).name for item in embed([sounds], parts).skipped} == {"bad.wav", "changed.wav"}
    assert str(sounds / "changed.wav") not in {row["path"] for row in rows_of(parts)}


def test_relative_names_from_another_folder_are_other_sounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("p", "q"):
        write_sound(tmp_path / place / "a.wav", 16_000, 0.5)
    monkeypatch.chdir(tmp_path / "p")
    assert embed([Path()], tmp_path / "parts").files == 1
    assert embed([Path()], tmp_path / "parts").found == 1
    monkeypatch.chdir(tmp_path / "q")
    with pytest.raises(MatpacError, match=str(tmp_path / "p")):
        embed([Path()], tmp_path / "parts")
    assert embed([tmp_path / "q"], tmp_path / "parts").files == 1
    monkeypatch.chdir(tmp_path / "p")
    assert embed([tmp_path / "q", Path()], tmp_path / "parts").found == 2


@pytest.mark.parametrize("output", ["v.parquet", "v"])
def test_names_that_are_not_utf8_are_kept_apart(output: str, mixed_folder: Path, tmp_path: Path) -> None:
    odd = [tmp_path / "sounds" / os.fsdecode(name) for name in (b"s\xff.wav", b"s\xfe.wav", b"s\\udcff.wav")]
    odd[0].parent.mkdir()
    for path in odd:
        path.write_bytes((mixed_folder / "short_8k.aiff").read_bytes())
    assert embed([tmp_path / "sounds"], tmp_path / output).files == 3
    assert {row["path"] for row in rows_of(tmp_path / output)} == set(map(path_text, odd))


def test_the_command(
    mixed_folder: Path, encoder_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    given = ["--encoder", encoder_file, "--output", f"{tmp_path}/vectors/", "--device", "cpu"]
    assert main(["embed", str(mixed_folder / "album"), *given]) == 0
    assert main(["embed", str(mixed_folder), *given]) == 1
    shown = capsys.readouterr()
    assert "3 files, " in shown.out
    assert shown.out.endswith("3 already there; 4 files skipped\n")
    assert sum(line.startswith("skipped: ") for line in shown.err.splitlines()) == 4
    as_process(monkeypatch, 1, 2)
    assert main(["embed", str(mixed_folder), *given]) == 0  # 1 would stop the other processes
    assert "(process 1 of 2): 0 files" in capsys.readouterr().out


SLOW_RUN = """
import os, sys, time
import matpac
from matpac.vectors import embed, store
from matpac.vectors.embed import EmbedOptions, embed_files
add, added = store.VectorStore.add, []
def slow(self, *arguments):
    add(self, *arguments)
    self.commit()
    added.append(1)
    if len(added) == int(sys.argv[4]):
        os.kill(os.getpid(), 9)
    time.sleep(0.02)
store.VectorStore.add = slow
result = embed_files([sys.argv[1]], matpac.load(sys.argv[2]), EmbedOptions(sys.argv[3], batch_size=1))
print(result.files + result.found)
"""


def start(folder: Path, encoder_file: str, output: Path, die_after: int) -> subprocess.Popen:
    command = [sys.executable, "-c", SLOW_RUN, str(folder), encoder_file, str(output), str(die_after)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_run_resumes(mixed_folder: Path, encoder_file: str, tmp_path: Path) -> None:
    process = start(mixed_folder, encoder_file, tmp_path / "parts", 3)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    (tmp_path / "parts" / ".draft.parquet").write_text("what a process killed in a commit leaves")
    result = embed([mixed_folder], tmp_path / "parts")
    assert (result.found, result.files) == (3, len(GOOD) - 3)
    embed([mixed_folder], tmp_path / "one.parquet")
    assert_same(tmp_path / "parts", tmp_path / "one.parquet")
    assert not list((tmp_path / "parts").glob(".draft*"))


@pytest.mark.slow
def test_the_same_command_twice_at_once(mixed_folder: Path, encoder_file: str, tmp_path: Path) -> None:
    processes = [start(mixed_folder, encoder_file, tmp_path / "parts", 0) for _ in range(2)]
    for process in processes:
        found, _ = process.communicate(timeout=120)
        assert (process.returncode, int(found)) == (0, len(GOOD))
    embed([mixed_folder], tmp_path / "one.parquet")
    assert_same(tmp_path / "parts", tmp_path / "one.parquet")
