"""One's own sounds: a folder per class, and tables; labels, splits, notes, and errors."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.corpora import make_folder, make_table, tone
from matpac.tasks import TaskError, read_task

PATHS = [f"clips/{n:02d}.wav" for n in range(12)]
LABELS = ["b", "a"] * 6
SPLIT = ["train"] * 6 + ["valid"] * 2 + ["test"] * 4
GROUPS = [f"g{n // 2}" for n in range(12)]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """A folder with the sounds of `PATHS`, for tables beside them."""
    folder: Path = tmp_path_factory.mktemp("own")
    for number, path in enumerate(PATHS):
        tone(folder / path, number % 2)
    return folder


def parquet(file: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def sizes(task) -> list[int]:
    return [len(clips) for clips in task.folds[0].parts.values()]


def test_folder_without_parts(tmp_path):
    make_folder(tmp_path / "pets")
    task = read_task("folder", tmp_path / "pets")
    assert (task.name, task.classes, len(task.paths)) == ("pets", ["cat", "dog"], 20)
    assert task.labels.tolist() == [0] * 10 + [1] * 10
    counts = [np.bincount(task.labels[clips]).tolist() for clips in task.fold("random").parts.values()]
    assert counts == [[8, 8], [1, 1], [1, 1]]
    loose, empty, split = task.notes
    assert loose.startswith("1 sounds lie in pets")
    assert empty.endswith(": nothing.")
    assert split.startswith("No split is given: 16 clips train, 2 validate and 2 test")


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("Training", "VALID", "Testing")])
def test_folder_with_parts(tmp_path, parts):
    make_folder(tmp_path, parts, clips=3)
    (tmp_path / "results/cache").mkdir(parents=True)  # of an earlier call, no part and no class
    task = read_task("folder", tmp_path)
    for clips, part in zip(task.fold("folders").parts.values(), parts, strict=True):
        assert {Path(task.paths[row]).relative_to(tmp_path).parts[0] for row in clips} == {part}
        assert len(clips) == 6
    assert task.classes == ["cat", "dog"]
    assert "results" in task.notes[0]


def test_folder_without_validation_part_and_with_a_class_of_a_parts_name(tmp_path):
    make_folder(tmp_path / "a", ("train", "test"))
    task = read_task("folder", tmp_path / "a")
    assert sizes(task) == [18, 2, 20]
    assert task.notes[-1].startswith("No validation part is given: 2 of 20 training clips")
    for name in ("Train", "car", "plane"):
        for clip in range(3):
            tone(tmp_path / "b" / name / f"{clip}.wav", 1)
    assert read_task("folder", tmp_path / "b").classes == ["Train", "car", "plane"]


def test_folder_errors(tmp_path):
    def refused(folder: str, message: str) -> None:
        with pytest.raises(TaskError, match=message):
            read_task("folder", tmp_path / folder)

    refused("no", "is no folder")
    make_folder(tmp_path / "a", ("train",))
    refused("a", "has train alone; both train and test are needed")
    make_folder(tmp_path / "a/test")
    tone(tmp_path / "a/Validation/cat/1.wav", 1)
    tone(tmp_path / "a/val/cat/1.wav", 1)
    refused("a", "has Validation and val, both for the valid part")
    tone(tmp_path / "a/extra/1.wav", 1)
    refused("a", "sounds in Validation, test, train, val and beside them in extra; move extra")
    tone(tmp_path / "b/one/1.wav", 1)
    refused("b", "has sounds in 1 class folders")
    tone(tmp_path / "b/two/1.wav", 1)
    refused("b", "class 'one' has 1 clips, too few for training, validation and test")
    make_folder(tmp_path / "c", ("train", "test"))
    shutil.rmtree(tmp_path / "c/train/dog")
    refused("c", "no training clip has the label 'dog'")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_table_with_one_label(sounds, suffix, monkeypatch):
    columns: dict[str, Sequence[str]] = {"path": PATHS, "label": LABELS, "split": SPLIT, "other": ["x"] * 12}
    make_table(sounds / f"mine{suffix}", columns)
    monkeypatch.chdir(sounds)
    task = read_task("table", f"mine{suffix}")
    assert (task.name, task.kind, task.classes, task.notes) == ("mine", "single", ["a", "b"], [])
    assert task.labels.tolist() == [1, 0] * 6
    assert task.paths == [os.path.join(sounds, path) for path in PATHS]  # noqa: PTH118
    assert sizes(task) == [6, 2, 4]


@pytest.mark.parametrize(
    ("cells", "classes"),
    [([["a;b"], ["a"]] * 6, ["a", "a;b"]), (["a;b", "a"] * 6, ["a", "a;b"]), ([10.0, 9] * 6, ["10", "9"])],
)
def test_labels_of_one_class_with_types(sounds, cells, classes):
    task = read_task("table", parquet(sounds / "typed.parquet", path=PATHS, label=cells, split=SPLIT))
    assert (task.kind, task.classes) == ("single", classes)


@pytest.mark.parametrize("several", [["b; a", "c", "a"], [["b", None, "a "], ["c"], ["a"]]])
def test_table_with_several_labels(sounds, several):
    file = parquet(sounds / "several.parquet", path=PATHS, labels=several * 4, split=SPLIT)
    task = read_task("table", file)
    assert (task.kind, task.metric, task.classes, task.known) == ("multi", "mAP", ["a", "b", "c"], None)
    assert task.labels[:3].tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_table_with_partial_labels(sounds):
    columns = {"label:z": ["1", "0", ""] * 4, "label:a": ["", "1", "0"] * 4}
    make_table(sounds / "mine.csv", {"path": PATHS, **columns, "split": SPLIT})
    typed = {"label:z": [1.0, 0.0, float("nan")] * 4, "label:a": [None, True, False] * 4}
    for file in (sounds / "mine.csv", parquet(sounds / "mine.parquet", path=PATHS, **typed, split=SPLIT)):
        task = read_task("table", file)
        assert task.classes == ["z", "a"]
        assert task.labels[:3].tolist() == [[1, 0], [0, 1], [0, 0]]
        assert task.known is not None
        assert task.known[:3].tolist() == [[True, False], [True, True], [False, True]]


def test_table_with_folds_and_groups(sounds):
    fold = [9.0 + n // 4 for n in range(12)]
    task = read_task("table", parquet(sounds / "folds.parquet", path=PATHS, label=LABELS, fold=fold, group=GROUPS))
    assert [fold.name for fold in task.folds] == ["9", "10", "11"], "in the order of numbers"
    for number, part in enumerate(task.folds):
        assert part.test.tolist() == list(range(4 * number, 4 * number + 4))
        assert not {GROUPS[row] for row in part.train} & {GROUPS[row] for row in part.valid}
    assert len(task.notes) == 1


def test_table_without_split(sounds):
    make_table(sounds / "mine.csv", {"path": PATHS, "label": LABELS})
    assert sizes(read_task("table", sounds / "mine.csv")) == [8, 2, 2]


CASES = [
    ({}, r"mine\.csv: one of the columns label, labels or label:<class> … is needed, not none of them"),
    ({"label": LABELS, "labels": LABELS}, "is needed, not label, labels"),
    ({"label": ["", *LABELS[1:]]}, r"mine\.csv: line 2 has no label"),
    ({"labels": [";", *LABELS[1:]]}, r"mine\.csv: line 2 has no label"),
    ({"label": ["a"] * 12}, "has one label alone, 'a'"),
    ({"label": LABELS, "split": ["trian", *SPLIT[1:]]}, r"line 2: split 'trian' is none of train"),
    ({"label": LABELS, "split": SPLIT, "fold": LABELS}, "a column split and a column fold"),
    ({"label": LABELS, "fold": ["1"] * 12}, "has one fold alone, '1'"),
    ({"label:a": ["1", "2"] * 6}, r"line 3: label:a is '2'; 1, 0 or nothing"),
    ({"label": LABELS, "split": SPLIT, "group": ["x"] * 12}, "line 8: group 'x' is in split train and valid"),
    ({"label": ["a", *["b", "c"] * 5, "b"]}, "class 'a' has 1 clips, too few for training, valid"),
    ({"label": LABELS, "group": ["x", "y"] * 6}, "class 'a' has 1 groups, too few for training"),
    ({"label": [*LABELS[:-1], "dgo"], "split": SPLIT}, "no training clip has the label 'dgo'"),
    ({"label": LABELS, "split": ["train"] * 12}, "its test part has no clip"),
    ({"label": [*LABELS[:4], *"cdcdcdcd"], "fold": [str(n // 4) for n in range(12)]}, "fold 0: no training"),
]


@pytest.mark.parametrize(("columns", "message"), CASES)
def test_table_errors(sounds, columns: dict[str, Sequence[str]], message):
    make_table(sounds / "mine.csv", {"path": PATHS, **columns})
    with pytest.raises(TaskError, match=message):
        read_task("table", sounds / "mine.csv")


def test_several_labels_in_the_column_of_one(sounds):
    file = parquet(sounds / "wrong.parquet", path=PATHS, label=[["a"], ["a", "b"]] * 6)
    with pytest.raises(TaskError, match=r"wrong\.parquet: row 2 has several labels; .*call the column labels"):
        read_task("table", file)
