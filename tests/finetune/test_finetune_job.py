"""Whole fine-tuning runs of a tiny encoder on tones, in this process."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import matpac
from helpers.tagging_corpora import PITCHES, class_folders, encoder_file, tone_table
from helpers.tiny_run import killed_at, lines
from matpac.cli import main
from matpac.files.tensor_files import read_tensors
from matpac.finetune.clips import read_labelled
from matpac.finetune.evaluation import Prediction, score
from matpac.finetune.job import Finetuned, Finetuning, finetune, loss_of
from matpac.finetune.options import FinetuneOptions
from matpac.finetune.recipes import FinetuneRecipe, small
from matpac.tasks import TaskError, read_task
from matpac.train.config import RunError
from matpac.train.training import Training

PLAIN = replace(
    small(),
    epochs=2,
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


def run(encoder: Path, root: Path, output: Path, recipe: FinetuneRecipe = PLAIN, **options: Any) -> Finetuned:
    task = "table" if root.suffix == ".csv" else "folder"
    where = {"encoder": str(encoder), "task": task, "root": str(root), "output": str(output)}
    return finetune(recipe, FinetuneOptions(**where, **{"device": "cpu", "workers": 0, "log_every": 2, **options}))


def assert_same_result(one: Path, other: Path) -> None:
    first, second = (read_tensors(folder / "model.safetensors")[0] for folder in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


# --- it learns ---------------------------------------------------------------------------------------------


def test_tones_are_distinguished_and_tagged(encoder: Path, folders: Path, tmp_path: Path) -> None:
    done = run(encoder, folders, tmp_path / "run", replace(PLAIN, epochs=12))
    assert done.complete
    assert done.test is not None
    assert done.test.value == 1.0
    tagger = matpac.load(tmp_path / "run")
    assert tagger.card.labels == tuple(sorted(PITCHES))
    assert tagger.card.exclusive
    found = tagger.probabilities(matpac.read(folders / "high" / "00.wav"), 16_000)[0]
    assert tagger.card.labels[int(found.argmax())] == "high"
    assert float(found.sum()) == pytest.approx(1)


def test_several_labels_give_map_and_roc_auc(encoder: Path, table: Path, tmp_path: Path) -> None:
    done = run(encoder, table, tmp_path / "run", replace(PLAIN, epochs=12))
    assert done.test is not None
    assert done.test.metric == "mAP"
    assert done.test.value > 0.9
    assert done.test.roc_auc is not None
    assert done.test.roc_auc > 0.9
    assert not matpac.load(tmp_path / "run").card.exclusive


def test_the_loss_is_over_known_labels() -> None:
    logits, targets = torch.randn(5, 3), torch.rand(5, 3)
    known = torch.rand(5, 3) * (torch.rand(5, 3) < 0.7)
    total = sum(
        float(known[n, c] * torch.nn.functional.binary_cross_entropy_with_logits(logits[n, c], targets[n, c]))
        for n in range(5)
        for c in range(3)
    )
    assert float(loss_of("multi", logits, targets, known)) == pytest.approx(total / float(known.sum()), rel=1e-5)
    shares = targets / targets.sum(1, keepdim=True)
    expected = -(shares * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss_of("single", logits, shares, torch.ones(5, 3)), expected)


def test_the_result_is_the_best_epoch_or_the_last(encoder: Path, folders: Path, tmp_path: Path) -> None:
    best = run(encoder, folders, tmp_path / "best", replace(PLAIN, epochs=4))
    scores = [line["valid/score"] for line in lines(tmp_path / "best/metrics.jsonl") if "valid/score" in line]
    assert len(scores) == 4
    assert (best.valid, best.epoch) == (max(scores), 1 + scores.index(max(scores)))
    last = run(encoder, folders, tmp_path / "last", replace(PLAIN, epochs=4, result="last"))
    assert (last.valid, last.epoch) == (scores[-1], 4)


# --- micro-batches and memory ------------------------------------------------------------------------------


def a_step(
    encoder: Path, table: Path, output: Path, recipe: FinetuneRecipe, **options: Any
) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Loss, gradient's norm and weights of one step; BatchNorm uses its running statistics."""
    where = {"encoder": str(encoder), "task": "table", "root": str(table), "output": str(output)}
    settings = FinetuneOptions(**where, device="cpu", workers=0, **options)
    clips = read_labelled(read_task("table", table), "", output.with_suffix(".parquet"))
    job = Finetuning(recipe, settings, Training(recipe, settings), clips)
    job.network.head.norm.eval()
    batches = iter(job.loader())
    result = job.step([next(batches) for _ in range(settings.accumulate)])
    weights = {name: value.detach().clone() for name, value in job.network.state_dict().items()}
    return float(result.losses["loss"]), float(result.norm), weights


