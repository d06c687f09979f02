"""Rows that tasks share: copied where file, encoder and settings are the same, and nowhere else."""

import os
from pathlib import Path

import numpy as np
import pytest

from helpers.made_task import Mean, named, task_of, write
from matpac.probe.encoders import NamedEncoder
from matpac.probe.features import embed_task
from matpac.tasks import Fold, Task


def part_of(task: Task, clips: list[int], name: str = "other", unit: float | None = None) -> Task:
    """Another task on some of the clips, in another order."""
    parts = np.array_split(np.arange(len(clips)), 3)
    paths = [task.paths[clip] for clip in clips]
    return Task(name, "single", ["a"], paths, np.zeros(len(clips), np.int64), [Fold(*parts)], unit)


def asked(task: Task, cache: Path, key: str = "0" * 64) -> tuple[int, np.ndarray]:
    """How many clips had to be embedded, and the vectors."""
    encoder = Mean()
    found = embed_task(task, NamedEncoder("mean", encoder, key), cache)
    return sum(encoder.asked), np.array(found.vectors)


def test_another_task_on_the_same_clips_copies_them(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.2] * 7)
    Path(task.paths[1]).write_bytes(b"no sound")
    count, rows = asked(task, tmp_path / "cache")
    assert count == 6
    write(tmp_path / "sounds/new.wav", 0.2, seed=99)
    task.paths.append(str(tmp_path / "sounds/new.wav"))
    other = part_of(task, [6, 7, 1, 0, 3])
    count, copied = asked(other, tmp_path / "cache")
    assert count == 1  # the new one; the one that can't be read is tried again
    np.testing.assert_array_equal(copied[[0, 2, 3]], rows[[5, 0, 2]])
    np.testing.assert_array_equal(copied, asked(other, tmp_path / "elsewhere")[1])


def test_several_tasks_are_looked_through(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.2] * 8)
    for name, clips in (("low", [0, 1, 2, 3]), ("high", [3, 4, 5])):
        asked(part_of(task, clips, name), tmp_path / "cache")
    assert asked(task, tmp_path / "cache")[0] == 2


def test_roots_that_are_links_to_one_folder(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.2] * 4)
    asked(task, tmp_path / "cache")
    (tmp_path / "link").symlink_to(tmp_path / "sounds")
    linked = part_of(task, [3, 1, 0])
    linked.paths[:] = [path.replace("/sounds/", "/link/") for path in linked.paths]
    assert asked(linked, tmp_path / "cache")[0] == 0


@pytest.mark.parametrize("change", ["encoder", "unit", "time", "path", "damage", "list", "unfinished"])
def test_what_is_not_the_same_is_computed(change: str, tmp_path: Path) -> None:
    task, cache = task_of(tmp_path / "sounds", [0.2] * 6), tmp_path / "cache"
    asked(task, cache)
    (array,), (state,), (clips,) = cache.glob("*.npy"), cache.glob("*.json"), cache.glob("*.clips")
    unit, key, expected = None, "0" * 64, 4
    if change == "encoder":
        key = "1" * 64
    elif change == "unit":
        unit = 0.1
    elif change == "time":
        os.utime(task.paths[2], ns=(0, 10**9))
        expected = 1
    elif change == "path":
        (tmp_path / "sounds").rename(tmp_path / "moved")
        task.paths[:] = [path.replace("/sounds/", "/moved/") for path in task.paths]
    elif change == "damage":
        content = bytearray(array.read_bytes())
        content[-1] ^= 1
        array.write_bytes(content)
    elif change == "list":
        clips.unlink()
    elif change == "unfinished":
        state.unlink()
    other = part_of(task, [5, 2, 1, 0], unit=unit)
    count, rows = asked(other, cache, key)
    assert count == expected
    np.testing.assert_array_equal(rows, asked(other, tmp_path / "elsewhere", key)[1])


def test_float16_is_not_float32(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.2] * 3)
    encoder = Mean()
    embed_task(task, named(encoder), tmp_path / "cache")
    embed_task(part_of(task, [0, 1, 2]), named(encoder), tmp_path / "cache", dtype="float16")
    assert sum(encoder.asked) == 6
