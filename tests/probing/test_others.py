"""What the probes beside the linear one leave out, and why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from downstream.tasks import corpora
from matpac.downstream.encoders import named_embedder
from matpac.downstream.probe import ProbeConfig
from matpac.downstream.splits import Split
from matpac.downstream.tasks import Task, read_task
from matpac.errors import MatpacError
from matpac.probing.others import fewest_examples
from matpac.probing.run import run_probes
from tiny_encoder import tiny

TASK = Task(
    "made", "single", "accuracy", None, ["cat", "dog", "emu"], [f"/s/{n}.wav" for n in range(9)],
    np.array([0, 0, 0, 1, 1, 0, 1, 2, 2]), None,
    [Split(np.array([0, 1, 2, 3, 4]), np.array([5]), np.array([6, 7]), untrained=(2,))],
    ["a"],
)  # fmt: skip


def test_the_fewest_examples_are_of_a_class_that_has_any() -> None:
    assert fewest_examples(TASK) == 2
    less = Split(np.array([0, 1, 3]), np.array([5]), np.array([6, 7]), untrained=(2,))
    assert fewest_examples(replace(TASK, splits=[*TASK.splits, less], fold_names=["a", "b"])) == 1


def test_an_example_of_partial_labels_is_a_known_positive() -> None:
    labels = np.array([[1, 1], [1, 1], [1, 0], [1, 1], [0, 1], [1, 1], [1, 1], [1, 1], [1, 1]], np.uint8)
    several = replace(TASK, kind="multi", classes=["x", "y"], labels=labels)
    assert fewest_examples(several) == 4
    known = np.ones(labels.shape, bool)
    known[:3, 1] = False
    assert fewest_examples(replace(several, known=known)) == 2


def test_tokens_that_do_not_fit_are_told_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise MatpacError("20 clips take 3 GiB, and the budget is 2 GiB")

    monkeypatch.setattr("matpac.probing.others.embed_tokens", too_large)
    corpora.make_folder(tmp_path / "mine")
    task, told = read_task("folder", tmp_path / "mine"), []
    config = ProbeConfig(learning_rates=(1e-3,), seeds=(1,), max_epochs=2)
    named = named_embedder("own", tiny())
    outcome = run_probes(
        [named], [task], tmp_path / "cache", config, told.append, also=["attention", "knn", "prototypes"]
    )
    assert [record.probe for record in outcome.records] == ["linear", "knn"]
    assert outcome.left_out == [
        f"mine, own: {probe} left out: 20 clips take 3 GiB, and the budget is 2 GiB"
        for probe in ("attention", "prototypes")
    ]
    assert set(outcome.left_out) < set(told)
