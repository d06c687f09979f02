"""`matpac probe` itself, on every corpus in its true layout."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from helpers import corpora
from helpers.hear_modules import GOOD, importable
from helpers.run_command import probe
from helpers.tiny_encoder import tiny
from matpac.cli import main
from matpac.files.save import save
from matpac.probe.published_scores import TASKS as PUBLISHED
from matpac.tasks import read_task

ALL = ["knn", "few_shot", "layers", "weighting", "attention", "prototypes"]
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
"""Clips used, of how many: what `downstream.tasks.corpora` takes away of each."""
FOLDS = {"esc50": 5, "us8k": 10, "gtzan": 10}
TINY_ALONE = ("audioset", "audioset20k", "gtzan", "mtg_instrument", "mtg_moodtheme", "mtg_top50")
"""Corpora of long clips: log-mel of 128 bands takes its time."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    return str(save(tiny(), tmp_path_factory.mktemp("encoder") / "own.safetensors"))


@pytest.mark.parametrize("task", corpora.MAKERS)
def test_every_corpus(task: str, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, output = tmp_path / "corpus", tmp_path / "out"
    corpora.MAKERS[task](root)
    names = [encoder] if task in TINY_ALONE else ["logmel", encoder]
    given = [word for name in names for word in ("--encoder", name)]
    records = probe(output, *given, "--task", task, "--root", root)
    read = read_task(task, root)
    assert [record["encoder"] for record in records] == names
    for record in records:
        assert (record["task"], record["probe"], record["metric"]) == (read.name, "linear", read.metric)
        assert (record["used"], record["total"]) == USED[task]
        assert (len(record["folds"]), record["folds"]) == (FOLDS.get(task, 1), [fold.name for fold in read.folds])
        assert len(record["per_fold"]) == len(record["folds"])
        assert record["mean"] == pytest.approx(np.mean(record["per_fold"]))
        assert record["seeds"] == [42, 43]
        assert record["ci95"] >= 0
        assert record["learning_rate"]
        assert list(record["per_class"]) == read.classes
        assert (record["roc_auc"] is None) == (read.kind == "single")
        assert record["seconds"] > 0
    if task == "nsynth":  # a pitch a class is easy to find
        assert records[0]["mean"] > 0.9
    assert len({record["encoder_key"] for record in records}) == len(names)
    with (output / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["encoder"], float(row["mean"])) for row in rows] == [
        (record["task"], record["encoder"], record["mean"]) for record in records
    ]
    page = (output / "report.html").read_text()
    assert ("beside the best published scores" in page) == (task in PUBLISHED)
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert not re.findall(r"url\((?!#|[\"']?data:)", page)
    scored = [name for name, score in records[0]["per_class"].items() if score is not None]
    assert all(name in page for name in scored)
    told = capsys.readouterr().out
    assert f"{records[0]['used']}/{records[0]['total']} clips" in told


