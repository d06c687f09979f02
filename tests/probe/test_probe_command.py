"""`matpac probe`: every corpus in its true layout, the words of the command line, and what it writes."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import matpac
from helpers import corpora
from helpers.run_command import fails, probe
from helpers.tiny_encoder import tiny
from matpac.cli import main
from matpac.probe.published_scores import TASKS as PUBLISHED
from matpac.tasks import read_task

USED = {
    "esc50": (44, 45),
    "us8k": (40, 40),
    "gtzan": (119, 120),
    "nsynth": (39, 39),
    "openmic": (32, 32),
    "mtt": (31, 32),
    "fsd50k": (15, 16),
    "mtg_genre": (15, 16),
    "mtg_instrument": (15, 16),
    "mtg_moodtheme": (15, 16),
    "mtg_top50": (15, 16),
    "audioset": (49, 52),
    "audioset20k": (44, 46),
    "folder": (20, 20),
}
"""Clips used, of how many: what `helpers.corpora` takes away from each."""
FOLDS = {"esc50": 5, "us8k": 10, "gtzan": 10}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    return str(matpac.save(tiny(), tmp_path_factory.mktemp("encoder") / "own.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("task", corpora.MAKERS)
def test_every_corpus(task: str, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, output = tmp_path / "corpus", tmp_path / "out"
    corpora.MAKERS[task](root)
    (record,) = probe(output, "--encoder", encoder, "--task", task, "--root", root)
    read = read_task(task, root)
    assert (record["encoder"], record["task"], record["probe"]) == (encoder, read.name, "linear")
    assert record["metric"] == read.metric
    assert (record["used"], record["total"]) == USED[task]
    assert (len(record["folds"]), record["folds"]) == (FOLDS.get(task, 1), [fold.name for fold in read.folds])
    assert record["mean"] == pytest.approx(np.mean(record["per_fold"]))
    assert record["seeds"] == [42, 43]
    assert record["learning_rate"]
    assert list(record["per_class"]) == read.classes
    assert (record["roc_auc"] is None) == (read.kind == "single")
    assert record["seconds"] > 0
    with (output / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["task"], row["encoder"], float(row["mean"])) == (read.name, encoder, record["mean"])
    page = (output / "report.html").read_text()
    assert ("beside the best published scores" in page) == (task in PUBLISHED)
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert not re.findall(r"url\((?!#|[\"']?data:)", page)
    assert all(name in page for name, score in record["per_class"].items() if score is not None)
    assert f"{record['used']}/{record['total']} clips" in capsys.readouterr().out


def test_a_second_call_decodes_nothing(encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora.make_folder(tmp_path / "mine")
    given = ["--encoder", encoder, "--task", "folder", "--root", tmp_path / "mine", "--also", "layers", "knn"]
    first = probe(tmp_path / "out", *given)

    def no_decoding(*_: object, **__: object) -> None:
        raise AssertionError("a sound was decoded again")

    monkeypatch.setattr("soundfile.SoundFile", no_decoding)
    second = probe(tmp_path / "out", *given)
    for record in [*first, *second]:
        del record["seconds"]
    assert second == first
    page = (tmp_path / "out/report.html").read_text()
    assert "Test score by layer, one line per encoder." in page
    assert f"--encoder {encoder}" in page


def test_a_table_of_partial_labels_called_as_a_public_corpus(tmp_path: Path) -> None:
    columns: dict[str, Sequence[str]] = {
        "path": [f"{number}.wav" for number in range(16)],
        "label:low": ["1", "0", "1", "0"] * 4,
        "label:high": ["0", "1", "", "1"] * 4,
        "split": ["train"] * 8 + ["valid"] * 4 + ["test"] * 4,
    }
    corpora.make_table(tmp_path / "mtt.csv", columns)
    (record,) = probe(tmp_path / "out", "--encoder", "logmel", "--task", "table", "--root", tmp_path / "mtt.csv")
    assert (record["task"], record["metric"], list(record["per_class"])) == ("mtt", "mAP", ["low", "high"])
    assert "published scores" not in (tmp_path / "out/report.html").read_text()


def test_names_of_folders_that_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_folder(tmp_path / "mine")
    root = (tmp_path / "mine").rename(tmp_path / "m\udcffne")
    (root / "cat").rename(root / "c\udcfet")
    given = ["--encoder", "logmel", "--task", "folder", "--root", root, "--also", "knn", "--also", "layers"]
    records = probe(root / "results", *given)
    assert {record["task"] for record in records} == {"m\udcffne"}
    assert list(records[0]["per_class"]) == ["c\udcfet", "dog"]
    assert [record["probe"] for record in records] == ["linear", "knn"]
    printed = capsys.readouterr().out
    assert "m\\udcffne, logmel: linear" in printed
    assert "m\\udcffne, logmel: layers skipped" in printed  # --also may be given again


def test_all_tasks_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_fsd50k(tmp_path / "corpora/fsd50k")
    corpora.make_folder(tmp_path / "corpora/folder")
    given = ["--encoder", "logmel", "--task", "all", "folder", "--root", str(tmp_path / "corpora")]
    assert main(["probe", "--output", str(tmp_path / "out"), "--seeds", "42", *given]) == 1
    records = json.loads((tmp_path / "out/results.json").read_text())
    assert [record["task"] for record in records] == ["fsd50k", "folder"]
    skipped = capsys.readouterr().err.splitlines()
    assert len(skipped) == 10
    assert str(tmp_path / "corpora/esc50/meta/esc50.csv") in skipped[0]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--task", "esc50"], "meta/esc50.csv"),
        (["--task", "esc5"], "did you mean esc50"),
        (["--encoder", "nowhere.safetensors"], "nowhere"),
        (["--encoder", "random:huge"], "random:huge"),
        (["--encoder", "hear:no_such_module"], "hear:no_such_module"),
        (["--also", "votes"], "votes"),
        (["--seeds", "1", "1"], "--seeds"),
        (["--device", "tpu9"], "tpu9"),
        (["--token-budget", "-1"], "--token_budget"),
        (["--token_budget", "much"], "token_budget"),
        (["--task", "folder", "esc50", "--root", "a", "b", "c"], "2 tasks and 3 roots"),
        (["--task", "folder", "folder"], "two tasks are called"),
    ],
)
def test_wrong_words(words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_folder(tmp_path / "folder")
    defaults = {"--encoder": "logmel", "--task": "folder", "--root": str(tmp_path / "folder")}
    if words == ["--task", "folder", "folder"]:
        defaults["--root"] = str(tmp_path)
    given = [word for name, value in defaults.items() if name not in words for word in (name, value)]
    assert named in fails(capsys, tmp_path / "out", *given, *words)


def test_an_output_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_folder(tmp_path / "mine")
    (tmp_path / "out").write_text("")
    for output in (tmp_path / "out", tmp_path / "out/deeper"):
        message = fails(capsys, output, "--encoder", "logmel", "--task", "folder", "--root", tmp_path / "mine")
        assert str(output) in message
