"""benchmarks/pretrain.py at the smallest size: every part is measured, and the step fed from shards."""

# pyright: reportMissingImports=false
# benchmarks/ is a folder of scripts: its modules are found by the path appended below
import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import pretrain_parts
import rates

from helpers.tiny_run import make_sounds
from matpac.data.packing.pack import PackOptions, pack

pretrain = importlib.import_module("pretrain")  # tests/pretrain has the same name
PARTS = ("log-mel", "patches, gather", "student", "teacher", "predictor", "heads", "losses", "optimizer")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    smallest = ["--device", "cpu", "--size", "tiny", "--batch", "2", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["pretrain.py", *smallest, *arguments])
    monkeypatch.setattr(pretrain, "matrix_rate", lambda *_: 1e11)
    pretrain.main()


@pytest.mark.parametrize("name", ["matpac++", "matpac-no-classification"])
def test_a_row_and_its_parts(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--recipes", name)
    said = capsys.readouterr().out
    assert f"\n{name}, 2 " in said
    found = {
        m[1].strip(): float(m[2]) for m in re.finditer(r"^  ([^\d\n]+?) +([\d.]+) +[\d.]+$", said, re.MULTILINE)
    }
    parts = [part for part in (*PARTS, "EMA, centre") if part in found]
    assert set(PARTS) - set(parts) == ({"heads"} if name == "matpac-no-classification" else set())
    assert sum(found[part] for part in parts) == pytest.approx(found["sum of the parts"], abs=0.06)
    assert found["whole step"] > 0


def test_what_is_frozen_does_not_learn_and_the_limit_is_a_rate() -> None:
    assert pretrain_parts.learning(torch.nn.Linear(2, 2).requires_grad_(False)) == []
    assert rates.matrix_rate(0.01) > 1e8


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_fed_from_shards(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "sounds").mkdir()
    make_sounds(tmp_path / "sounds")
    pack(PackOptions(str(tmp_path / "sounds"), str(tmp_path / "shards"), "flac", 2**16, workers=1))
    call(monkeypatch, "--recipes", "matpac", "--data", str(tmp_path / "shards"))
    assert re.search(r"fed by 1 readers [\d.]+ s a step, from the device [\d.]+ s, ratio", capsys.readouterr().out)