def test_probes_beside_the_linear_one(encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_fsd50k(tmp_path / "fsd50k")
    given = ["--encoder", encoder, "--encoder", "logmel", "--task", "fsd50k", "--root", tmp_path / "fsd50k"]
    records = probe(tmp_path / "out", *given, "--also", *ALL)
    own = {record["probe"]: record for record in records if record["encoder"] == encoder}
    few = ["few_shot_1"]
    assert list(own) == ["linear", "knn", *few, "layer_1", "layer_2", "weighting", "attention", "prototypes"]
    assert [record["probe"] for record in records if record["encoder"] == "logmel"] == ["linear", "knn", *few]
    assert {record["metric"] for record in records} == {"mAP"}
    assert {(record["used"], record["total"]) for record in records} == {(15, 16)}
    # the last layer is what the linear probe sees
    assert own["layer_2"]["mean"] == pytest.approx(own["linear"]["mean"], abs=1e-6)
    for name in ("weighting", "prototypes"):
        assert sum(own[name]["layer_weights"]) == pytest.approx(1, abs=1e-5)
        assert len(own[name]["layer_weights"]) == 2
    assert own["knn"]["ci95"] is None
    told = capsys.readouterr().out.splitlines()
    assert "fsd50k, logmel: layers left out: this encoder gives no vectors of its layers" in told
    assert "fsd50k, logmel: prototypes left out: this encoder gives no tokens" in told
    assert any(line.startswith(f"vectors for the next call: {tmp_path / 'out/cache'} (") for line in told)
    assert any(line.startswith(f"fsd50k, {encoder}: few_shot left out with 5 and 10 shots: ") for line in told)
    page = (tmp_path / "out/report.html").read_text()
    assert "Test score by layer, one line an encoder." in page
    assert "What each layer counts in mixtures and gates that are learned" in page


def test_without_also_there_is_the_linear_probe_alone(tmp_path: Path) -> None:
    corpora.make_folder(tmp_path / "mine")
    probe(tmp_path / "out", "--encoder", "logmel", "--task", "folder", "--root", tmp_path / "mine")
    assert "Test score by layer" not in (tmp_path / "out/report.html").read_text()


def test_again_from_the_cache(encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora.make_folder(tmp_path / "mine")
    given = ["--encoder", encoder, "--task", "folder", "--root", tmp_path / "mine", "--also", "layers"]
    first = probe(tmp_path / "out", *given)

    def no_decoding(*_: object, **__: object) -> None:
        raise AssertionError("a sound was decoded again")

    monkeypatch.setattr("matpac.vectors.features.clip_table", no_decoding)
    monkeypatch.setattr("soundfile.SoundFile", no_decoding)
    second = probe(tmp_path / "out", *given)
    for record in [*first, *second]:
        del record["seconds"]
    assert second == first


def test_a_hear_module(tmp_path: Path) -> None:
    corpora.make_esc50(tmp_path / "esc50")
    with importable(tmp_path / "modules", "made_up_hear", GOOD) as name:
        records = probe(
            tmp_path / "out", "--encoder", f"hear:{name}", "--task", "esc50", "--root", tmp_path / "esc50"
        )
    assert records[0]["encoder"] == "hear:made_up_hear"
    assert (records[0]["used"], records[0]["total"]) == (44, 45)


def test_a_table_of_partial_labels(tmp_path: Path) -> None:
    splits = ["train"] * 8 + ["valid"] * 4 + ["test"] * 4
    columns: dict[str, Sequence[str]] = {
        "path": [f"{number}.wav" for number in range(16)],
        "label:low": ["1", "0", "1", "0"] * 4,
        "label:high": ["0", "1", "", "1"] * 4,
        "split": splits,
    }
    corpora.make_table(tmp_path / "mtt.csv", columns)
    records = probe(tmp_path / "out", "--encoder", "logmel", "--task", "table", "--root", tmp_path / "mtt.csv")
    assert (records[0]["task"], records[0]["metric"]) == ("mtt", "mAP")
    assert list(records[0]["per_class"]) == ["low", "high"]
    # of a public corpus's name, but none: no published score is beside it
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
    told = capsys.readouterr().out
    assert "m\\udcffne: logmel" in told
    assert "m\\udcffne, logmel: layers left out" in told  # --also may be given again


def test_all_tasks_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_fsd50k(tmp_path / "corpora/fsd50k")
    corpora.make_nsynth(tmp_path / "corpora/nsynth")
    corpora.make_folder(tmp_path / "corpora/folder")
    given = ["--encoder", "logmel", "--task", "all", "--task", "folder", "--root", str(tmp_path / "corpora")]
    assert main(["probe", "--output", str(tmp_path / "out"), "--seeds", "[42,43]", *given]) == 1
    records = json.loads((tmp_path / "out/results.json").read_text())
    assert [record["task"] for record in records] == ["nsynth", "fsd50k", "folder"]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 9
    assert all(line.startswith("left out: ") for line in told)
    assert told[0].startswith("left out: esc50: ")
    assert str(tmp_path / "corpora/esc50/meta/esc50.csv") in told[0]


def test_encoders_that_can_use_different_clips(
    encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clip shorter than the front-end's window is nothing for logmel; the HEAR module takes it."""
    root = tmp_path / "mine"
    corpora.make_folder(root, ("train", "test"))
    soundfile.write(root / "test/cat/blip.wav", np.full(300, 0.1), 16_000)
    with importable(tmp_path / "modules", "takes_all", GOOD) as name:
        given = ["--encoder", "logmel", "--encoder", f"hear:{name}", "--encoder", encoder]
        records = probe(tmp_path / "out", *given, "--task", "folder", "--root", root)
    assert [(record["used"], record["total"]) for record in records] == [(40, 41), (41, 41), (40, 41)]
    line = "mine: logmel and hear:takes_all are not compared: they could use different clips (40 and 41 of 41)"
    assert line in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "out/report.html").read_text()
    assert line in page
    assert "blip.wav" in page
