"""Every published corpus in its true layout, against labels and splits written out by hand."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from helpers import corpora
from matpac.tasks import TASKS, Task, read_task
from matpac.tasks.splits import check_probe_input

FACTS = {  # unit seconds, metric, folds: docs/evaluation.md
    "esc50": (5, "accuracy", 5),
    "us8k": (4, "accuracy", 10),
    "gtzan": (30, "accuracy", 10),
    "nsynth": (4, "accuracy", 1),
    "openmic": (10, "mAP", 1),
    "mtt": (29, "mAP", 1),
    "fsd50k": (7.6358, "mAP", 1),
    "mtg_genre": (30, "mAP", 1),
    "mtg_instrument": (30, "mAP", 1),
    "mtg_moodtheme": (30, "mAP", 1),
    "mtg_top50": (30, "mAP", 1),
    "audioset": (10, "mAP", 1),
    "audioset20k": (10, "mAP", 1),
    "folder": (None, "accuracy", 1),
}


def names(task: Task, rows: np.ndarray) -> list[str]:
    """File names of clips, in order."""
    return [Path(task.paths[row]).name for row in rows]


def labels_by_name(task: Task) -> dict[str, set[str]]:
    """File name → its labels."""
    if task.kind == "single":
        return {Path(p).name: {task.classes[n]} for p, n in zip(task.paths, task.labels, strict=True)}
    return {
        Path(path).name: {task.classes[n] for n in np.flatnonzero(row)}
        for path, row in zip(task.paths, task.labels, strict=True)
    }


def test_every_task_has_a_corpus_here():
    assert corpora.MAKERS.keys() | {"table"} == TASKS.keys()


@pytest.mark.parametrize("name", corpora.MAKERS)
def test_what_holds_of_every_corpus(name, tmp_path):
    missing = corpora.MAKERS[name](tmp_path)
    task = read_task(name, str(tmp_path))
    assert (task.unit_seconds, task.metric, len(task.splits)) == FACTS[name]
    assert len(task.fold_names) == len(task.splits)
    assert task.missing == [(path, "not on disk") for path in missing]
    assert task.total == len(task.paths) + len(missing)
    assert task.corpus == ("" if name == "folder" else name)
    assert len(set(task.paths)) == len(task.paths) == len(task.labels)
    assert all(Path(path).is_file() and Path(path).is_absolute() for path in task.paths)
    for split in task.splits:
        rows = np.concatenate([split.train, split.valid, split.test])
        assert np.unique(rows).size == rows.size
        assert rows.max() < len(task.paths)
        assert split.untrained == ()
    features = np.zeros((len(task.paths), 1), np.float32)
    check_probe_input(features, task.labels, task.splits, task.kind, task.known)
    if len(task.splits) > 1:  # folds: every clip is tested once
        tested = np.concatenate([split.test for split in task.splits])
        assert np.array_equal(np.sort(tested), np.arange(len(task.paths)))


@pytest.mark.parametrize("name", corpora.MAKERS)
def test_reading_again_gives_the_same(name, tmp_path):
    corpora.MAKERS[name](tmp_path)
    first, second = read_task(name, tmp_path), read_task(name, tmp_path)
    assert first.paths == second.paths
    for one, other in zip(first.splits, second.splits, strict=True):
        assert one.valid.tolist() == other.valid.tolist()


def test_no_sound_file_is_opened(tmp_path, monkeypatch):
    """Readers know metadata alone."""
    for name, make in corpora.MAKERS.items():
        make(tmp_path / name)
    monkeypatch.setattr("matpac.audio.files.open_decoder", None)
    monkeypatch.setattr("soundfile.SoundFile", None)
    for name in corpora.MAKERS:
        read_task(name, tmp_path / name)


def test_esc50_folds_and_labels(tmp_path):
    corpora.make_esc50(tmp_path)
    task = read_task("esc50", tmp_path)
    assert task.classes == ["dog", "chirping_birds", "vacuum_cleaner"]  # in the order of target
    assert labels_by_name(task)["2-9001-A-14.wav"] == {"chirping_birds"}
    assert task.fold_names == ["1", "2", "3", "4", "5"]
    for fold, split in zip(task.fold_names, task.splits, strict=True):
        assert all(name.startswith(f"{fold}-") for name in names(task, split.test))
        assert {task.classes[n] for n in task.labels[split.valid]} == set(task.classes)
    assert [len(split.test) for split in task.splits] == [9, 9, 9, 9, 8]
    assert len(task.splits[4].train) + len(task.splits[4].valid) == 36


def test_us8k_folds_and_labels(tmp_path):
    corpora.make_us8k(tmp_path)
    task = read_task("us8k", tmp_path)
    assert task.classes == ["dog_bark", "siren"]
    assert task.fold_names == [str(fold) for fold in range(1, 11)]
    assert names(task, task.splits[9].test) == [f"{10000 + n}-{n}-0-{c}.wav" for n in (3, 8) for c in (0, 1)]
    assert Path(task.paths[0]).parent.name == "fold1"


@pytest.mark.parametrize("suffix", [".wav", ".au"])
@pytest.mark.parametrize("folder", ["genres", "genres_original", "Data/genres_original", "."])
def test_gtzan_without_lists_says_so(tmp_path, suffix, folder):
    corpora.make_gtzan(tmp_path, suffix=suffix, folder=folder)
    task = read_task("gtzan", tmp_path)
    assert len(task.paths) == 120  # the corrupt clip is found by who opens it
    assert "10 stratified folds, because train_filtered.txt is not there" in task.notes[0]
    assert task.notes[1] == "120 clips were found; the corpus has 1000."
    for split in task.splits:
        counts = np.bincount(task.labels[split.test], minlength=10)
        assert set(counts.tolist()) <= {1, 2}
        assert set(task.labels[split.valid]) == set(range(10))


def test_gtzan_with_lists(tmp_path):
    corpora.make_gtzan(tmp_path, lists=True, suffix=".au")  # the lists say .wav
    task = read_task("gtzan", tmp_path)
    assert task.fold_names == ["filtered"]
    assert task.notes == ["Split: fault-filtered lists, 61/20/30 clips.", "The published lists have 443/197/290."]
    [split] = task.splits
    assert (len(split.train), len(split.valid), len(split.test)) == (60, 20, 30)
    assert names(task, split.valid)[:3] == ["blues.00006.au", "blues.00007.au", "classical.00006.au"]
    assert labels_by_name(task)["jazz.00010.au"] == {"jazz"}


def test_nsynth(tmp_path):
    corpora.make_nsynth(tmp_path)
    task = read_task("nsynth", tmp_path)
    assert len(task.classes) == 11
    assert (task.classes[0], task.classes[9], task.classes[10]) == ("bass", "synth_lead", "vocal")
    [split] = task.splits
    assert task.labels[split.train].tolist() == [0] * 6 + [6] * 6 + [8] * 6 + [9] * 6
    assert task.labels[split.test].tolist() == [0] * 3 + [6] * 3 + [8] * 3
    assert names(task, split.valid[:2]) == ["bass_synthetic_005-000-075.wav", "bass_synthetic_005-001-075.wav"]
    assert task.notes == [
        "No clip has the label 'brass', 'flute', 'guitar', 'keyboard', 'mallet' and 2 more; it counts in no score."
    ]


def test_openmic_is_partial_and_keeps_tracks_together(tmp_path):
    corpora.make_openmic(tmp_path)
    task = read_task("openmic", tmp_path)
    assert task.classes == ["accordion", "banjo", "voice"]
    assert task.known is not None
    row = names(task, np.arange(len(task.paths))).index("000001_3840.ogg")  # second track: banjo
    assert task.labels[row].tolist() == [0, 1, 0]
    assert task.known[row].tolist() == [False, True, True]
    assert Path(task.paths[row]).parent.name == "000"
    [split] = task.splits
    tracks = [{name.split("_")[0] for name in names(task, rows)} for rows in (split.train, split.valid)]
    assert not tracks[0] & tracks[1]
    assert len(split.train) + len(split.valid) == 24
    assert names(task, split.test[:1]) == ["000100_0.ogg"]
    assert (task.labels & task.known)[split.valid].any(axis=0).all()


@pytest.mark.parametrize("base", ["", "mp3", "audio"])
def test_mtt_takes_the_50_most_frequent_tags(tmp_path, base):
    corpora.make_mtt(tmp_path, base)
    task = read_task("mtt", tmp_path)
    assert task.classes == ["guitar", "opera", *(f"tag {n:02d}" for n in range(48))]
    assert task.labels[0].tolist() == [1, 0] + [1] * 48
    assert task.labels[1].tolist() == [0, 1] + [0] * 48
    [split] = task.splits
    places = [
        [Path(task.paths[row]).parent.name for row in rows] for rows in (split.train, split.valid, split.test)
    ]
    assert places == [[f for f in part for _ in range(2)] for part in ("0123456789ab", "c", "def")]
    assert names(task, split.train[4:5]) == ["empty.mp3"]  # found by who opens it
    assert "50 most frequent of 52 tags, synonyms not merged" in task.notes[0]


def test_fsd50k(tmp_path):
    corpora.make_fsd50k(tmp_path)
    task = read_task("fsd50k", tmp_path)
    assert task.classes == ["Bark", "Guitar", "Music"]  # vocabulary's order
    found = labels_by_name(task)
    assert (found["64760.wav"], found["64761.wav"]) == ({"Guitar", "Music"}, {"Bark"})
    [split] = task.splits
    assert names(task, split.valid) == ["64764.wav", "64765.wav", "64770.wav", "64771.wav"]
    assert names(task, split.test) == ["902.wav", "903.wav", "904.wav"]
    assert len(split.train) == 8


@pytest.mark.parametrize(("base", "low", "data"), [("audio", False, ""), ("mp3", True, "data"), ("", True, "")])
def test_mtg_in_its_layouts(tmp_path, base, low, data):
    corpora.make_mtg(tmp_path, base, low, data)
    task = read_task("mtg_moodtheme", tmp_path)
    assert task.classes == ["film", "sad"]
    [split] = task.splits
    assert [len(rows) for rows in (split.train, split.valid, split.test)] == [8, 4, 3]
    suffix = ".low.mp3" if low else ".mp3"
    assert names(task, split.test) == [f"{number}{suffix}" for number in (213, 214, 215)]
    assert task.labels[split.valid].tolist() == [[0, 1], [1, 0], [0, 1], [1, 1]]


def test_mtg_top50_keeps_categories_in_the_names(tmp_path):
    corpora.make_mtg(tmp_path)
    assert read_task("mtg_top50", tmp_path).classes == ["genre---rock", "instrument---piano"]
    assert read_task("mtg_genre", tmp_path).classes == ["ambient", "rock"]


def test_counts_of_labels_are_those_of_the_files(tmp_path):
    corpora.make_esc50(tmp_path)
    task = read_task("esc50", tmp_path)
    assert Counter(task.labels.tolist()) == {0: 15, 1: 15, 2: 14}
