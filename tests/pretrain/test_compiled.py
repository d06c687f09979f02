"""The objective as one graph: whole, the same at every step, and no other than the one that is not compiled."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CASES = (
    *("matpac++", "matpac", "prediction alone", "classification alone"),
    *("activation checkpointing", "bf16", "distributed"),
)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What compiled_steps.py saw. It needs no C++ compiler, and a second graph would have ended it."""
    script = Path(__file__).parents[1] / "helpers" / "compiled_steps.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_one_whole_graph_for_all_steps(name: str, found: dict[str, Any]) -> None:
    case = found[name]
    assert case["graphs"] == 1
    assert len(set(case["eager"])) == len(case["eager"]) == 4
    assert case["compiled"] == pytest.approx(case["eager"], abs=2e-2 if name == "bf16" else 2e-4)
    assert case["dtype"] == "torch.float32"
    assert case["same_names"]
    assert case["watched_are_detached"]


def test_a_compiled_run_and_one_that_is_resumed_compiled(found: dict[str, Any]) -> None:
    runs = found["runs"]
    assert runs["graphs"] == 1  # for two micro-batches a step, temperatures and rates that change
    assert len(runs["plain"]) == 6
    assert runs["compiled"] == pytest.approx(runs["plain"], abs=2e-4)
    assert runs["resumed"] == pytest.approx(runs["plain"], abs=2e-4)
