"""Dropping clips from a task, the registry, and what is said where a corpus isn't there."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import corpora
from matpac.probe.linear_probe import ProbeConfig, linear_probe
from matpac.tasks import TASKS, TaskError, read_task, without
from matpac.tasks.splits import Kind, Split
from matpac.tasks.task import make_task


def toy(root: Path, kind: Kind = "single", known=None):
    """Six clips of two classes on disk: 0 1 0 1 0 1, one split of pairs."""
    for number in range(6):
        (root / f"{number}.wav").touch()
    labels = np.arange(6) % 2
    split = Split(np.array([0, 1]), np.array([2, 3]), np.array([4, 5]))
    return make_task(
        "toy", kind, ["even", "odd"], [str(root / f"{n}.wav") for n in range(6)],
        labels if kind == "single" else np.eye(2, dtype=np.uint8)[labels], [split],
        unit_seconds=None, fold_names=["mine"], known=known,
    )  # fmt: skip


def test_without_renumbers(tmp_path):
    task = without(toy(tmp_path), {2: "no sound", 5: "cut short"})
    assert [Path(path).name for path in task.paths] == ["0.wav", "1.wav", "3.wav", "4.wav"]
    assert task.labels.tolist() == [0, 1, 1, 0]
    [split] = task.splits
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist()) == ([0, 1], [2], [3])
    assert task.missing == [(str(tmp_path / "2.wav"), "no sound"), (str(tmp_path / "5.wav"), "cut short")]
    assert task.total == 6
    again = without(task, {0: "later"})
    assert [reason for _, reason in again.missing] == ["no sound", "cut short", "later"]
    assert again.total == 6


def test_without_nothing_is_the_same(tmp_path):
    task = toy(tmp_path)
    assert without(task, {}) is task


def test_a_class_that_lost_its_training_clips_is_kept_and_told(tmp_path):
    task = without(toy(tmp_path), {1: "cut short"})
    assert task.notes == [
        "In split 'mine' no training clip is left of 'odd' (1 of 6 clips can't be used); its test clips are kept, "
        "though no probe can know them."
    ]
    assert task.splits[0].untrained == (1,)
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    config = ProbeConfig(learning_rates=(0.1,), max_epochs=2)
    result = linear_probe(features, task.labels, task.splits, config, task.kind, task.known)
    assert result.scores.shape == (3, 1)
    with pytest.raises(ValueError, match="no training clip has class 1"):  # nobody said so
        linear_probe(features, task.labels, [replace(task.splits[0], untrained=())], config)


def test_a_class_that_lost_all_its_clips_is_told(tmp_path):
    task = without(toy(tmp_path), {1: "x", 3: "x", 5: "x"})
    assert task.notes == ["No clip has the label 'odd'; it counts in no score."]


def test_a_part_that_lost_all_its_clips(tmp_path):
    with pytest.raises(TaskError, match=r"toy: split 'mine': its test part has no clip \(2 of 6 .*4.wav: gone\)"):
        without(toy(tmp_path), {4: "gone", 5: "gone"})


def test_a_part_without_a_known_positive(tmp_path):
    known = np.ones((6, 2), bool)
    known[[4, 5], [0, 1]] = False
    with pytest.raises(TaskError, match="split 'mine': no clip of its test part has a label"):
        toy(tmp_path, "multi", known)


def test_no_clip_on_disk(tmp_path):
    corpora.make_esc50(tmp_path)
    shutil.rmtree(tmp_path / "audio")
    with pytest.raises(
        TaskError, match=r"none of its 45 clips is on disk; the first was looked for at .*1-9000-A-0"
    ):
        read_task("esc50", tmp_path)


def test_unknown_task():
    with pytest.raises(TaskError, match=r"no task 'ecs50'; did you mean esc50\? there are esc50, us8k, gtzan"):
        read_task("ecs50", "x")
    with pytest.raises(TaskError, match="no task 'qqq'; there are esc50"):
        read_task("qqq", "x")


METADATA = {
    "esc50": "meta/esc50.csv",
    "us8k": "metadata/UrbanSound8K.csv",
    "nsynth": "nsynth-train/examples.json",
    "openmic": "openmic-2018-aggregated-labels.csv",
    "mtt": "annotations_final.csv",
    "fsd50k": "FSD50K.ground_truth/vocabulary.csv",
    "mtg_genre": "splits/split-0/autotagging_genre-train.tsv",
    "mtg_instrument": "splits/split-0/autotagging_instrument-train.tsv",
    "mtg_moodtheme": "splits/split-0/autotagging_moodtheme-train.tsv",
    "mtg_top50": "splits/split-0/autotagging_top50tags-train.tsv",
}


@pytest.mark.parametrize("name", METADATA)
def test_wrong_root_says_which_file_was_looked_for(tmp_path, name):
    with pytest.raises(TaskError, match=f"{name}: no file {tmp_path}/{METADATA[name]}"):
        read_task(name, tmp_path)
    with pytest.raises(TaskError, match="is no folder; looked for"):
        read_task(name, tmp_path / "nowhere")


def test_a_root_nearby_is_proposed(tmp_path):
    corpora.make_esc50(tmp_path / "ESC-50-master")
    for root in (tmp_path, tmp_path / "ESC-50-master/meta", tmp_path / "ESC-50-master/audio"):
        with pytest.raises(TaskError, match=f"that holds meta/esc50.csv: {tmp_path / 'ESC-50-master'} does"):
            read_task("esc50", root)


def test_gtzan_errors(tmp_path):
    with pytest.raises(TaskError, match=r"gtzan: no sound of genre blues in .*give the folder that holds genres/"):
        read_task("gtzan", tmp_path)
    corpora.make_gtzan(tmp_path, lists=True)
    (tmp_path / "valid_filtered.txt").unlink()
    with pytest.raises(
        TaskError, match=r"train_filtered.txt is in .*, but not valid_filtered.txt: add it, or remove"
    ):
        read_task("gtzan", tmp_path)
    for name in ("train", "test"):
        (tmp_path / f"{name}_filtered.txt").unlink()
    for clip in range(5):
        (tmp_path / f"genres/metal/metal.{clip:05d}.wav").unlink()
    with pytest.raises(TaskError, match=r"class 'metal' has 7 clips, too few for 10 folds"):
        read_task("gtzan", tmp_path)


MTG_TEST = "splits/split-0/autotagging_genre-test.tsv"
BROKEN = [
    ("esc50", "meta/esc50.csv", "target", "goal", "has no column 'target'; it has filename, fold, goal"),
    ("esc50", "meta/esc50.csv", ",14,", ",x,", "target is 'x', not a number"),
    ("us8k", "metadata/UrbanSound8K.csv", "classID", "class_id", "has no column 'classID'"),
    ("nsynth", "nsynth-valid/examples.json", '"organ"', '"harp"', "'harp' is none of the 11 families"),
    ("nsynth", "nsynth-test/examples.json", "}\n}", "", "not valid JSON"),
    ("nsynth", "nsynth-test/examples.json", "instrument_family_str", "family", "has no instrument_family_str"),
    ("openmic", "openmic-2018-aggregated-labels.csv", "000001_0", "999999_0", "000001_0 of the parti"),
    ("openmic", "openmic-2018-aggregated-labels.csv", "0.5,", "half,", "is 'half', not a number"),
    (
        "openmic", "partitions/split01_test.csv", "000100_0", "000001_0",
        "000001_0 is in split01_train.csv and again in split01_test.csv",
    ),
    ("esc50", "meta/esc50.csv", "2-9001-A-14.wav", "1-9001-A-14.wav", "1-9001-A-14.wav is there twice, in t"),
    pytest.param(
        "esc50", "meta/esc50.csv", ",dog,", f',"{"x" * 140_000},', "not a table .field", id="open quote"
    ),
    ("mtt", "annotations_final.csv", "mp3_path", "path", "has no column 'mp3_path'"),
    ("mtt", "annotations_final.csv", '"c/', '"g/', "is in none of the folders 0 to f"),
    ("mtt", "annotations_final.csv", '\t"0/artist-album-00-title-0-29.mp3"', "", "row of '2' has 53 cells, not"),
    ("fsd50k", "FSD50K.ground_truth/vocabulary.csv", "1,Guitar,/m/0342h", "Guitar", "row of 'Guitar' has 1 cells"),
    ("fsd50k", "FSD50K.ground_truth/dev.csv", "Bark", "Brak", "label 'Brak' is none of the 3 classes"),
    ("fsd50k", "FSD50K.ground_truth/dev.csv", ",val", ",valid", "has split 'valid', neither train nor val"),
    ("mtg_genre", MTG_TEST, "PATH", "FILE", "has no column 'PATH'"),
    ("mtg_genre", MTG_TEST, "\tgenre---rock\n", "\t\n", "track_0000213 has no tag"),
    ("mtg_genre", MTG_TEST, "rock", "polka", "no training clip has the label 'polka'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "old", "new", "message"), BROKEN)
def test_broken_metadata(tmp_path, name, file, old, new, message):
    corpora.MAKERS[name](tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(TaskError, match=message):
        read_task(name, tmp_path)


@pytest.mark.parametrize("name", ["esc50", "openmic", "mtt", "mtg_genre"])
def test_cut_or_empty_metadata(tmp_path, name):
    corpora.MAKERS[name](tmp_path)
    file = tmp_path / METADATA[name]
    file.write_text(file.read_text().splitlines()[0] + "\n")
    with pytest.raises(TaskError, match=name):
        read_task(name, tmp_path)
    file.write_text("")
    with pytest.raises(TaskError, match=name):
        read_task(name, tmp_path)


def test_all_names_of_the_protocol():
    protocol = "esc50 us8k gtzan nsynth openmic mtt fsd50k mtg_genre mtg_instrument mtg_moodtheme mtg_top50"
    assert list(TASKS) == [*protocol.split(), "audioset", "audioset20k", "folder", "table"]


def test_text_that_is_not_utf8(tmp_path):
    for name in ("esc50", "mtt"):
        corpora.MAKERS[name](tmp_path)
        (tmp_path / METADATA[name]).write_bytes(b"\xff\xfe")
        with pytest.raises(TaskError, match=f"{name}: .*not UTF-8 text"):
            read_task(name, tmp_path)
