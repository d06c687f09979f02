"""The quickstart, small: everything it promises is there, and it resumes where it was interrupted."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from matpac.audio import read
from matpac.cli import main
from matpac.files.load import load
from matpac.pretrain.recipes import tiny
from matpac.quickstart.page import chance, predict_masked
from matpac.quickstart.steps import ENCODERS, next_commands
from matpac.tasks import read_task

pytestmark = pytest.mark.slow

SMALL = ["--clips", "32", "--labelled", "16", "--epochs", "2"]
TASKS = ("source", "mixture", "melody", "rhythm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of one small quickstart."""
    folder = tmp_path_factory.mktemp("quickstart") / "out"
    assert main(["quickstart", "--output", str(folder), *SMALL]) == 0
    return folder


def scores(folder: Path) -> list[dict]:
    """All records without their times."""
    records = json.loads((folder / "results.json").read_text())
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def test_results_have_every_task_and_encoder(folder):
    records = scores(folder)
    expected = {(task, name) for task in TASKS for name in ENCODERS}
    assert {(record["task"], record["encoder"]) for record in records} == expected
    for record in records:
        assert 0 < record["mean"] <= 1
        assert record["ci95"] >= 0
        assert record["seeds"] == [42, 43, 44]
        assert record["metric"] == ("mAP" if record["task"] == "mixture" else "accuracy")


def test_vectors_are_the_trained_encoders(folder):
    table = parquet.read_table(folder / "vectors.parquet")
    assert table.num_rows == 4 * 16
    expected = load(folder / "run").scene(read(table["path"][0].as_py()), 16_000)[0].numpy()
    np.testing.assert_allclose(table["vector"][0].as_py(), expected, atol=1e-5)


def test_report_is_self_contained_and_shows_all(folder):
    page = (folder / "report.html").read_text()
    for word in (*TASKS, *ENCODERS, "95 %", "Tokens won by hypothesis"):
        assert word in page, word
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page
    assert f"--encoder {folder / 'run'}" in next_commands(folder)


def test_a_second_call_reuses_everything_and_other_settings_are_refused(folder, capsys):
    before = scores(folder)
    weights = next((folder / "run" / "checkpoints").iterdir()) / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert main(["quickstart", "--output", str(folder), *SMALL]) == 0
    assert weights.stat().st_mtime_ns == written
    assert scores(folder) == before
    assert main(["quickstart", "--output", str(folder), *SMALL[:-1], "3"]) == 2
    assert "epochs" in capsys.readouterr().err


def test_masked_prediction_of_one_clip(folder):
    checkpoint = next((folder / "run" / "checkpoints").iterdir())
    clip = next((folder / "corpus" / "source").glob("*.wav"))
    shown = predict_masked(checkpoint, tiny(), clip)
    assert shown.masked.shape == shown.error.shape == (5, 18)
    assert np.array_equal(np.isnan(shown.error), ~shown.masked)
    assert 0 <= np.nanmin(shown.error) <= np.nanmax(shown.error) <= 4 + 1e-5
    assert shown.masked.sum() == 90 - int(90 * (1 - 0.7))
    assert (np.diff(shown.frequencies) > 0).all()


def test_chance_is_the_score_of_guessing(folder):
    single, several = (read_task("table", folder / "corpus" / f"{name}.csv") for name in ("melody", "mixture"))
    test, train = (single.labels[getattr(single.folds[0], part)] for part in ("test", "train"))
    assert chance(single) == pytest.approx((test == np.bincount(train).argmax()).mean())
    assert chance(several) == pytest.approx(several.labels[several.folds[0].test].mean())
