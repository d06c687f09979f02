"""What the probes beside the linear one leave out, and why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import corpora
from helpers.tiny_encoder import tiny
from matpac.errors import MatpacError
from matpac.probe.encoders import named_embedder
from matpac.probe.linear_probe import ProbeConfig
from matpac.probe.others import OTHERS, fewest_examples
from matpac.probe.run import Outcome, run_probes
from matpac.tasks import Fold, Task, read_task

TASK = Task(
    "made", "single", ["cat", "dog", "emu"], [f"/s/{n}.wav" for n in range(9)],
    np.array([0, 0, 0, 1, 1, 0, 1, 2, 2]),
    [Fold(np.array([0, 1, 2, 3, 4]), np.array([5]), np.array([6, 7]), untrained=(2,))],
)  # fmt: skip


def test_the_fewest_examples_are_of_a_class_that_has_any() -> None:
    assert fewest_examples(TASK) == 2
    less = Fold(np.array([0, 1, 3]), np.array([5]), np.array([6, 7]), untrained=(2,))
    assert fewest_examples(replace(TASK, folds=[*TASK.folds, less])) == 1


def test_an_example_of_partial_labels_is_a_known_positive() -> None:
    labels = np.array([[1, 1], [1, 1], [1, 0], [1, 1], [0, 1], [1, 1], [1, 1], [1, 1], [1, 1]], np.uint8)
    several = replace(TASK, kind="multi", classes=["x", "y"], labels=labels)
    assert fewest_examples(several) == 4
    known = np.ones(labels.shape, bool)
    known[:3, 1] = False
    assert fewest_examples(replace(several, known=known)) == 2


def test_tokens_that_do_not_fit_are_read_through(tmp_path: Path) -> None:
    corpora.make_folder(tmp_path / "mine")
    task, told = read_task("folder", tmp_path / "mine"), []
    config = ProbeConfig(learning_rates=(1e-3,), seeds=(1,), max_epochs=2)
    named = named_embedder("own", tiny())

    def probed(budget: int) -> Outcome:
        also = ["attention", "knn", "prototypes"]
        return run_probes([named], [task], tmp_path / "cache", config, told.append, also=also, token_budget=budget)

    through, kept = probed(0), probed(2**30)
    assert [record.probe for record in through.records] == ["linear", "attention", "knn", "prototypes"]
    for one, other in zip(through.records, kept.records, strict=True):
        assert one.mean == pytest.approx(other.mean, abs=1e-6)
        np.testing.assert_allclose(one.layer_weights, other.layer_weights, atol=1e-2)
    gates = kept.records[-1].layer_weights
    assert len(gates) == 2
    assert sum(gates) == pytest.approx(1, abs=1e-5)
    assert through.left_out == []
    lines = [line for line in told if "computed anew" in line]
    assert len(lines) == 2
    assert "2 layers" in lines[1]


def test_what_is_done_is_kept_when_a_later_probe_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MatpacError("no")

    corpora.make_folder(tmp_path / "mine")
    monkeypatch.setitem(OTHERS, "attention", fail)
    config, done = ProbeConfig(learning_rates=(1e-3,), seeds=(1,), max_epochs=2), []
    with pytest.raises(MatpacError, match="no"):
        run_probes(
            [named_embedder("own", tiny())], [read_task("folder", tmp_path / "mine")], tmp_path / "cache", config,
            print, lambda outcome: done.append([record.probe for record in outcome.records]),
            ["knn", "attention"],
        )  # fmt: skip
    assert done == [["linear"], ["linear", "knn"]]
