"""The ablations: each variant is the whole recipe with what its name says changed, and nothing else."""

# pyright: reportMissingImports=false
# benchmarks/ is a folder of scripts: its modules are found by the path appended below
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import ablations

from matpac.pretrain import Objective
from matpac.pretrain.recipes import tiny

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


def flat(values: dict, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


@pytest.mark.parametrize("name", ablations.VARIANTS)
def test_a_variant_changes_what_its_name_says(name: str) -> None:
    before, recipe = flat(asdict(tiny())), ablations.VARIANTS[name](tiny())
    after = flat(asdict(recipe))
    assert {key: value for key, value in after.items() if value != before[key]} == CHANGES[name]
    Objective(recipe.objective)


def test_folders_of_runs_are_distinct(tmp_path: Path) -> None:
    folders = {ablations.run_folder(tmp_path, name, seed) for name in ablations.VARIANTS for seed in (0, 1)}
    assert len(folders) == 2 * len(ablations.VARIANTS)
    assert all(folder.parent == tmp_path for folder in folders)
