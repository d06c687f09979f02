"""benchmarks/pretrain.py at the smallest size, and the variants of benchmarks/ablations.py."""

# pyright: reportMissingImports=false
# benchmarks/ is a folder of scripts, found by the path in conftest.py
import importlib
import re
import sys
from dataclasses import asdict
from pathlib import Path

import ablations
import pytest
import rates

from helpers.tiny_run import make_sounds
from matpac.data.packing.pack import PackOptions, pack
from matpac.pretrain import Objective
from matpac.pretrain.recipes import tiny

pretrain = importlib.import_module("pretrain")  # tests/pretrain has the same name
PARTS = ("log-mel", "patches, gather", "student", "teacher", "predictor", "heads", "losses", "optimizer")

CHANGES = {
    "matpac++": {},
    "matpac": {"objective.predictor.hypotheses": 1},
    "matpac, no classification": {"objective.predictor.hypotheses": 1, "objective.alpha": 1.0},
    "centre on logits": {"objective.head.center_on": "logits"},
    "teacher starts as a copy": {"objective.teacher_starts_as_copy": True},
    "mask ratio 0.5": {"objective.mask_ratio": 0.5},
    "mask ratio 0.8": {"objective.mask_ratio": 0.8},
    "2 hypotheses": {"objective.predictor.hypotheses": 2},
    "10 hypotheses": {"objective.predictor.hypotheses": 10},
}


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    smallest = ["--device", "cpu", "--size", "tiny", "--batch", "2", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["pretrain.py", *smallest, *arguments])
    monkeypatch.setattr(pretrain, "matrix_rate", lambda *_: 1e11)
    pretrain.main()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["matpac++", "matpac-no-classification"])
def test_a_row_and_its_parts(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--recipes", name)
    printed = capsys.readouterr().out
    assert f"\n{name}, 2 " in printed
    rows = re.finditer(r"^  ([^\d\n]+?) +([\d.]+) +[\d.]+$", printed, re.MULTILINE)
    found = {row[1].strip(): float(row[2]) for row in rows}
    parts = [part for part in (*PARTS, "EMA, centre") if part in found]
    assert set(PARTS) - set(parts) == ({"heads"} if name == "matpac-no-classification" else set())
    assert sum(found[part] for part in parts) == pytest.approx(found["sum of the parts"], abs=0.06)
    assert found["whole step"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_step_fed_from_shards(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "sounds").mkdir()
    make_sounds(tmp_path / "sounds")
    pack(PackOptions(str(tmp_path / "sounds"), str(tmp_path / "shards"), "flac", 2**16, workers=1))
    call(monkeypatch, "--recipes", "matpac", "--data", str(tmp_path / "shards"))
    assert re.search(r"fed by 1 readers [\d.]+ s .*, from the device [\d.]+ s, ratio", capsys.readouterr().out)


def test_the_limit_is_a_rate() -> None:
    assert rates.matrix_rate(0.01) > 1e8


def flat(values: dict, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


@pytest.mark.parametrize("name", ablations.VARIANTS)
def test_a_variant_changes_only_what_its_name_says(name: str) -> None:
    before, recipe = flat(asdict(tiny())), ablations.VARIANTS[name](tiny())
    after = flat(asdict(recipe))
    assert {key: value for key, value in after.items() if value != before[key]} == CHANGES[name]
    Objective(recipe.objective)


def test_folders_of_runs_are_distinct(tmp_path: Path) -> None:
    folders = {ablations.run_folder(tmp_path, name, seed) for name in ablations.VARIANTS for seed in (0, 1)}
    assert len(folders) == 2 * len(ablations.VARIANTS)
