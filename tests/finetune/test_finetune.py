"""Real fine-tuning runs of a tiny encoder on tones, by the command and in this process."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import matpac
from helpers.tagging_corpora import ENCODER, PITCHES, class_folders, encoder_file, tone_table
from matpac.cli import main
from matpac.data.files import DataError
from matpac.errors import MatpacError
from matpac.files.checkpoint import save
from matpac.files.checkpoint.tensor_files import read_tensors
from matpac.files.onnx.export import export_onnx
from matpac.finetune import finetune as loop
from matpac.finetune import labelled
from matpac.finetune.evaluation import score
from matpac.finetune.finetune import Finetuned, Finetuning, finetune
from matpac.finetune.labelled import read_labelled
from matpac.finetune.options import FinetuneOptions
from matpac.finetune.plan import FinetunePlan
from matpac.finetune.recipes import (
    AugmentationConfig,
    AveragingConfig,
    FinetuneRecipe,
    OptimizerConfig,
    small,
)
from matpac.finetune.start import HeadError, begin
from matpac.model.embedder import Card, Embedder
from matpac.model.heads import SceneProbe
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Encoder
from matpac.tasks import TaskError, read_task
from matpac.train.run import RunError

PLAIN = replace(
    small(),
    epochs=4,
    batch_size=8,
    frames=48,
    optimizer=replace(small().optimizer, learning_rate=3e-3, warmup_epochs=0, layer_decay=1.0),
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_file(tmp_path_factory.mktemp("encoder") / "encoder.safetensors")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tone_table(tmp_path_factory.mktemp("table"))


def run(
    encoder: Path, root: Path, output: Path, recipe: FinetuneRecipe = PLAIN, task: str = "folder", **options: Any
) -> Finetuned:
    settings = {"accelerator": "cpu", "workers": 0, "log_every": 2, **options}
    return finetune(recipe, FinetuneOptions(str(encoder), task, str(root), str(output), **settings))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_tensors(folder / "model.safetensors")[0])


# --- it learns ---------------------------------------------------------------------------------------------


def test_thirty_two_clips_are_learned_by_heart(encoder: Path, tmp_path: Path) -> None:
    """Labels drawn by chance, so that nothing but the clips themselves can tell."""
    rng = np.random.default_rng(0)
    root = tone_table(tmp_path / "sounds", clips=32, seconds=0.655)  # 64 frames: a crop is always the same
    lines = root.read_text().splitlines()
    answers = ["yes" if answer else "no" for answer in rng.permutation(32) % 2]
    rows = [f"{line.split(',')[0]},{answer},train" for line, answer in zip(lines[1:], answers, strict=True)]
    copies = [f"{line.split(',')[0]},{answer},{part}" for line, answer in zip(lines[1:], answers, strict=True)
              for part in ("valid", "test")]  # fmt: skip
    for line in copies:  # the same sounds under another name, since no clip may lie on both sides
        name, _, part = line.split(",")
        (root.parent / f"{part}_{name}").write_bytes((root.parent / name).read_bytes())
    told = [f"{line.split(',')[2]}_{line}" for line in copies]
    root.write_text("\n".join(["path,label,split", *rows, *told]) + "\n")
    rate = replace(PLAIN.optimizer, learning_rate=6e-3)
    plain = replace(PLAIN, epochs=60, frames=64, augmentation=type(PLAIN.augmentation)(), optimizer=rate)
    done = run(encoder, root, tmp_path / "run", plain, task="table", validate_every=20, log_every=100)
    assert done.test is not None
    assert done.test.score.value == 1.0


def test_tones_are_told_apart_and_tagged(encoder: Path, folders: Path, tmp_path: Path) -> None:
    done = run(encoder, folders, tmp_path / "run", replace(PLAIN, epochs=15))
    assert done.complete
    assert done.test is not None
    assert done.test.score.value == 1.0
    tagger = matpac.load(tmp_path / "run")
    assert tagger.card.labels == tuple(sorted(PITCHES))
    assert tagger.card.exclusive
    sound = matpac.read(folders / "high" / "00.wav")
    found = tagger.probabilities(sound, 16_000)[0]
    assert tagger.card.labels[int(found.argmax())] == "high"
    assert float(found.sum()) == pytest.approx(1)


def test_several_labels_give_map_auc_and_d_prime(encoder: Path, table: Path, tmp_path: Path) -> None:
    done = run(encoder, table, tmp_path / "run", replace(PLAIN, epochs=15), task="table")
    assert done.test is not None
    score = done.test.score
    assert score.metric == "mAP"
    assert score.value > 0.9
    assert score.roc_auc is not None
    assert score.roc_auc > 0.9
    assert not matpac.load(tmp_path / "run").card.exclusive


def test_the_result_is_the_best_epoch_or_the_last(encoder: Path, folders: Path, tmp_path: Path) -> None:
    best = run(encoder, folders, tmp_path / "best")
    lines = [json.loads(line) for line in (tmp_path / "best/metrics.jsonl").read_text().splitlines()]
    scores = [line["valid/score"] for line in lines if "valid/score" in line]
    assert len(scores) == 4
    assert best.valid == max(scores)
    assert best.epoch == 1 + scores.index(max(scores))
    last = run(encoder, folders, tmp_path / "last", replace(PLAIN, result="last"))
    assert last.epoch == 4
    assert last.valid == scores[-1]


# --- every recipe's parts work -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        replace(PLAIN, augmentation=replace(PLAIN.augmentation, mixup="logmel", patchout=0.5, drop_path=0.3)),
        replace(PLAIN, augmentation=replace(PLAIN.augmentation, resized_crop=True), balanced=True, epoch_clips=16),
        replace(PLAIN, optimizer=replace(PLAIN.optimizer, kind="sgd"), short="pad"),
        replace(PLAIN, optimizer=replace(PLAIN.optimizer, kind="lars", clip=1.0)),
        replace(PLAIN, averaging=AveragingConfig("ema", decay=0.5)),
        replace(PLAIN, averaging=AveragingConfig("swa", start_epoch=2, every_epochs=1)),
    ],
    ids=["logmel mixup, patch-out", "crop, balanced", "sgd", "lars", "ema", "swa"],
)
def test_a_run_goes_to_its_end_and_is_the_same_again(
    recipe: FinetuneRecipe, encoder: Path, table: Path, tmp_path: Path
) -> None:
    recipe = replace(recipe, epochs=2)
    one = run(encoder, table, tmp_path / "one", recipe, task="table")
    assert one.complete
    run(encoder, table, tmp_path / "two", recipe, task="table")
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


class Killed(Exception):
    """Stands for a kill: nothing in the project handles it."""


@pytest.mark.parametrize("averaging", ["off", "ema", "swa"])
def test_a_killed_run_goes_on_to_the_same_weights(
    averaging: Any, encoder: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(PLAIN, averaging=AveragingConfig(averaging, 0.5, start_epoch=1, every_epochs=1))
    whole = run(encoder, table, tmp_path / "whole", recipe, task="table")
    advance = Finetuning.advance

    def until(self: Finetuning, batch: Any) -> Any:
        if self.step == 2 * self.plan.steps_per_epoch + 1:
            raise Killed
        return advance(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Finetuning, "advance", until)
        with pytest.raises(Killed):
            run(encoder, table, tmp_path / "broken", recipe, task="table")
    again = run(encoder, table, tmp_path / "broken", recipe, task="table", resume=True)
    assert (again.valid, again.epoch) == (whole.valid, whole.epoch)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_keeps_its_settings(encoder: Path, table: Path, tmp_path: Path) -> None:
    short = replace(PLAIN, epochs=1)
    run(encoder, table, tmp_path / "run", short, task="table")
    with pytest.raises(RunError, match=r"epochs 1 → 2"):
        run(encoder, table, tmp_path / "run", replace(short, epochs=2), task="table", resume=True)


def test_the_time_is_of_all_sessions(encoder: Path, table: Path, tmp_path: Path) -> None:
    short = replace(PLAIN, epochs=1)
    first = run(encoder, table, tmp_path / "run", short, task="table")
    [state] = (tmp_path / "run/checkpoints").glob("*/state.json")
    kept = json.loads(state.read_text())
    assert 0 < kept["seconds"] <= first.seconds
    state.write_text(json.dumps(kept | {"seconds": 1000.0}))
    assert run(encoder, table, tmp_path / "run", short, task="table", resume=True).seconds > 1000
    del kept["seconds"]  # as of runs before it was kept
    state.write_text(json.dumps(kept))
    assert run(encoder, table, tmp_path / "run", short, task="table", resume=True).seconds < 1000


# --- heads -------------------------------------------------------------------------------------------------


def test_a_head_of_the_same_labels_is_kept_in_their_new_order(folders: Path, tmp_path: Path) -> None:
    names = ["middle", "high", "low"]
    source = encoder_file(tmp_path / "tagger.safetensors", labels=names)
    clips = read_labelled("folder", str(folders), "", tmp_path / "clips.parquet")
    options = FinetuneOptions(str(source), "folder", str(folders), str(tmp_path / "run"))
    start = begin(options, PLAIN, clips)
    old = matpac.load(source).head
    assert old is not None
    order = [names.index(name) for name in clips.task.classes]
    assert torch.equal(start.network.head.linear.weight, old.linear.weight[order])
    assert any("own head" in note for note in start.notes)
    anew = begin(replace(options, head="new"), PLAIN, clips)
    assert not torch.equal(anew.network.head.linear.weight, old.linear.weight[order])


@pytest.mark.parametrize(
    ("labels", "classes", "told"),
    [
        (["low", "middle", "loud"], None, r"not 'high'"),
        ((), 7, r"7 classes without names, the task 3"),
        ((), None, r"no head to keep"),
    ],
)
def test_a_head_that_does_not_fit_is_not_kept(
    labels: Any, classes: int | None, told: str, folders: Path, tmp_path: Path
) -> None:
    source = encoder_file(tmp_path / "tagger.safetensors", labels, classes)
    with pytest.raises(HeadError, match=told):
        run(source, folders, tmp_path / "run", head="keep")
    assert run(source, folders, tmp_path / "run", replace(PLAIN, epochs=1)).complete  # auto makes a new one


def test_a_head_of_another_kind_is_not_kept(folders: Path, tmp_path: Path) -> None:
    encoder = Encoder(ENCODER)
    probe = SceneProbe(ENCODER.bands * ENCODER.width, len(PITCHES))
    embedder = Embedder(encoder, LogMelConfig(mels=16), probe, Card(labels=tuple(sorted(PITCHES))))
    source = save(embedder, tmp_path / "probe.safetensors")
    with pytest.raises(HeadError, match=r"a probe of whole scenes, .* pass --head new"):
        run(source, folders, tmp_path / "run", head="keep")
    clips = read_labelled("folder", str(folders), "", tmp_path / "clips.parquet")
    options = FinetuneOptions(str(source), "folder", str(folders), str(tmp_path / "run"))
    for head, told in (("auto", "a new head: the encoder's own is a probe"), ("new", "a new head; the encoder's")):
        assert begin(replace(options, head=head), PLAIN, clips).notes[-1].startswith(told)


def test_longer_inputs_get_longer_positions(encoder: Path, folders: Path, tmp_path: Path) -> None:
    run(encoder, folders, tmp_path / "run", replace(PLAIN, epochs=1, frames=128))
    tagger = matpac.load(tmp_path / "run")
    assert tagger.encoder.config.frames == 128
    before = matpac.load(encoder).encoder
    old = before.positions[1:].view(1, 6, 32)
    new = tagger.encoder.positions[1:].view(1, 8, 32)
    torch.testing.assert_close(new[:, :6], old)


# --- the command, and bad input ----------------------------------------------------------------------------


def test_the_command_writes_results_and_a_page(
    encoder: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    arguments = ["--encoder", encoder, "--task", "folder", "--root", folders, "--output", output, "--epochs", 2]
    arguments += ["--batch_size", 8, "--workers", 0, "--accelerator", "cpu"]
    assert main(["finetune", *map(str, arguments)]) == 0
    record = json.loads((output / "results.json").read_text())
    assert record["metric"] == "accuracy"
    assert set(record["per_class"]) == set(PITCHES)
    assert record["seed"] == 42
    page = (output / "report.html").read_text()
    assert "Learning curves" in page
    assert "Confusion matrix" in page
    assert "test accuracy" in capsys.readouterr().out


def test_a_broken_clip_is_left_out_and_named(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "sounds")
    (root / "low" / "03.wav").write_bytes(b"")
    arguments = ["--encoder", encoder, "--task", "folder", "--root", root, "--output", tmp_path / "run"]
    arguments += ["--epochs", 1, "--batch_size", 8, "--workers", 0, "--accelerator", "cpu"]
    assert main(["finetune", *map(str, arguments)]) == 1
    left_out = [json.loads(line) for line in (tmp_path / "run/left_out.jsonl").read_text().splitlines()]
    assert [Path(item["path"]).name for item in left_out] == ["03.wav"]
    assert "1 clips left out" in capsys.readouterr().out


def test_a_clip_that_cannot_be_decoded_is_not_used(encoder: Path, tmp_path: Path) -> None:
    root = tone_table(tmp_path / "sounds")
    bad = root.parent / "003.flac"  # of the test part
    soundfile.write(bad, np.full(11_200, np.nan, np.float32), 16_000, subtype="FLOAT", format="WAV")
    arguments = ["--encoder", encoder, "--task", "table", "--root", root, "--output", tmp_path / "run"]
    arguments += ["--epochs", 1, "--batch_size", 8, "--workers", 0, "--accelerator", "cpu"]
    assert main(["finetune", *map(str, arguments)]) == 1
    record = json.loads((tmp_path / "run/results.json").read_text())
    assert (record["used"], record["total"]) == (39, 40)
    assert "39 of 40" in (tmp_path / "run/report.html").read_text()
    [item] = map(json.loads, (tmp_path / "run/left_out.jsonl").read_text().splitlines())
    assert item["path"] == str(bad)
    assert item["reason"].startswith("a sample that is")


def without_label(root: Path, number: int) -> Path:
    """The table with a column a class, and none of them true of one clip."""
    rows = [line.split(",") for line in root.read_text().splitlines()[1:]]
    answers = [
        [str(int(name in row[1] and place != number)) for name in PITCHES] for place, row in enumerate(rows)
    ]
    lines = [",".join([row[0], *answer, row[2]]) for row, answer in zip(rows, answers, strict=True)]
    header = ",".join(["path", *(f"label:{name}" for name in PITCHES), "split"])
    root.write_text("\n".join([header, *lines]) + "\n")
    return root


def test_a_balanced_recipe_names_clips_without_labels(encoder: Path, tmp_path: Path) -> None:
    root = without_label(tone_table(tmp_path / "sounds"), 0)
    with pytest.raises(TaskError, match=r"training clips have no label, first .*000\.flac"):
        run(encoder, root, tmp_path / "run", replace(PLAIN, balanced=True), task="table")
    assert run(encoder, root, tmp_path / "run", replace(PLAIN, epochs=1), task="table").complete  # as it advises


def test_a_batch_that_cannot_be_shared_begins_no_run(
    encoder: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "FinetunePlan", lambda recipe, clips, processes: FinetunePlan(recipe, clips, 2))
    with pytest.raises(DataError, match="a batch of 5 can't be split equally over 2 processes"):
        run(encoder, folders, tmp_path / "run", replace(PLAIN, batch_size=5))
    assert not (tmp_path / "run/config.json").exists()


def test_a_validation_part_without_a_label_that_can_be_decoded(encoder: Path, tmp_path: Path) -> None:
    root = without_label(tone_table(tmp_path / "sounds"), 2)
    labelled_clips = {root.parent / f"{number:03}.flac" for number in range(6, 40, 4)}
    whole = {path: path.read_bytes() for path in labelled_clips}
    for path in whole:
        soundfile.write(path, np.full(11_200, np.nan, np.float32), 16_000, subtype="FLOAT", format="WAV")
    short = replace(PLAIN, epochs=1)
    with pytest.raises(TaskError, match=r"no clip of its validation part that has .* 9 left out: .*006\.flac: a "):
        run(encoder, root, tmp_path / "run", short, task="table")
    for path, content in whole.items():
        path.write_bytes(content)
    assert run(encoder, root, tmp_path / "run", short, task="table", resume=True).complete


def test_a_label_that_is_not_utf8_is_refused_at_once(
    encoder: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = replace(read_task("folder", folders), classes=["h\udcffgh", "low", "middle"])
    monkeypatch.setattr(labelled, "read_task", lambda name, root: task)
    with pytest.raises(TaskError, match=r"the label 'h\\udcffgh' is not UTF-8, .* rename its folder"):
        run(encoder, folders, tmp_path / "run")
    assert not (tmp_path / "run/config.json").exists()


def test_a_root_whose_name_is_not_utf8(encoder: Path, tmp_path: Path) -> None:
    root = class_folders(tmp_path / "sounds").rename(tmp_path / "s\udcffunds")
    arguments = ["--encoder", encoder, "--task", "folder", "--root", root, "--output", tmp_path / "run"]
    arguments += ["--epochs", 1, "--batch_size", 8, "--workers", 0, "--accelerator", "cpu"]
    assert main(["finetune", *map(str, arguments)]) == 0
    assert json.loads((tmp_path / "run/results.json").read_text())["task"] == root.name
    assert (tmp_path / "run/report.html").exists()


def test_other_encoders_cannot_be_fine_tuned(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(matpac.MatpacError, match="logmel: only matpac's own encoders"):
        run(Path("logmel"), folders, tmp_path / "run")
    export_onnx(Embedder(Encoder(ENCODER), LogMelConfig(mels=16)), tmp_path / "x.onnx")
    with pytest.raises(matpac.MatpacError, match=r"x\.onnx: only matpac's own encoders"):
        run(tmp_path / "x.onnx", folders, tmp_path / "run")


@pytest.mark.parametrize(
    ("config", "change", "told"),
    [
        (OptimizerConfig, {"learning_rate": 0.0}, r"optimizer\.learning_rate must be above 0, not 0\.0"),
        (OptimizerConfig, {"learning_rate": np.nan}, r"optimizer\.learning_rate must be above 0, not nan"),
        (OptimizerConfig, {"final_learning_rate": -1.0}, r"optimizer\.final_learning_rate must be at least 0"),
        (OptimizerConfig, {"warmup_epochs": -1}, r"optimizer\.warmup_epochs must be at least 0, not -1"),
        (OptimizerConfig, {"weight_decay": -0.1}, r"optimizer\.weight_decay must be at least 0"),
        (OptimizerConfig, {"momentum": -0.1}, r"optimizer\.momentum must be at least 0 and below 1"),
        (OptimizerConfig, {"beta1": 1.0}, r"optimizer\.beta1 must be at least 0 and below 1, not 1\.0"),
        (OptimizerConfig, {"beta2": 1.5}, r"optimizer\.beta2 must be at least 0 and below 1"),
        (OptimizerConfig, {"clip": -1.0}, r"optimizer\.clip must be at least 0 \(0 for no clipping\), not -1\.0"),
        (AveragingConfig, {"every_epochs": 0}, r"averaging\.every_epochs must be above 0, not 0"),
        (AveragingConfig, {"start_epoch": -1}, r"averaging\.start_epoch must be at least 0"),
        (AveragingConfig, {"decay": 1.1}, r"averaging\.decay must be between 0 and 1, not 1\.1"),
        (AugmentationConfig, {"gain_decibels": np.nan}, r"augmentation\.gain_decibels must be at least 0"),
        (AugmentationConfig, {"mixup_alpha": np.nan}, r"augmentation\.mixup_alpha must be above 0"),
        (FinetuneRecipe, {"epochs": np.inf}, "epochs must be above 0, not inf"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(config: Any, change: dict[str, float], told: str) -> None:
    with pytest.raises(MatpacError, match=told):
        config(**change)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--fold", "7"], "no fold '7'"),
        (["--frames", "50"], "multiple of 16"),
        (["--seed", str(2**63)], "seed must be below 2**63"),
        (["--augmentation.patchout", "1"], "patchout must be a share"),
        (["--recipe", "big"], "not known; there are audioset-2m"),
    ],
)
def test_bad_settings_are_one_line(
    change: list[str], told: str, encoder: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--encoder", encoder, "--task", "folder", "--root", folders, "--output", tmp_path / "run"]
    assert main(["finetune", *map(str, arguments), *change]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_part_where_every_clip_has_the_label_has_no_roc_auc(table: Path, tmp_path: Path) -> None:
    clips = read_labelled("table", str(table), "", tmp_path / "clips.parquet")
    everywhere = replace(clips.task, labels=np.ones_like(clips.task.labels))
    rows = clips.split.test
    found = score(everywhere, rows, np.zeros((len(rows), len(PITCHES)), np.float32))
    assert (found.roc_auc, found.d_prime) == (None, None)
    assert found.value == 1.0
    assert "ROC-AUC" not in str(found)
