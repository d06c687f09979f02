"""`matpac embed`: what it prints, and its exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

import matpac
from helpers.sound_files import GOOD, make_mixed_folder
from helpers.tiny_encoder import tiny
from matpac.cli import main
from matpac.files.save import save

BAD = {"empty.wav", "text.wav", "cut.flac", "click.wav"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    make_mixed_folder(root)
    return root


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(tiny(), tmp_path_factory.mktemp("encoder") / "tiny.safetensors"))


def test_embed_names_bad_files_and_exits_with_1(
    folder: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "v.parquet"
    assert main(["embed", str(folder), "--encoder", encoder, "--output", str(output)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{output}: {len(GOOD)} files, ")
    assert said.out.endswith("4 files skipped\n")
    lines = said.err.splitlines()
    assert {Path(line.removeprefix("skipped: ").split(": ")[0]).name for line in lines} == BAD
    assert all(line.startswith("skipped: ") for line in lines)
    table = parquet.read_table(output)
    about = json.loads((table.schema.metadata or {})[b"matpac"])
    assert about["encoder"]["name"] == encoder
    loaded = matpac.load(encoder)
    for row in table.to_pylist():
        expected = loaded.scene(matpac.read(row["path"]), loaded.sample_rate)[0]
        torch.testing.assert_close(torch.tensor(row["vector"]), expected, atol=1e-5, rtol=0)


def test_embed_with_all_good_exits_with_0(
    folder: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["embed", str(folder / "album"), str(folder / "stereo_44k.wav"), "--encoder", encoder]
    for spelling in ("--batch-size", "--batch_size"):
        output = tmp_path / f"{spelling}.npz"
        assert main([*given, "--output", str(output), spelling, "2", "--frames", "--layers"]) == 0
        assert capsys.readouterr().err == ""
        with np.load(output, allow_pickle=False) as found:
            assert set(found["layer"]) == {0, 1}
            assert len(set(found["path"])) == 4


def test_embed_with_all_bad_exits_with_2(
    folder: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [str(folder / name) for name in BAD]
    assert main(["embed", *bad, "--encoder", encoder, "--output", str(tmp_path / "v.parquet")]) == 2
    assert "not one of 4 files could be embedded" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
