"""`matpac export` writes files that `matpac.load` opens, in float32 and 8 bits, and prints how well they agree."""

import torch

import matpac
from helpers.tiny_encoder import tiny
from matpac.cli import main
from matpac.files.onnx.export import synthetic_sounds
from matpac.files.save import save


def test_the_command(tmp_path, capsys) -> None:
    weights, target = str(save(tiny(), tmp_path / "mine.safetensors")), tmp_path / "x.onnx"
    assert main(["export", "--encoder", weights, "--output", str(target), "--int8"]) == 0
    assert matpac.load(target).card.source == "onnx int8 dynamic"
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert "9 layers in 8 bits" in printed[2]
    assert main(["export", "--encoder", weights, "--output", str(target)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("MB, float32")
    assert "lengths from 0.03 to 0.71 s" in printed[1]
    clip = synthetic_sounds([9_000], 16_000)
    expected = matpac.load(weights).scene(clip, 16_000)
    torch.testing.assert_close(matpac.load(target).scene(clip, 16_000), expected, atol=1e-5, rtol=0)
    assert main(["export", "--encoder", weights, "--output", str(tmp_path / "x.pt")]) == 2
    assert "x.pt" in capsys.readouterr().err
