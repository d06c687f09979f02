"""AudioSet's tables and clips as people have them, and tables that can't be right."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import corpora
from matpac.tasks import Task, TaskError, read_task
from matpac.tasks.audioset import clip_row

BALANCED, UNBALANCED, EVALUATION = (
    f"{part}_segments.csv" for part in ("balanced_train", "unbalanced_train", "eval")
)
CLASSES = "class_labels_indices.csv"


def sets(task: Task, rows: np.ndarray) -> set[str]:
    return {part for row in rows for part in ("bal", "unb", "eva") if part in Path(task.paths[row]).name}


def test_classes_labels_and_splits(tmp_path):
    corpora.make_audioset(tmp_path)
    task = read_task("audioset", tmp_path)
    assert task.classes == ["Male speech, man speaking", "Speech", "Fireworks"], "by mid, not by index"
    by_name = {Path(path).name: row for path, row in zip(task.paths, task.labels.tolist(), strict=True)}
    assert by_name["-bal0000000.flac"] == by_name["-unb0000004_30000.ogg"] == [0, 1, 0]
    assert by_name["YYbal0000002.wav"] == by_name["YYbal0000006_30.000_40.000.mp3"] == [1, 1, 0]
    assert by_name["Ybbal0000003.wav"] == [0, 0, 1]
    parts = task.folds[0].parts.values()
    assert [len(rows) for rows in parts] == [35 + 5, 4, 5]
    assert [sets(task, rows) for rows in parts] == [{"bal", "unb"}, {"bal"}, {"eva"}]
    assert task.labels[task.folds[0].valid].sum(axis=0)[1:].tolist() == [2, 2], "stratified"
    assert len(task.notes) == 2


def test_the_balanced_set_alone_holds_the_same_clips_out(tmp_path):
    corpora.make_audioset(tmp_path)
    both, alone = read_task("audioset", tmp_path), read_task("audioset20k", tmp_path)
    assert sets(alone, np.arange(len(alone.paths))) == {"bal", "eva"}
    valid = [[task.paths[row] for row in task.folds[0].valid] for task in (both, alone)]
    assert valid[0] == valid[1]
    (tmp_path / UNBALANCED).write_text("ignored")
    assert read_task("audioset20k", tmp_path).paths == alone.paths
    (tmp_path / UNBALANCED).unlink()
    without = read_task("audioset", tmp_path)
    assert without.paths == alone.paths
    assert f"{UNBALANCED} is not there" in without.notes[2]


@pytest.mark.parametrize("folder", ["metadata", "csv"])
def test_tables_in_a_folder_of_their_own_and_with_a_header_that_is_no_comment(tmp_path, folder):
    corpora.make_audioset(tmp_path)
    plain = read_task("audioset", tmp_path)
    (tmp_path / folder).mkdir()
    for file in tmp_path.glob("*.csv"):
        (tmp_path / folder / file.name).write_text(file.read_text().replace("# YTID,", "YTID,"))
        file.unlink()
    assert read_task("audioset", tmp_path).paths == plain.paths


def test_names_of_classes_from_the_cache(tmp_path, monkeypatch):
    corpora.make_audioset(tmp_path / "a")
    monkeypatch.setenv("MATPAC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "a" / CLASSES).rename(tmp_path / "cache" / CLASSES)
    assert read_task("audioset", tmp_path / "a").classes[2] == "Fireworks"
    (tmp_path / "cache" / CLASSES).unlink()
    with pytest.raises(TaskError, match=rf"audioset: no file .*a/{CLASSES}"):
        read_task("audioset", tmp_path / "a")


def test_what_else_lies_there(tmp_path):
    """Further files of a clip, other sounds, hidden files, pictures; a link back up."""
    corpora.make_audioset(tmp_path)
    plain = read_task("audioset", tmp_path)
    folder = Path(plain.paths[0]).parent
    others = ["._-bal0000000.wav", "-bal0000001.jpg", "-bal0000001x.wav", "Y.wav", "talk.wav", "-bal.0000001.wav"]
    for place in [*(folder / name for name in others), tmp_path / ".trash/_bal0000001.wav"]:
        place.parent.mkdir(exist_ok=True)
        place.touch()
    (tmp_path / "z").mkdir()
    for name in ("-bal0000000.wav", "-bal0000000_30000.mp3"):
        (tmp_path / "z" / name).touch()
    (tmp_path / "z" / "up").symlink_to(tmp_path)
    task = read_task("audioset", tmp_path)
    assert (task.paths, task.missing) == (plain.paths, plain.missing)
    assert task.notes[2].startswith("2 sounds are further files of a clip")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (EVALUATION, "-eva0000000, 30.000,", "-eva0000000,", r"eval_segments\.csv: line 4 has 3 cells"),
        (EVALUATION, "-eva0000000", "x", r"eval_segments\.csv: line 4 "),
        (EVALUATION, "-eva0000000", "-bal0000000", "line 4: clip -bal0000000"),
        (UNBALANCED, "/t/dd00128", "/m/none", "line 5: label '/m/none'"),
        (CLASSES, "mid", "name", "column 'mid'"),
        (BALANCED, None, None, BALANCED),
        (EVALUATION, None, None, EVALUATION),
    ],
)
def test_a_damaged_or_missing_table(tmp_path, file, old, new, message):
    corpora.make_audioset(tmp_path)
    if old is None:
        (tmp_path / file).unlink()
    else:
        text = (tmp_path / file).read_text()
        assert old in text
        (tmp_path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(TaskError, match=f"audioset: .*{message}"):
        read_task("audioset", tmp_path)


youtube = st.text("abcXYZ019-_", min_size=11, max_size=11)
times = st.sampled_from(["", "_30", "_30000", "_30.000", "_0_10", "_30.000_40.000"])


@settings(deadline=None, max_examples=300)
@given(st.lists(youtube, min_size=1, max_size=6, unique=True), st.booleans(), times)
def test_every_way_to_call_a_clip_means_it(names, prefix, behind):
    clips = {name: row for row, name in enumerate(names)}
    stem = f"{'Y' * prefix}{names[-1]}{behind}"
    # a name may look like another clip's: then that clip's exact name counts
    other = clips.get(stem[:11]) if prefix else None
    found = clip_row(stem, clips)
    assert found == len(names) - 1 or (other is not None and found == other)
    assert clip_row(stem + "x", clips) is None or behind == ""
