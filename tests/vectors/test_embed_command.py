"""`matpac embed`: what it prints, and its exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

import matpac
from helpers.sound_files import BAD, GOOD
from matpac.cli import main


def test_embed_names_bad_files_and_exits_with_1(
    mixed_folder: Path, tiny_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "v.parquet"
    assert main(["embed", str(mixed_folder), "--encoder", tiny_file, "--output", str(output)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{output}: {len(GOOD)} files, ")
    assert said.out.endswith("4 files skipped\n")
    lines = said.err.splitlines()
    assert {Path(line.removeprefix("skipped: ").split(": ")[0]).name for line in lines} == BAD
    assert all(line.startswith("skipped: ") for line in lines)
    table = parquet.read_table(output)
    about = json.loads((table.schema.metadata or {})[b"matpac"])
    assert about["encoder"]["name"] == tiny_file
    loaded = matpac.load(tiny_file)
    for row in table.to_pylist():
        expected = loaded.scene(matpac.read(row["path"]), loaded.sample_rate)[0]
        torch.testing.assert_close(torch.tensor(row["vector"]), expected, atol=1e-5, rtol=0)


def test_embed_with_all_good_exits_with_0(
    mixed_folder: Path, tiny_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["embed", str(mixed_folder / "album"), str(mixed_folder / "stereo_44k.wav"), "--encoder", tiny_file]
    for spelling in ("--batch-size", "--batch_size"):
        output = tmp_path / f"{spelling}.npz"
        assert main([*given, "--output", str(output), spelling, "2", "--frames", "--layers"]) == 0
        assert capsys.readouterr().err == ""
        with np.load(output, allow_pickle=False) as found:
            assert set(found["layer"]) == {0, 1}
            assert len(set(found["path"])) == 4


def test_embed_with_all_bad_exits_with_2(
    mixed_folder: Path, tiny_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [str(mixed_folder / name) for name in BAD]
    assert main(["embed", *bad, "--encoder", tiny_file, "--output", str(tmp_path / "v.parquet")]) == 2
    assert "not one of 4 files could be embedded" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
