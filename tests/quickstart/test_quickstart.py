"""The quickstart, small: everything it promises is there, and it goes on where it was interrupted."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from matpac.cli import main
from matpac.files.load import load
from matpac.pretrain.recipes import tiny
from matpac.quickstart import command
from matpac.quickstart.command import PACKAGED, PRETRAINED, STATISTICS, UNTRAINED
from matpac.quickstart.masks import predict_masked
from matpac.quickstart.page import chance

SMALL = ["--clips", "40", "--labelled", "32", "--epochs", "2"]
TASKS = ("source", "mixture", "melody", "rhythm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one small quickstart made."""
    folder = tmp_path_factory.mktemp("quickstart") / "out"
    assert main(["quickstart", "--output", str(folder), *SMALL]) == 0
    return folder


def scores(folder: Path) -> list[dict]:
    """All that is no time."""
    records = json.loads((folder / "results.json").read_text())
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def test_results_hold_every_task_and_encoder(folder):
    records = json.loads((folder / "results.json").read_text())
    assert {(r["task"], r["encoder"]) for r in records} == {
        (task, name) for task in TASKS for name in (PRETRAINED, PACKAGED, UNTRAINED, STATISTICS)
    }
    for record in records:
        assert 0 < record["mean"] <= 1
        assert record["ci95"] >= 0
        assert record["seeds"] == [42, 43, 44]
        assert record["metric"] == ("mAP" if record["task"] == "mixture" else "accuracy")


def test_vectors_are_the_trained_encoders(folder):
    table = parquet.read_table(folder / "vectors.parquet")
    assert table.num_rows == 4 * 21
    path = table["path"][0].as_py()
    from matpac.audio import read

    expected = load(folder / "run").scene(read(path), 16_000)[0].numpy()
    np.testing.assert_allclose(table["vector"][0].as_py(), expected, atol=1e-5)


def test_report_stands_alone_and_shows_all(folder):
    page = (folder / "report.html").read_text()
    for word in (*TASKS, PRETRAINED, PACKAGED, UNTRAINED, STATISTICS, "95 %", "Tokens won by hypothesis"):
        assert word in page, word
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page


def test_a_second_call_reuses_what_is_there(folder, capsys):
    before = scores(folder)
    checkpoint = next((folder / "run" / "checkpoints").iterdir())
    written = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert main(["quickstart", "--output", str(folder), *SMALL]) == 0
    assert (checkpoint / "model.safetensors").stat().st_mtime_ns == written
    assert scores(folder) == before


def test_other_settings_in_the_same_folder_are_refused(folder, capsys):
    assert main(["quickstart", "--output", str(folder), *SMALL[:-1], "3"]) == 2
    assert "epochs" in capsys.readouterr().err


def test_masked_prediction_of_one_clip(folder):
    checkpoint = next((folder / "run" / "checkpoints").iterdir())
    clip = next((folder / "corpus" / "source").glob("*.wav"))
    shown = predict_masked(checkpoint, tiny(), clip)
    assert shown.masked.shape == shown.error.shape == (5, 18)
    assert np.array_equal(np.isnan(shown.error), ~shown.masked)
    assert (shown.error[shown.masked] >= 0).all()
    assert (shown.error[shown.masked] <= 4 + 1e-5).all()
    assert shown.masked.sum() == 90 - int(90 * (1 - 0.7))
    assert (np.diff(shown.frequencies) > 0).all()


def test_chance_is_what_guessing_scores(folder):
    from matpac.tasks import read_task

    single, several = (read_task("table", folder / "corpus" / f"{name}.csv") for name in ("melody", "mixture"))
    test = single.labels[single.folds[0].test]
    train = single.labels[single.folds[0].train]
    assert chance(single) == pytest.approx((test == np.bincount(train).argmax()).mean())
    assert chance(several) == pytest.approx(several.labels[several.folds[0].test].mean())


def test_commands_to_go_on_with_name_the_run(folder):
    assert f"--encoder {folder / 'run'}" in command.next_commands(folder)
