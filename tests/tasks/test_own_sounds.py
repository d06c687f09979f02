"""A folder a class, and tables: labels, splits, what is told, and every error."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from helpers.corpora import make_folder, make_table, tone
from matpac.tasks import TaskError, read_table, read_task

PATHS = [f"clips/{n:02d}.wav" for n in range(12)]
LABELS = ["b", "a"] * 6
SPLIT = ["train"] * 6 + ["valid"] * 2 + ["test"] * 4


def test_folder_without_parts(tmp_path):
    make_folder(tmp_path / "pets")
    task = read_task("folder", tmp_path / "pets")
    assert (task.name, task.classes, len(task.paths)) == ("pets", ["cat", "dog"], 20)
    assert task.labels.tolist() == [0] * 10 + [1] * 10
    [split] = task.splits
    for rows, count in ((split.train, 8), (split.valid, 1), (split.test, 1)):
        assert np.bincount(task.labels[rows]).tolist() == [count, count]
    assert task.notes == [
        "1 sounds lie in pets beside the class folders and are not used.",
        "Folders without sounds, which make no class: nothing.",
        "No split is given: 16 clips train, 2 validate and 2 test, drawn by chance (seed 0), as near to 80/10/10 "
        "as classes and groups allow.",
    ]
    assert task.fold_names == ["random"]


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("Training", "VALID", "Testing")])
def test_folder_with_parts(tmp_path, parts):
    make_folder(tmp_path, parts, clips=3)
    (tmp_path / "results/cache").mkdir(parents=True)  # of an earlier call, no part and no class
    [split] = (task := read_task("folder", tmp_path)).splits
    for rows, part in zip((split.train, split.valid, split.test), parts, strict=True):
        assert {Path(task.paths[row]).relative_to(tmp_path).parts[0] for row in rows} == {part}
        assert len(rows) == 6
    assert (task.classes, task.fold_names) == (["cat", "dog"], ["folders"])
    assert task.notes[0] == "Folders without sounds, which make no class: results."


def test_a_folder_of_a_parts_name_may_be_a_class(tmp_path):
    for name in ("Train", "car", "plane"):
        for clip in range(3):
            tone(tmp_path / name / f"{clip}.wav", 1)
    assert read_task("folder", tmp_path).classes == ["Train", "car", "plane"]


def test_folder_without_validation_part(tmp_path):
    make_folder(tmp_path, ("train", "test"))
    task = read_task("folder", tmp_path)
    [split] = task.splits
    assert [len(rows) for rows in (split.train, split.valid, split.test)] == [18, 2, 20]
    assert (
        task.notes[-1] == "No validation part is given: 2 of 20 training clips, drawn by chance (seed 0), are it."
    )


def test_folder_errors(tmp_path):
    with pytest.raises(TaskError, match="is no folder; give one that holds a folder for each class"):
        read_task("folder", tmp_path / "no")
    make_folder(tmp_path / "a", ("train",))
    with pytest.raises(TaskError, match="has train alone; both train and test are needed"):
        read_task("folder", tmp_path / "a")
    make_folder(tmp_path / "a/test")
    tone(tmp_path / "a/Validation/cat/1.wav", 1)
    tone(tmp_path / "a/val/cat/1.wav", 1)
    with pytest.raises(TaskError, match="has Validation and val, both for the valid part; remove one"):
        read_task("folder", tmp_path / "a")
    tone(tmp_path / "a/extra/1.wav", 1)
    with pytest.raises(
        TaskError, match="sounds in Validation, test, train, val and beside them in extra; move extra"
    ):
        read_task("folder", tmp_path / "a")
    tone(tmp_path / "b/one/1.wav", 1)
    with pytest.raises(TaskError, match="has sounds in 1 class folders; two or more"):
        read_task("folder", tmp_path / "b")
    tone(tmp_path / "b/two/1.wav", 1)
    with pytest.raises(TaskError, match="class 'one' has 1 clips, too few for training, validation and test"):
        read_task("folder", tmp_path / "b")
    make_folder(tmp_path / "c", ("train", "test"))
    shutil.rmtree(tmp_path / "c/train/dog")
    with pytest.raises(TaskError, match="no training clip has the label 'dog', but validation or test clips have"):
        read_task("folder", tmp_path / "c")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_table_with_one_label(tmp_path, suffix):
    table = tmp_path / f"mine{suffix}"
    make_table(table, {"path": PATHS, "label": LABELS, "split": SPLIT, "other": ["x"] * 12})
    task = read_table(table)
    assert (task.name, task.kind, task.metric, task.classes) == ("mine", "single", "accuracy", ["a", "b"])
    assert task.labels.tolist() == [1, 0] * 6
    assert task.paths == [str(tmp_path / path) for path in PATHS]
    [split] = task.splits
    assert split.train.tolist() == [0, 1, 2, 3, 4, 5]
    assert (split.valid.tolist(), split.test.tolist()) == ([6, 7], [8, 9, 10, 11])
    assert task.notes == []


def test_table_with_several_labels(tmp_path):
    table = tmp_path / "mine.csv"
    make_table(table, {"path": PATHS, "labels": ["b;a", "c", "a"] * 4, "split": SPLIT})
    task = read_table(table)
    assert (task.kind, task.metric, task.classes, task.known) == ("multi", "mAP", ["a", "b", "c"], None)
    assert task.labels[:3].tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_parquet_lists_are_several_labels(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    make_table(tmp_path / "first.csv", {"path": PATHS, "label": LABELS})
    lists = [["a", None, "b "], [" a"], ["b"]] * 4
    pq.write_table(pa.table({"path": PATHS, "labels": lists, "split": SPLIT}), tmp_path / "mine.parquet")
    task = read_table(tmp_path / "mine.parquet")
    assert task.classes == ["a", "b"]
    assert task.labels[:3].tolist() == [[1, 1], [1, 0], [0, 1]]


def test_parquet_cells_are_stripped_and_nan_is_unknown(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    make_table(tmp_path / "first.csv", {"path": PATHS, "label": LABELS})
    columns = {"path": [f" {path} " for path in PATHS], "label:a": [1.0, 0.0, float("nan")] * 4, "split": SPLIT}
    pq.write_table(pa.table(columns), tmp_path / "mine.parquet")
    task = read_table(tmp_path / "mine.parquet")
    assert task.known is not None
    assert task.known[:3, 0].tolist() == [True, True, False]
    assert (task.labels[:3, 0].tolist(), task.missing) == ([1, 0, 0], [])


def test_table_with_partial_labels(tmp_path):
    table = tmp_path / "mine.csv"
    make_table(
        table, {"path": PATHS, "label:z": ["1", "0", ""] * 4, "label:a": ["", "1", "0"] * 4, "split": SPLIT}
    )
    task = read_table(table)
    assert task.classes == ["z", "a"]
    assert task.labels[:3].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert task.known is not None
    assert task.known[:3].tolist() == [[True, False], [True, True], [False, True]]


def test_table_with_folds_and_groups(tmp_path):
    table = tmp_path / "mine.csv"
    folds = [str(9 + n // 4) for n in range(12)]  # 9, 10, 11: in the order of numbers
    groups = [f"g{n // 2}" for n in range(12)]
    make_table(table, {"path": PATHS, "label": LABELS, "fold": folds, "group": groups})
    task = read_table(table)
    assert task.fold_names == ["9", "10", "11"]
    for number, split in enumerate(task.splits):
        assert split.test.tolist() == list(range(4 * number, 4 * number + 4))
        assert not {groups[row] for row in split.train} & {groups[row] for row in split.valid}
    assert task.notes == ["Validation: about a tenth of each fold's training part, drawn by chance (seed 0)."]


def test_table_without_split(tmp_path):
    table = tmp_path / "mine.csv"
    make_table(table, {"path": PATHS, "label": LABELS})
    task = read_task("table", table)
    [split] = task.splits
    assert [len(rows) for rows in (split.train, split.valid, split.test)] == [8, 2, 2]
    assert task.notes[0].startswith("No split is given: 8 clips train, 2 validate and 2 test")


def test_relative_table_gives_absolute_paths(tmp_path, monkeypatch):
    make_table(tmp_path / "mine.csv", {"path": PATHS, "label": LABELS, "split": SPLIT})
    monkeypatch.chdir(tmp_path)
    assert all(os.path.isabs(path) for path in read_table(Path("mine.csv")).paths)  # noqa: PTH117


CASES = [
    ({"path": PATHS}, "one of the columns label, labels or label:<class> … is needed, not none of them"),
    ({"path": PATHS, "label": LABELS, "labels": LABELS}, "is needed, not label, labels"),
    ({"path": PATHS, "label": ["", *LABELS[1:]]}, r"row 1 \(clips/00.wav\) has no label"),
    ({"path": PATHS, "labels": ["a;", *LABELS[1:]]}, "column labels has an empty name"),
    ({"path": PATHS, "label": ["a"] * 12}, "has one label alone, 'a'"),
    (
        {"path": PATHS, "label": LABELS, "split": ["trian", *SPLIT[1:]]},
        r"row 1 .*: split 'trian' is none of train",
    ),
    ({"path": PATHS, "label": LABELS, "split": SPLIT, "fold": LABELS}, "a column split and a column fold"),
    ({"path": PATHS, "label": LABELS, "fold": ["1"] * 12}, "has one fold alone, '1'"),
    ({"path": PATHS, "label:a": ["1", "2"] * 6}, r"row 2 .*: label:a is '2'; 1, 0 or nothing"),
    (
        {"path": PATHS, "label": LABELS, "split": SPLIT, "group": ["x"] * 12},
        "group 'x' is in split train and valid; keep a group on one side",
    ),
    ({"path": PATHS, "label": ["a", *["b", "c"] * 5, "b"]}, "class 'a' has 1 clips, too few for training, valid"),
    (
        {"path": PATHS, "label": LABELS, "group": ["x", "y"] * 6},
        "class 'a' has 1 groups, too few for training, validation",
    ),
    ({"path": PATHS, "label": [*LABELS[:-1], "dgo"], "split": SPLIT}, "no training clip has the label 'dgo', but"),
    ({"path": PATHS, "label": LABELS, "split": ["train"] * 12}, "its test part has no clip"),
    (
        {"path": PATHS, "label": [*LABELS[:4], *"cdcdcdcd"], "fold": [str(n // 4) for n in range(12)]},
        "fold 0: no tra",
    ),
]


@pytest.mark.parametrize(("columns", "message"), CASES)
def test_table_errors(tmp_path, columns, message):
    make_table(tmp_path / "mine.csv", columns)
    with pytest.raises(TaskError, match=message):
        read_table(tmp_path / "mine.csv")


FILES = [
    ("", "has no rows"),
    ("path,label\n", "has no rows"),
    ("file,label\na.wav,b\n", "has no column 'path'; it has file, label"),
    ("path,label\na.wav\n", "row 1 has 1 cells, the header 2"),
    ("path,label\na.wav,x\na.wav,y\n", "a.wav is in rows 1 and 2; a clip has one row"),
    ("path,label\n,x\n", "row 1 has no path"),
    (b"path,label\n\xff\xfe,x\n", "not UTF-8 text"),
    pytest.param(
        f'path,label\na.wav,"{"x" * 140_000}', "not a table .field larger .*; look for a quote", id="open quote"
    ),
    ("path,label,label\na.wav,x,y\n", "has two columns 'label'; rename or remove one"),
]


@pytest.mark.parametrize(("content", "message"), FILES)
def test_broken_tables(tmp_path, content, message):
    table = tmp_path / "mine.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaskError, match=message):
        read_table(table)


def test_a_file_that_is_there_twice(tmp_path):
    """However its path is written: it would be trained and tested on."""
    columns: dict[str, Sequence[str]] = {"path": [*PATHS[:-1], f"./{PATHS[0]}"], "label": LABELS, "split": SPLIT}
    make_table(tmp_path / "mine.csv", columns)
    with pytest.raises(
        TaskError, match=r"mine: /.*/00\.wav is there twice, in train and test of split 'table'; a"
    ):
        read_table(tmp_path / "mine.csv")
    (tmp_path / "linked").symlink_to(tmp_path / "clips")
    make_table(tmp_path / "mine.csv", columns | {"path": [*PATHS[:-1], "linked/06.wav"]})
    with pytest.raises(
        TaskError, match=r"linked/06\.wav is there twice .once as /.*clips/06\.wav., in valid and test"
    ):
        read_table(tmp_path / "mine.csv")
    folds = [str(number % 3) for number in range(12)]
    make_table(tmp_path / "mine.csv", {"path": [*PATHS[:-1], "linked/09.wav"], "label": LABELS, "fold": folds})
    with pytest.raises(TaskError, match="in test and train of fold 0"):
        read_table(tmp_path / "mine.csv")


def test_no_table_and_no_parquet(tmp_path):
    with pytest.raises(TaskError, match=r"no such table; give a file of .csv, .tsv, .parquet"):
        read_table(tmp_path / "no.csv")
    (tmp_path / "x.parquet").write_text("words")
    with pytest.raises(TaskError, match=r"x.parquet: not a Parquet file that can be read .*; write it anew"):
        read_table(tmp_path / "x.parquet")