RICH = replace(
    PLAIN,
    augmentation=replace(PLAIN.augmentation, mixup="logmel", patchout=0.5, drop_path=0.5),
    optimizer=replace(PLAIN.optimizer, kind="sgd"),
)


def test_micro_batches_and_checkpointing_give_the_step_of_one_batch(encoder: Path, tmp_path: Path) -> None:
    """Also with partial labels, of which the micro-batches know different numbers."""
    root = without_label(tone_table(tmp_path / "sounds"), 0, unknown=range(0, 40, 3))
    one = a_step(encoder, root, tmp_path / "one", RICH)
    for number, options in enumerate([{"accumulate": 2}, {"accumulate": 4, "activation_checkpointing": True}]):
        other = a_step(encoder, root, tmp_path / str(number), RICH, **options)
        assert other[:2] == pytest.approx(one[:2], rel=1e-5)
        for name, value in one[2].items():
            torch.testing.assert_close(other[2][name], value, atol=1e-6, rtol=1e-5)


# --- resume ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        replace(PLAIN, augmentation=replace(PLAIN.augmentation, mixup="logmel", patchout=0.5, drop_path=0.3)),
        replace(
            PLAIN,
            augmentation=replace(PLAIN.augmentation, resized_crop=True),
            balanced=True,
            epoch_clips=16,
            optimizer=replace(PLAIN.optimizer, kind="sgd"),
        ),
        replace(PLAIN, optimizer=replace(PLAIN.optimizer, kind="lars", clip=1.0), short="pad"),
    ],
    ids=["adamw, log-mel mixup, patch-out, drop-path", "sgd, crop, balanced", "lars, waveform mixup, clip, pad"],
)
def test_a_killed_run_resumes_to_the_same_weights(
    recipe: FinetuneRecipe, encoder: Path, table: Path, tmp_path: Path
) -> None:
    whole = run(encoder, table, tmp_path / "whole", recipe)
    assert whole.complete
    with killed_at(whole.steps // 2 + 2, Finetuning):
        run(encoder, table, tmp_path / "broken", recipe)
    again = run(encoder, table, tmp_path / "broken", recipe, resume=True)
    assert (again.valid, again.epoch) == (whole.valid, whole.epoch)
    assert_same_result(tmp_path / "whole", tmp_path / "broken")


def test_a_resumed_run_keeps_its_settings_and_its_time(encoder: Path, table: Path, tmp_path: Path) -> None:
    short = replace(PLAIN, epochs=1)
    first = run(encoder, table, tmp_path / "run", short)
    with pytest.raises(RunError, match=r"epochs 1 → 2"):
        run(encoder, table, tmp_path / "run", replace(short, epochs=2), resume=True)
    [state] = (tmp_path / "run/checkpoints").glob("*/state.json")
    kept = json.loads(state.read_text())
    assert 0 < kept["seconds"] <= first.seconds
    state.write_text(json.dumps(kept | {"seconds": 1000.0}))
    assert run(encoder, table, tmp_path / "run", short, resume=True).seconds > 1000
    del kept["seconds"]  # as in runs before it was kept
    state.write_text(json.dumps(kept))
    assert run(encoder, table, tmp_path / "run", short, resume=True).seconds < 1000


def test_a_run_from_when_weights_could_be_averaged(encoder: Path, table: Path, tmp_path: Path) -> None:
    short = replace(PLAIN, epochs=1)
    run(encoder, table, tmp_path / "run", short)
    path = tmp_path / "run/config.json"
    config = json.loads(path.read_text())
    config["recipe"]["averaging"] = {"kind": "off", "decay": 0.999, "start_epoch": 50, "every_epochs": 5}
    path.write_text(json.dumps(config))
    assert matpac_finetune("--resume", "--output", tmp_path / "run") == 0
    config["recipe"]["averaging"]["kind"] = "ema"
    path.write_text(json.dumps(config))
    with pytest.raises(RunError, match=r"config\.json: averaging ema"):
        run(encoder, table, tmp_path / "run", short, resume=True)


# --- the command -------------------------------------------------------------------------------------------


def matpac_finetune(*arguments: object) -> int:
    return main(["finetune", *map(str, arguments)])


def command(encoder: Path, root: Path, output: Path, *more: object) -> int:
    task = "table" if root.suffix == ".csv" else "folder"
    where = "--encoder", encoder, "--task", task, "--root", root, "--output", output
    return matpac_finetune(*where, "--epochs", 1, "--batch_size", 8, "--workers", 0, "--device", "cpu", *more)


def test_the_command_writes_results_and_a_page(
    encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "sounds").rename(tmp_path / "s\udcffunds")  # no UTF-8
    assert command(encoder, root, tmp_path / "run") == 0
    record = json.loads((tmp_path / "run/results.json").read_text())
    assert (record["task"], record["metric"], record["seed"]) == (root.name, "accuracy", 42)
    assert set(record["per_class"]) == set(PITCHES)
    classes = (tmp_path / "run/classes.csv").read_text().splitlines()
    assert classes[0] == "class,accuracy"
    assert len(classes) == 4
    page = (tmp_path / "run/report.html").read_text()
    assert "Learning curves" in page
    assert "Confusion matrix" in page
    assert "test accuracy" in capfd.readouterr().out


def test_clips_that_cannot_be_read_are_skipped_and_named(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tone_table(tmp_path / "sounds")
    empty, noisy = root.parent / "004.flac", root.parent / "003.flac"  # of training and test part
    empty.write_bytes(b"")
    soundfile.write(noisy, np.full(11_200, np.nan, np.float32), 16_000, subtype="FLOAT", format="WAV")
    assert command(encoder, root, tmp_path / "run") == 1
    record = json.loads((tmp_path / "run/results.json").read_text())
    assert (record["used"], record["total"]) == (38, 40)
    assert "38 of 40" in (tmp_path / "run/report.html").read_text()
    skipped = lines(tmp_path / "run/left_out.jsonl")
    assert [item["path"] for item in skipped] == [str(empty), str(noisy)]
    assert all(item["reason"] and item["path"] not in item["reason"] for item in skipped)
    assert "left_out.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "named"), [("--fold=7", "'7'"), ("--frames=50", "frames"), ("--recipe=big", "audioset-2m")]
)
def test_bad_settings_are_one_line(
    change: str, named: str, encoder: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(encoder, folders, tmp_path / "run", change) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run/config.json").exists()


# --- labels ------------------------------------------------------------------------------------------------


def without_label(root: Path, number: int, unknown: Sequence[int] = ()) -> Path:
    """The table with one column per class: none is true of one clip, the first is unknown of others."""
    rows = [line.split(",") for line in root.read_text().splitlines()[1:]]
    answers = [
        [str(int(name in row[1] and place != number)) for name in PITCHES] for place, row in enumerate(rows)
    ]
    for place in unknown:
        answers[place][0] = ""
    header = ",".join(["path", *(f"label:{name}" for name in PITCHES), "split"])
    table = [",".join([row[0], *answer, row[2]]) for row, answer in zip(rows, answers, strict=True)]
    root.write_text("\n".join([header, *table]) + "\n")
    return root


def test_a_balanced_recipe_names_clips_without_labels(encoder: Path, tmp_path: Path) -> None:
    root = without_label(tone_table(tmp_path / "sounds"), 0)
    with pytest.raises(TaskError, match=r"first .*000\.flac"):
        run(encoder, root, tmp_path / "run", replace(PLAIN, balanced=True))
    assert run(encoder, root, tmp_path / "run", replace(PLAIN, epochs=1)).complete  # as it advises


def test_a_validation_part_of_which_no_label_can_be_decoded(encoder: Path, tmp_path: Path) -> None:
    root = without_label(tone_table(tmp_path / "sounds"), 2)
    broken = {path: path.read_bytes() for path in (root.parent / f"{n:03}.flac" for n in range(6, 40, 4))}
    for path in broken:
        soundfile.write(path, np.full(11_200, np.nan, np.float32), 16_000, subtype="FLOAT", format="WAV")
    short = replace(PLAIN, epochs=1)
    with pytest.raises(TaskError, match=r"006\.flac"):
        run(encoder, root, tmp_path / "run", short)
    for path, content in broken.items():
        path.write_bytes(content)
    assert run(encoder, root, tmp_path / "run", short, resume=True).complete


def test_a_label_that_is_not_utf8_is_refused_at_once(folders: Path, tmp_path: Path) -> None:
    task = replace(read_task("folder", folders), classes=["h\udcffgh", "low", "middle"])
    with pytest.raises(TaskError, match=r"'h\\udcffgh'"):
        read_labelled(task, "", tmp_path / "clips.parquet")


def test_a_part_where_every_clip_has_the_label_has_no_roc_auc(table: Path, tmp_path: Path) -> None:
    task = read_task("table", table)
    everywhere = replace(task, labels=np.ones_like(task.labels))
    rows = task.folds[0].test
    found = score(everywhere, "test", Prediction(np.zeros((len(rows), len(PITCHES)), np.float32), rows, []))
    assert (found.roc_auc, found.d_prime) == (None, None)
    assert found.value == 1.0
