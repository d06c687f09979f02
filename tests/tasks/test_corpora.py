"""Every public corpus in its true layout, against labels and splits written out by hand; and damaged ones."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers import corpora
from matpac.tasks import TASKS, Task, TaskError, read_task

FACTS = {  # unit seconds, metric, folds: docs/evaluation.md
    "esc50": (5, "accuracy", 5),
    "us8k": (4, "accuracy", 10),
    "gtzan": (30, "accuracy", 10),
    "nsynth": (4, "accuracy", 1),
    "openmic": (10, "mAP", 1),
    "mtt": (29, "mAP", 1),
    "fsd50k": (7.6358, "mAP", 1),
    **dict.fromkeys(("mtg_genre", "mtg_instrument", "mtg_moodtheme", "mtg_top50"), (30, "mAP", 1)),
    **dict.fromkeys(("audioset", "audioset20k"), (10, "mAP", 1)),
    "folder": (None, "accuracy", 1),
}


def names(task: Task, rows: np.ndarray) -> list[str]:
    """File names of clips, in order."""
    return [Path(task.paths[row]).name for row in rows]


def labels_of(task: Task, name: str) -> set[str]:
    """The labels of the clip with this file name."""
    [row] = [row for row, path in enumerate(task.paths) if Path(path).name == name]
    return {task.classes[n] for n in np.flatnonzero(task.positives(np.array([row]))[0])}


def test_every_task_has_a_corpus_here():
    assert corpora.MAKERS.keys() | {"table"} == TASKS.keys()


@pytest.mark.parametrize("name", corpora.MAKERS)
def test_what_holds_of_every_corpus(name, tmp_path, monkeypatch):
    missing = corpora.MAKERS[name](tmp_path)
    monkeypatch.setattr("matpac.audio.files.open_decoder", None)  # readers know metadata alone
    monkeypatch.setattr("soundfile.SoundFile", None)
    task, again = read_task(name, str(tmp_path)), read_task(name, tmp_path)
    assert (task.unit_seconds, task.metric, len(task.folds)) == FACTS[name]
    assert task.missing == [(path, "not on disk") for path in missing]
    assert task.total == len(task.paths) + len(missing)
    assert task.corpus == ("" if name == "folder" else name)
    assert len(set(task.paths)) == len(task.paths)
    assert all(Path(path).is_file() and Path(path).is_absolute() for path in task.paths)
    assert task.paths == again.paths
    for fold, same in zip(task.folds, again.folds, strict=True):
        assert fold.untrained == ()
        assert fold.valid.tolist() == same.valid.tolist()
    if len(task.folds) > 1:  # every clip is tested once
        tested = np.concatenate([fold.test for fold in task.folds])
        assert np.array_equal(np.sort(tested), np.arange(len(task.paths)))


def test_esc50(tmp_path):
    corpora.make_esc50(tmp_path)
    task = read_task("esc50", tmp_path)
    assert task.classes == ["dog", "chirping_birds", "vacuum_cleaner"]  # in the order of target
    assert labels_of(task, "2-9001-A-14.wav") == {"chirping_birds"}
    assert [fold.name for fold in task.folds] == ["1", "2", "3", "4", "5"]
    for fold in task.folds:
        assert all(name.startswith(f"{fold.name}-") for name in names(task, fold.test))
        assert {task.classes[n] for n in task.labels[fold.valid]} == set(task.classes)
    assert [len(fold.test) for fold in task.folds] == [9, 9, 9, 9, 8]


def test_us8k(tmp_path):
    corpora.make_us8k(tmp_path)
    task = read_task("us8k", tmp_path)
    assert task.classes == ["dog_bark", "siren"]
    assert [fold.name for fold in task.folds] == [str(fold) for fold in range(1, 11)]
    assert names(task, task.folds[9].test) == [f"{10000 + n}-{n}-0-{c}.wav" for n in (3, 8) for c in (0, 1)]
    assert Path(task.paths[0]).parent.name == "fold1"


@pytest.mark.parametrize(
    ("folder", "suffix"),
    [("genres", ".au"), ("genres_original", ".wav"), ("Data/genres_original", ".wav"), (".", ".wav")],
)
def test_gtzan_without_lists(tmp_path, suffix, folder):
    corpora.make_gtzan(tmp_path, suffix=suffix, folder=folder)
    task = read_task("gtzan", tmp_path)
    assert len(task.paths) == 120  # the corrupt clip is found by who opens it
    assert "10 stratified folds, because train_filtered.txt is not there" in task.notes[0]
    assert task.notes[1].startswith("120 clips were found")
    for fold in task.folds:
        assert set(np.bincount(task.labels[fold.test], minlength=10).tolist()) <= {1, 2}
        assert set(task.labels[fold.valid]) == set(range(10))


def test_gtzan_with_lists(tmp_path):
    corpora.make_gtzan(tmp_path, lists=True, suffix=".au")  # the lists say .wav
    task = read_task("gtzan", tmp_path)
    assert "61/20/30 clips" in task.notes[0]
    assert "443/197/290" in task.notes[1]
    fold = task.fold("filtered")
    assert [len(rows) for rows in fold.parts.values()] == [60, 20, 30]
    assert names(task, fold.valid)[:3] == ["blues.00006.au", "blues.00007.au", "classical.00006.au"]
    assert labels_of(task, "jazz.00010.au") == {"jazz"}


def test_nsynth(tmp_path):
    corpora.make_nsynth(tmp_path)
    task = read_task("nsynth", tmp_path)
    assert (len(task.classes), task.classes[0], task.classes[9:]) == (11, "bass", ["synth_lead", "vocal"])
    fold = task.fold("official")
    assert task.labels[fold.train].tolist() == [0] * 6 + [6] * 6 + [8] * 6 + [9] * 6
    assert task.labels[fold.test].tolist() == [0] * 3 + [6] * 3 + [8] * 3
    assert names(task, fold.valid[:2]) == ["bass_synthetic_005-000-075.wav", "bass_synthetic_005-001-075.wav"]
    [note] = task.notes
    assert note.startswith("No clip has the label 'brass', 'flute', 'guitar', 'keyboard', 'mallet' and 2 more")


def test_openmic_is_partial_and_keeps_tracks_together(tmp_path):
    corpora.make_openmic(tmp_path)
    task = read_task("openmic", tmp_path)
    assert task.classes == ["accordion", "banjo", "voice"]
    assert task.known is not None
    row = names(task, np.arange(len(task.paths))).index("000001_3840.ogg")  # second track: banjo
    assert (task.labels[row].tolist(), task.known[row].tolist()) == ([0, 1, 0], [False, True, True])
    assert Path(task.paths[row]).parent.name == "000"
    fold = task.fold("split01")
    tracks = [{name.split("_")[0] for name in names(task, rows)} for rows in (fold.train, fold.valid)]
    assert not tracks[0] & tracks[1]
    assert len(fold.train) + len(fold.valid) == 24
    assert names(task, fold.test[:1]) == ["000100_0.ogg"]
    assert task.positives(fold.valid).any(axis=0).all()


@pytest.mark.parametrize("base", ["", "mp3", "audio"])
def test_mtt_takes_the_50_most_frequent_tags(tmp_path, base):
    corpora.make_mtt(tmp_path, base)
    task = read_task("mtt", tmp_path)
    assert task.classes == ["guitar", "opera", *(f"tag {n:02d}" for n in range(48))]
    assert task.labels[:2].tolist() == [[1, 0] + [1] * 48, [0, 1] + [0] * 48]
    fold = task.fold("folders")
    places = [[Path(task.paths[row]).parent.name for row in rows] for rows in fold.parts.values()]
    assert places == [[f for f in part for _ in range(2)] for part in ("0123456789ab", "c", "def")]
    assert names(task, fold.train[4:5]) == ["empty.mp3"]  # found by who opens it
    assert "50 most frequent of 52 tags" in task.notes[0]


def test_fsd50k(tmp_path):
    corpora.make_fsd50k(tmp_path)
    task = read_task("fsd50k", tmp_path)
    assert task.classes == ["Bark", "Guitar", "Music"]  # vocabulary's order
    assert (labels_of(task, "64760.wav"), labels_of(task, "64761.wav")) == ({"Guitar", "Music"}, {"Bark"})
    fold = task.fold("official")
    assert names(task, fold.valid) == ["64764.wav", "64765.wav", "64770.wav", "64771.wav"]
    assert names(task, fold.test) == ["902.wav", "903.wav", "904.wav"]
    assert len(fold.train) == 8


@pytest.mark.parametrize(("base", "low", "data"), [("audio", False, ""), ("mp3", True, "data"), ("", True, "")])
def test_mtg_in_its_layouts(tmp_path, base, low, data):
    corpora.make_mtg(tmp_path, base, low, data)
    task = read_task("mtg_moodtheme", tmp_path)
    assert task.classes == ["film", "sad"]
    fold = task.fold("split-0")
    assert [len(rows) for rows in fold.parts.values()] == [8, 4, 3]
    suffix = ".low.mp3" if low else ".mp3"
    assert names(task, fold.test) == [f"{number}{suffix}" for number in (213, 214, 215)]
    assert task.labels[fold.valid].tolist() == [[0, 1], [1, 0], [0, 1], [1, 1]]
    assert read_task("mtg_genre", tmp_path).classes == ["ambient", "rock"]
    assert read_task("mtg_top50", tmp_path).classes == ["genre---rock", "instrument---piano"], "two categories"


METADATA = {
    "esc50": "meta/esc50.csv",
    "us8k": "metadata/UrbanSound8K.csv",
    "nsynth": "nsynth-train/examples.json",
    "openmic": "openmic-2018-aggregated-labels.csv",
    "mtt": "annotations_final.csv",
    "fsd50k": "FSD50K.ground_truth/vocabulary.csv",
    "mtg_genre": "splits/split-0/autotagging_genre-train.tsv",
    "mtg_top50": "splits/split-0/autotagging_top50tags-train.tsv",
}


@pytest.mark.parametrize("name", METADATA)
def test_wrong_root_says_which_file_is_needed(tmp_path, name):
    with pytest.raises(TaskError, match=f"{name}: no file {tmp_path}/{METADATA[name]}"):
        read_task(name, tmp_path)
    with pytest.raises(TaskError, match=f"{name}: {tmp_path}/nowhere is no folder"):
        read_task(name, tmp_path / "nowhere")


def test_a_root_nearby_is_proposed(tmp_path):
    right = tmp_path / "ESC-50-master"
    corpora.make_esc50(right)
    for root in (tmp_path, right / "meta", right / "audio"):
        with pytest.raises(TaskError, match=f"{right} does"):
            read_task("esc50", root)
    shutil.rmtree(right / "audio")
    with pytest.raises(TaskError, match=r"esc50: none of its 45 clips .*1-9000-A-0"):
        read_task("esc50", right)


def test_gtzan_errors(tmp_path):
    with pytest.raises(TaskError, match=r"gtzan: .*genre blues"):
        read_task("gtzan", tmp_path)
    corpora.make_gtzan(tmp_path, lists=True)
    (tmp_path / "valid_filtered.txt").unlink()
    with pytest.raises(TaskError, match=r"gtzan: valid_filtered\.txt"):
        read_task("gtzan", tmp_path)
    for part in ("train", "test"):
        (tmp_path / f"{part}_filtered.txt").unlink()
    for clip in range(5):
        (tmp_path / f"genres/metal/metal.{clip:05d}.wav").unlink()
    with pytest.raises(TaskError, match=r"class 'metal' has 7 clips"):
        read_task("gtzan", tmp_path)


OPENMIC, DEV, MTT = METADATA["openmic"], "FSD50K.ground_truth/dev.csv", "annotations_final.csv"
MTG_TEST = "splits/split-0/autotagging_genre-test.tsv"
BROKEN = [
    ("esc50", "meta/esc50.csv", "target", "goal", r"esc50\.csv: no column 'target'"),
    ("esc50", "meta/esc50.csv", ",14,", ",x,", r"esc50\.csv: line \d+: target is 'x'"),
    ("esc50", "meta/esc50.csv", "2-9001-A-14.wav", "1-9001-A-14.wav", "1-9001-A-14.wav is there twice, in t"),
    ("nsynth", "nsynth-valid/examples.json", '"organ"', '"harp"', r"examples\.json: .*'harp'"),
    ("nsynth", "nsynth-test/examples.json", "}\n}", "", r"examples\.json: .*JSON"),
    (
        "nsynth",
        "nsynth-test/examples.json",
        "instrument_family_str",
        "x",
        r"examples\.json: .*instrument_family_str",
    ),
    ("openmic", OPENMIC, "000001_0", "999999_0", "clip 000001_0"),
    ("openmic", OPENMIC, "0.5,", "half,", "line 2: relevance is 'half'"),
    ("openmic", "partitions/split01_test.csv", "000100_0", "000001_0", "000001_0.ogg is there twice, in"),
    ("mtt", MTT, "mp3_path", "path", "no column 'mp3_path'"),
    ("mtt", MTT, '"c/', '"g/', r"line \d+: folder 'g'"),
    ("mtt", MTT, '\t"0/artist-album-00-title-0-29.mp3"', "", "line 2 has 53 cells, not 54"),
    ("fsd50k", METADATA["fsd50k"], "1,Guitar,/m/0342h", "Guitar", "line 2 has 1 cells"),
    ("fsd50k", DEV, "Bark", "Brak", "line 3: label 'Brak'"),
    ("fsd50k", DEV, ",val", ",valid", r"line \d+: split 'valid'"),
    ("mtg_genre", MTG_TEST, "PATH", "FILE", "no column 'PATH'"),
    ("mtg_genre", MTG_TEST, "\tgenre---rock\n", "\t\n", "line 2 has no label"),
    ("mtg_genre", MTG_TEST, "rock", "polka", "no training clip has the label 'polka'"),
]


@pytest.mark.parametrize(("name", "file", "old", "new", "message"), BROKEN)
def test_broken_metadata(tmp_path, name, file, old, new, message):
    corpora.MAKERS[name](tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(TaskError, match=f"{name}: .*{message}"):
        read_task(name, tmp_path)
