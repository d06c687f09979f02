"""What holds of every task, dropping clips from one, and files that are two clips."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.corpora import make_table
from matpac.tasks import Fold, Task, TaskError, read_task, without

ONE_HOT = np.eye(2, dtype=np.uint8)[np.arange(6) % 2]
SINGLE = Task(
    "toy", "single", ["even", "odd"], [f"/s/{n}.wav" for n in range(6)], np.arange(6) % 2,
    [Fold(np.array([0, 1]), np.array([2, 3]), np.array([4, 5]), name="mine")],
)  # fmt: skip
FOLD = SINGLE.folds[0]
KNOWN = np.array([[1, 0]] * 2 + [[1, 1]] * 4, bool)
MULTI = replace(SINGLE, kind="multi", labels=ONE_HOT, known=KNOWN, folds=[replace(FOLD, untrained=(1,))])


def test_what_a_task_offers():
    assert (SINGLE.exclusive, SINGLE.metric, MULTI.exclusive, MULTI.metric) == (True, "accuracy", False, "mAP")
    clips = np.array([3, 0])
    assert SINGLE.positives(clips).tolist() == [[False, True], [True, False]]
    assert MULTI.positives(np.array([1, 3])).tolist() == [[False, False], [False, True]], "known ones alone"
    assert SINGLE.counts().tolist() == [3, 3]
    assert MULTI.counts().tolist() == [3, 2]
    assert SINGLE.fold() is SINGLE.fold("mine") is FOLD
    with pytest.raises(TaskError, match="no fold 'x'; there are mine"):
        SINGLE.fold("x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": np.array([0, 1, 0, 1, 0, 2])},
        {"labels": np.array([0, 1, 0, 1, 0, -1])},
        {"labels": np.zeros(5, int)},
        {"labels": ONE_HOT},
        {"known": np.ones((6, 2), bool)},
        {"kind": "multi", "labels": 2 * ONE_HOT},
        {"kind": "multi", "labels": ONE_HOT, "known": np.arange(12).reshape(6, 2) < 8},
        {"folds": []},
        {"folds": [replace(FOLD, valid=np.array([], int))]},
        {"folds": [replace(FOLD, valid=np.array([1, 2]))]},
        {"folds": [replace(FOLD, valid=np.array([2, 6]))]},
        {"folds": [replace(FOLD, valid=np.array([2, -1]))]},
        {"folds": [replace(FOLD, train=np.array([0]))]},
    ],
    ids=range(13),
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]):
    with pytest.raises(TaskError, match="toy: "):
        replace(SINGLE, **wrong)


def test_without_renumbers():
    task = without(SINGLE, {2: "no sound", 5: "cut short"})
    assert [Path(path).name for path in task.paths] == ["0.wav", "1.wav", "3.wav", "4.wav"]
    assert task.labels.tolist() == [0, 1, 1, 0]
    assert [clips.tolist() for clips in task.fold("mine").parts.values()] == [[0, 1], [2], [3]]
    assert task.missing == [("/s/2.wav", "no sound"), ("/s/5.wav", "cut short")]
    assert task.total == 6
    assert without(task, {}) is task


def test_a_class_that_lost_its_training_clips_is_kept():
    task = without(SINGLE, {1: "cut short"})
    assert task.folds[0].untrained == (1,)
    [note] = task.notes
    assert "split 'mine'" in note
    assert "'odd'" in note
    assert without(task, {1: "x"}).notes == task.notes, "reported once"
    with pytest.raises(TaskError, match="no training clip has the label 'odd'"):
        replace(task, folds=[replace(task.folds[0], untrained=())])


def test_a_class_that_lost_all_its_clips():
    task = without(SINGLE, {1: "x", 3: "x", 5: "x"})
    assert task.notes == ["No clip has the label 'odd'; it counts in no score."]
    assert task.folds[0].untrained == ()


def test_a_part_that_lost_its_clips_or_positives():
    with pytest.raises(TaskError, match=r"toy: split 'mine': its test part .*2 of 6 .*/s/4\.wav: gone"):
        without(SINGLE, {4: "gone", 5: "gone"})
    task = replace(MULTI, labels=np.array([[1, 0]] * 5 + [[0, 0]], np.uint8))
    with pytest.raises(TaskError, match=r"no clip of its test part has a label .*/s/4\.wav: gone"):
        without(task, {4: "gone"})


@pytest.mark.parametrize(
    ("last", "places"),
    [
        ("./clips/0.wav", r"/0\.wav is there twice, in train and test of split 'table'"),
        ("linked/3.wav", r"linked/3\.wav .*once as /.*clips/3\.wav.*, in valid and test"),
    ],
)
def test_a_file_that_is_there_twice(tmp_path, last, places):
    """However its path is written: it would be trained and tested on."""
    clips = [f"clips/{n}.wav" for n in range(5)]
    make_table(tmp_path / "first.csv", {"path": clips})
    (tmp_path / "linked").symlink_to(tmp_path / "clips")
    split = ["train"] * 2 + ["valid"] * 2 + ["test"] * 2
    make_table(tmp_path / "mine.csv", {"path": [*clips, last], "label": ["a", "b"] * 3, "split": split})
    with pytest.raises(TaskError, match=f"mine: .*{places}"):
        read_task("table", tmp_path / "mine.csv")


def test_unknown_task():
    with pytest.raises(TaskError, match=r"no task 'ecs50'; did you mean esc50\?"):
        read_task("ecs50", "x")
