"""Probes by name on a small corpus: what is recorded, compared, skipped, and kept when a later one fails."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import corpora
from helpers.hear_modules import GOOD, importable
from helpers.tiny_encoder import tiny
from matpac import MatpacError
from matpac.probe.encoders import named_embedder, open_encoder
from matpac.probe.run import PROBES, Outcome, run_probes
from matpac.probe.trainer import ProbeConfig
from matpac.tasks import Task, read_task

QUICK = ProbeConfig(learning_rates=(1e-3,), seeds=(1, 2), max_epochs=3)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Task:
    root = tmp_path_factory.mktemp("corpus") / "mine"
    corpora.make_folder(root)
    return read_task("folder", root)


def test_all_probes_of_two_encoders(mine: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoders = [named_embedder("own", tiny()), open_encoder("logmel")]
    outcome = run_probes(encoders, [mine], tmp_path, also=[*PROBES], config=QUICK)
    own = {record.probe: record for record in outcome.records if record.encoder == "own"}
    few = [name for name in own if name.startswith("few_shot")]
    assert list(own) == ["linear", "knn", *few, "layer_1", "layer_2", "weighting", "attention", "prototypes"]
    assert [r.probe for r in outcome.records if r.encoder == "logmel"] == ["linear", "knn", *few]
    assert own["layer_2"].mean == pytest.approx(own["linear"].mean)  # the last layer is what the linear probe sees
    for name in ("weighting", "prototypes"):
        assert sum(own[name].layer_weights) == pytest.approx(1, abs=1e-5)
        assert len(own[name].layer_weights) == 2
    assert (own["knn"].ci95, own["linear"].seeds) == (None, [1, 2])
    for name in ("layers", "weighting", "attention", "prototypes"):
        assert any(line.startswith(f"{mine.name}, logmel: {name} skipped: ") for line in outcome.skipped)
    ((task, one, other, _),) = outcome.comparisons()
    assert (task, one, other) == (mine.name, "own", "logmel")
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(outcome.records) + len(outcome.skipped)
    written = json.loads((tmp_path / "results.json").read_text())
    assert [(row["encoder"], row["probe"]) for row in written] == [(r.encoder, r.probe) for r in outcome.records]


def test_tokens_over_the_budget_are_skipped_and_the_last_layer_alone_gives_the_same(
    mine: Task, tmp_path: Path
) -> None:
    encoder = tiny()
    named = named_embedder("own", encoder)

    def probed(folder: str, budget: int) -> Outcome:
        also = ["attention", "prototypes"]
        return run_probes([named], [mine], tmp_path / folder, also=also, config=QUICK, token_budget=budget)

    kept = probed("kept", 2**30)
    one_layer = len(mine.paths) * 3 * encoder.width * 2  # clips, frames, width, bytes
    tight, none = probed("tight", one_layer), probed("none", 0)
    assert [record.probe for record in tight.records] == ["linear", "attention"]
    assert tight.records[1].mean == pytest.approx(kept.records[1].mean, abs=1e-6)
    assert [record.probe for record in none.records] == ["linear"]
    assert len(none.skipped) == 2
    assert all("--token_budget" in line for line in none.skipped)


def test_what_is_done_is_kept_when_a_later_encoder_fails(mine: Task, tmp_path: Path) -> None:
    wrong = GOOD.replace("return model.gain", "return float('nan') * model.gain")
    with importable(tmp_path / "modules", "bad", wrong), pytest.raises(MatpacError, match="hear:bad"):
        run_probes([open_encoder("logmel"), open_encoder("hear:bad")], [mine], tmp_path, config=QUICK)
    assert [row["encoder"] for row in json.loads((tmp_path / "results.json").read_text())] == ["logmel"]


def test_features_that_no_probe_takes_name_task_and_encoder(
    mine: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("matpac.probe.run.linear_probe", refuse)
    with pytest.raises(MatpacError, match=f"{mine.name}, logmel: no"):
        run_probes([open_encoder("logmel")], [mine], tmp_path)


def test_two_of_one_name_are_refused(mine: Task, tmp_path: Path) -> None:
    with pytest.raises(MatpacError, match=mine.name):
        run_probes([open_encoder("logmel")], [mine, mine], tmp_path)
    with pytest.raises(MatpacError, match="logmel"):
        run_probes([open_encoder("logmel")] * 2, [mine], tmp_path)


def test_encoders_that_can_use_different_clips_are_not_compared(tmp_path: Path) -> None:
    """A clip shorter than the front-end's window is nothing for logmel; the HEAR module takes it."""
    corpora.make_folder(tmp_path / "mine", ("train", "test"))
    soundfile.write(tmp_path / "mine/test/cat/blip.wav", np.full(300, 0.1), 16_000)
    task = read_task("folder", tmp_path / "mine")
    with importable(tmp_path / "modules", "takes_all", GOOD) as name:
        encoders = [open_encoder("logmel"), open_encoder(f"hear:{name}")]
        outcome = run_probes(encoders, [task], tmp_path / "out", config=QUICK)
    assert [record.used for record in outcome.records] == [len(task.paths) - 1, len(task.paths)]
    assert outcome.comparisons() == []
    (line,) = outcome.not_compared()
    assert "logmel" in line
