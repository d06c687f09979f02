"""`matpac probe` itself, on every corpus in its true layout, and what it says of bad input."""

import csv
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from downstream.hear_modules import GOOD, importable
from downstream.tasks import corpora
from matpac.checkpoint import save
from matpac.cli import main
from matpac.downstream.tasks import read_task
from tiny_encoder import tiny

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
    "folder": (20, 20),
}
"""Clips used, of how many: what `downstream.tasks.corpora` takes away of each."""
FOLDS = {"esc50": 5, "us8k": 10, "gtzan": 10}
TINY_ALONE = ("gtzan", "mtg_instrument", "mtg_moodtheme", "mtg_top50")
"""Corpora of long clips: log-mel of 128 bands takes its time."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    return str(save(tiny(), tmp_path_factory.mktemp("encoder") / "own.safetensors"))


def probe(output: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    """Run the command; the records that it wrote."""
    code = main(["probe", "--output", str(output), "--seeds", "[42,43]", *map(str, arguments)])
    assert code == 0
    return json.loads((output / "results.json").read_text())


def fails(capsys: pytest.CaptureFixture[str], output: Path, *arguments: str | Path) -> str:
    """The one line that the command ends with."""
    capsys.readouterr()
    code = main(["probe", "--output", str(output), "--seeds", "[42,43]", *map(str, arguments)])
    told = capsys.readouterr().err.strip()
    assert code == 2
    assert told.startswith("matpac probe: ")
    assert "\n" not in told
    return told


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
        assert (len(record["folds"]), record["folds"]) == (FOLDS.get(task, 1), read.fold_names)
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
    assert sum(own["weighting"]["layer_weights"]) == pytest.approx(1, abs=1e-5)
    assert len(own["weighting"]["layer_weights"]) == 2
    assert own["knn"]["ci95"] is None
    told = capsys.readouterr().out.splitlines()
    assert "fsd50k, logmel: layers left out: this encoder gives no vectors of its layers" in told
    assert "fsd50k, logmel: prototypes left out: this encoder gives no tokens" in told
    assert any(line.startswith(f"fsd50k, {encoder}: few_shot left out with 5 and 10 shots: ") for line in told)
    page = (tmp_path / "out/report.html").read_text()
    assert "Test score by layer, one line an encoder." in page
    assert "What the layers count in the learned mixture" in page


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

    monkeypatch.setattr("matpac.downstream.features._fill", no_decoding)
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
    corpora.make_table(tmp_path / "mine.csv", columns)
    records = probe(tmp_path / "out", "--encoder", "logmel", "--task", "table", "--root", tmp_path / "mine.csv")
    assert (records[0]["task"], records[0]["metric"]) == ("mine", "mAP")
    assert list(records[0]["per_class"]) == ["low", "high"]


def test_all_tasks_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_fsd50k(tmp_path / "corpora/fsd50k")
    corpora.make_nsynth(tmp_path / "corpora/nsynth")
    given = ["--encoder", "logmel", "--task", "all", "--root", str(tmp_path / "corpora")]
    assert main(["probe", "--output", str(tmp_path / "out"), "--seeds", "[42,43]", *given]) == 1
    records = json.loads((tmp_path / "out/results.json").read_text())
    assert [record["task"] for record in records] == ["nsynth", "fsd50k"]
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


WRONG_SHAPE = GOOD.replace("return model.gain", "return torch.zeros(1, 7, 3) if len(audio) else model.gain")
NOT_A_NUMBER = GOOD.replace("return model.gain", "return float('nan') * model.gain")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (WRONG_SHAPE, r"hear:bad.*\[1, 7, 3\]"),
        (NOT_A_NUMBER, r"hear:bad: NaN or infinity in its vector of .*\.flac"),
    ],
)
def test_bad_encoders(source: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_folder(tmp_path / "mine")
    with importable(tmp_path / "modules", "bad", source):
        told = fails(
            capsys, tmp_path / "out", "--encoder", "hear:bad", "--task", "folder", "--root", tmp_path / "mine"
        )
    assert re.search(message, told)


def test_features_that_no_probe_takes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("features must be [clip, dim], not of shape [3]")

    corpora.make_folder(tmp_path / "mine")
    monkeypatch.setattr("matpac.probing.run.linear_probe", refuse)
    told = fails(capsys, tmp_path / "out", "--encoder", "logmel", "--task", "folder", "--root", tmp_path / "mine")
    assert told == "matpac probe: mine, logmel: features must be [clip, dim], not of shape [3]"


def test_what_was_probed_before_an_error_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_folder(tmp_path / "mine")
    with importable(tmp_path / "modules", "bad", NOT_A_NUMBER):
        given = ["--encoder", "logmel", "--encoder", "hear:bad", "--task", "folder", "--root", tmp_path / "mine"]
        fails(capsys, tmp_path / "out", *given)
    assert [r["encoder"] for r in json.loads((tmp_path / "out/results.json").read_text())] == ["logmel"]


def test_wrong_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    corpora.make_folder(mine)

    def told(encoder: str, task: str, root: Path, *more: str) -> str:
        return fails(capsys, tmp_path / "out", "--encoder", encoder, "--task", task, "--root", root, *more)

    assert str(mine / "meta/esc50.csv") in told("logmel", "esc50", mine)
    assert "no task 'esc5'; did you mean esc50?" in told("logmel", "esc5", mine)
    assert "nowhere" in told("nowhere.safetensors", "folder", mine)
    assert "random:huge: no size 'huge'" in told("random:huge", "folder", mine)
    assert "hear:no_such_module" in told("hear:no_such_module", "folder", mine)
    assert "invalid choice: 'votes'" in told("logmel", "folder", mine, "--also", "votes")
    assert "seeds must be different" in told("logmel", "folder", mine, "--seeds", "[1,1]")
    assert "2 tasks and 3 roots" in told("logmel", "folder", mine, "--task", "esc50", "--root", "a", "--root", "b")
    twice = told("logmel", "folder", mine, "--task", "folder", "--root", str(mine))
    assert "two tasks are called mine" in twice


def test_a_label_that_no_training_clip_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = ["train"] * 6 + ["valid"] * 2 + ["test"] * 3
    labels = ["cat", "dog"] * 5 + ["emu"]
    columns: dict[str, Sequence[str]] = {
        "path": [f"{number}.wav" for number in range(11)],
        "label": labels,
        "split": splits,
    }
    corpora.make_table(tmp_path / "mine.csv", columns)
    told = fails(
        capsys, tmp_path / "out", "--encoder", "logmel", "--task", "table", "--root", tmp_path / "mine.csv"
    )
    assert "no training clip has the label 'emu'" in told


def test_a_class_with_fewer_clips_than_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_gtzan(tmp_path)
    for clip in range(3, 12):
        (tmp_path / f"genres/pop/pop.{clip:05d}.wav").unlink()
    told = fails(capsys, tmp_path / "out", "--encoder", "logmel", "--task", "gtzan", "--root", tmp_path)
    assert re.search(r"'?pop'? has 3 .*10 folds", told)


def test_no_sound_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_esc50(tmp_path)
    shutil.rmtree(tmp_path / "audio")
    told = fails(capsys, tmp_path / "out", "--encoder", "logmel", "--task", "esc50", "--root", tmp_path)
    assert "none of its 45 clips is on disk" in told
