"""What is written of a probe, against hand-made results."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from matpac.probe.records import Record, make_record, write_records
from matpac.probe.results import ProbeResult
from matpac.tasks import Fold, Task

TASK = Task(
    "made", "single", ["cat", "dog", "emu"], [f"/s/{n}.wav" for n in range(6)], np.array([0, 1, 0, 1, 0, 1]),
    [Fold(np.array([0, 1]), np.array([2, 3]), np.array([4, 5]), name=name) for name in "ab"],
    notes=["a note"], missing=[("/s/gone.wav", "not on disk")],
)  # fmt: skip
FOUND = ProbeResult(
    scores=np.array([[0.5, 1.0], [0.7, 0.8]]),
    per_class=np.array([[[0.5, 1.0, np.nan], [1.0, np.nan, np.nan]], [[0.6, 0.8, np.nan], [0.9, np.nan, np.nan]]]),
    undefined=((), (1,)),
    learning_rates=np.array([[1e-3, 1e-4], [1e-3, 1e-3]]),
    valid_scores=np.zeros((2, 2, 1)),
    best_epochs=np.ones((2, 2), np.int64),
    epochs=np.ones((2, 2), np.int64),
    predictions=(np.zeros((2, 2, 3)), np.zeros((2, 2, 3))),
    seconds=1.0,
    seeds=(42, 43),
)


def record(**changes: object) -> Record:
    return make_record(TASK, "enc", "0f", "linear", replace(FOUND, **changes), 2.5)


def test_a_record_of_two_seeds_and_two_folds() -> None:
    found = record()
    assert found.mean == pytest.approx(0.75)
    assert found.ci95 == pytest.approx(0.0)  # both seeds have 0.75
    assert found.per_fold == pytest.approx([0.6, 0.9])
    assert found.per_class == {"cat": pytest.approx(0.75), "dog": pytest.approx(0.9), "emu": None}
    assert found.learning_rate == [1e-4, 1e-3]
    assert (found.used, found.total, found.folds, found.seeds) == (6, 7, ["a", "b"], [42, 43])
    assert (found.roc_auc, found.layer_weights, found.notes) == (None, [], ["a note"])


def test_one_seed_has_no_interval() -> None:
    one = {
        name: getattr(FOUND, name)[:1]
        for name in ("scores", "per_class", "learning_rates", "valid_scores", "best_epochs", "epochs")
    }
    found = record(**one | {"scores": np.array([[0.5, 0.7]]), "predictions": (np.zeros((1, 2, 3)),) * 2})
    assert found.ci95 is None
    assert found.result().score == "60.0"


def test_a_probe_without_training_has_no_learning_rate() -> None:
    untrained = ProbeResult(
        FOUND.scores[:1], FOUND.per_class[:1], FOUND.undefined, tuple(p[:1] for p in FOUND.predictions), 0.1
    )
    found = make_record(TASK, "enc", "0f", "knn", untrained)
    assert (found.learning_rate, found.seeds, found.ci95, found.seconds) == ([], [], None, 0.1)


def test_layer_weights_are_means_over_seeds_folds_and_prototypes() -> None:
    layers = np.random.default_rng(0).random((2, 2, 5, 3))
    assert record(learned={"layers": layers}).layer_weights == pytest.approx(layers.mean(axis=(0, 1, 2)))


def test_roc_auc_where_clips_have_several_labels() -> None:
    random = np.random.default_rng(0)
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, 1]], np.uint8)
    folds = [Fold(np.array([0]), np.array([1]), np.array([2, 3, 4, 5]), untrained=(1,))] * 2
    task = replace(TASK, kind="multi", classes=["x", "y"], labels=labels, folds=folds)
    predictions = tuple(random.standard_normal((2, 4, 2)) for _ in range(2))
    result = replace(FOUND, per_class=FOUND.per_class[:, :, :2], predictions=predictions)
    found = make_record(task, "e", "0", "linear", result)
    expected = np.mean([roc_auc_score(labels[2:], run) for fold in predictions for run in fold])
    assert found.roc_auc == pytest.approx(expected)


def test_the_files_hold_every_record(tmp_path: Path) -> None:
    records = [record(), replace(record(), probe="weighting", layer_weights=[0.25, 0.75], ci95=None)]
    write_records(records, tmp_path)
    read = json.loads((tmp_path / "results.json").read_text())
    assert [Record(**row) for row in read] == records
    assert read[1]["ci95"] is None
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["probe"] for row in rows] == ["linear", "weighting"]
    assert float(rows[0]["mean"]) == records[0].mean
    assert rows[1]["ci95"] == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.json"]


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    written = replace(record(), task="m\udcffne τ", per_class={"c\udcfe": 0.5})
    write_records([written], tmp_path)
    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert Record(**json.loads(text)[0]) == written
    assert '"m\\udcffne τ"' in text
    assert "m\\udcffne τ,enc" in (tmp_path / "results.csv").read_text(encoding="utf-8")
