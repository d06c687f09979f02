"""`matpac export`: what it says, what it leaves out, and its errors."""

from pathlib import Path

import numpy as np
import pytest
import torch

import matpac
from helpers.sound_files import make_mixed_folder, write_sound
from helpers.tiny_encoder import tiny
from matpac.files.checkpoint import save
from matpac.files.onnx.checking import made_up_sounds
from matpac.interop.export_command import draw_sounds, run_export


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save(tiny(), tmp_path / "mine.safetensors")


def test_the_command(weights: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "x.onnx"
    assert run_export(["--encoder", str(weights), "--output", str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{target}: ")
    assert lines[0].endswith("MB, float32")
    assert "lengths from 0.03 to 0.71 s" in lines[1]
    assert lines[-1] == f"use it: matpac embed FILES --encoder {target} --output vectors.parquet"
    clip = made_up_sounds([9_000], 16_000)
    scene = matpac.load(target).scene(clip, 16_000)
    torch.testing.assert_close(scene, matpac.load(weights).scene(clip, 16_000), atol=1e-5, rtol=0)


def test_the_command_in_8_bits(weights: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "sounds"
    make_mixed_folder(folder)
    target = str(tmp_path / "x.onnx")
    arguments = ["--encoder", str(weights), "--output", target, "--int8", "static", "--calibrate", str(folder)]
    assert run_export([*arguments, "--keep-float", "*.fc1"]) == 1
    told = capsys.readouterr()
    assert "over 2 held-out sounds; 7 layers in 8 bits, 2 kept in float32" in told.out
    left_out = told.err.splitlines()
    assert len(left_out) == 4
    assert all(line.startswith(f"left out: {folder}") for line in left_out)
    assert run_export(["--encoder", str(weights), "--output", target, "--int8"]) == 0
    assert "int8 dynamic" in (shown := capsys.readouterr().out)
    assert "over 8 made-up sounds; 9 layers in 8 bits, 0 kept" in shown


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--int8", "static"], "--calibrate"),
        (["--int8", "int4"], "matpac export --help"),
        (["--colour"], "matpac export --help"),
        (["--calibrate", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_the_commands_errors(more: list[str], told: str, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(matpac.MatpacError, match=told) as caught:
        run_export(["--encoder", str(weights), "--output", str(tmp_path / "x.onnx"), *more])
    assert "\n" not in str(caught.value)


def test_sounds_are_drawn_the_same_every_time(tmp_path: Path) -> None:
    for number in range(5):
        write_sound(tmp_path / f"{number}.wav", 16_000, 0.2 + 0.1 * number, seed=number)
    encoder = tiny()
    first, left_out = draw_sounds(encoder, str(tmp_path), clips=3)
    again, _ = draw_sounds(encoder, str(tmp_path), clips=3)
    assert len(first) == 3
    assert not left_out
    assert max(map(len, first)) <= encoder.logmel.config.samples(32)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_help(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        run_export(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "matpac export --encoder runs/mine --output mine.onnx" in shown
    assert "Exit code: 0" in shown
