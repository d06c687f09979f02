"""What `matpac probe` says of bad input: one line that names it."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers import corpora
from helpers.hear_modules import GOOD, importable
from helpers.run_command import fails

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
    monkeypatch.setattr("matpac.probe.run.linear_probe", refuse)
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
    assert not (tmp_path / "out").exists()
    assert "no task 'esc5'; did you mean esc50?" in told("logmel", "esc5", mine)
    assert "nowhere" in told("nowhere.safetensors", "folder", mine)
    assert "random:huge: no size 'huge'" in told("random:huge", "folder", mine)
    assert "hear:no_such_module" in told("hear:no_such_module", "folder", mine)
    assert "invalid choice: 'votes'" in told("logmel", "folder", mine, "--also", "votes")
    assert "seeds must be different" in told("logmel", "folder", mine, "--seeds", "[1,1]")
    assert "--device tpu9: cannot be used here" in told("logmel", "folder", mine, "--device", "tpu9")
    assert "give GiB from 0 up" in told("logmel", "folder", mine, "--token-budget", "-1")
    assert "token_budget" in told("logmel", "folder", mine, "--token_budget", "much")
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


def test_an_output_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.make_folder(tmp_path / "mine")
    (tmp_path / "out").write_text("")
    for output in (tmp_path / "out", tmp_path / "out/deeper"):
        told = fails(capsys, output, "--encoder", "logmel", "--task", "folder", "--root", tmp_path / "mine")
        assert told.endswith(f"--output {output}: there is a file in its place; give a folder")
