"""The store: whole parts, what changed is replaced, two writers lose and double nothing, one encoder's alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import dataset

from matpac import MatpacError
from matpac.vectors.states import UNREADABLE, FileState
from matpac.vectors.store import ERRORS, StoredError, VectorStore
from matpac.vectors.tables import clip_table

ABOUT = {"encoder": {"name": "mine"}, "encoder_key": "a" * 64, "frames": False, "layers": False}
ONE, TWO = FileState(5, 1), FileState(5, 2)
KINDS = pytest.mark.parametrize("kind", ["parquet", "arrow"])


def add(store: VectorStore, name: str, value: float = 1.0, state: FileState = ONE, rows: int = 2) -> None:
    vectors = np.full((1, rows, 3), value, np.float32)
    store.add(name, state, [clip_table(name, 1.5, vectors)], rows, vectors.nbytes)


def held(store: VectorStore) -> dict[str, list[float]]:
    """What a reader of the folder sees: every file's first numbers."""
    if not store.files:
        return {}
    table = dataset.dataset(store.folder, format="parquet" if store.kind == "parquet" else "ipc").to_table()
    found: dict[str, list[float]] = {}
    for path, vector in zip(table["path"].to_pylist(), table["vector"].to_pylist(), strict=True):
        found.setdefault(path, []).append(vector[0])
    return found


@KINDS
def test_parts_are_committed_by_size_by_time_and_at_the_end(kind, tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "v", ABOUT, kind, part_bytes=2 * 24)
    with store.writing():
        for name in ("a", "b", "c"):
            add(store, name)
        assert sorted(held(store)) == ["a", "b"]
        add(store, "d", rows=5)  # so large that it is a part of its own
    assert len(list((tmp_path / "v").glob("part-*"))) == 3

    def stop() -> None:
        with store.writing():
            add(store, "e")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    store = VectorStore(tmp_path / "v", ABOUT, kind, part_seconds=0.0)
    add(store, "f")
    assert held(store) == {"a": [1, 1], "b": [1, 1], "c": [1, 1], "d": [1] * 5, "e": [1, 1], "f": [1, 1]}
    assert VectorStore(tmp_path / "v", ABOUT, kind).files == dict.fromkeys("abcdef", ONE)


@KINDS
def test_rows_of_changed_files_are_replaced_and_of_failed_ones_removed(kind, tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "v", ABOUT, kind)
    with store.writing():
        for name in ("a", "b", "c"):
            add(store, name)
    with store.writing():
        add(store, "b", 2.0, TWO, rows=3)
        store.fail("c", StoredError(5, 2, "damaged", "1.0"))
        store.fail("d", StoredError(-1, -1, "permission denied", "1.0"))
    again = VectorStore(tmp_path / "v", ABOUT, kind)
    assert held(again) == {"a": [1, 1], "b": [2, 2, 2]}
    assert again.files == {"a": ONE, "b": TWO}
    assert again.errors == {
        "c": StoredError(5, 2, "damaged", "1.0"),
        "d": StoredError(-1, -1, "permission denied", "1.0"),
    }
    assert not again.errors["d"].is_same(UNREADABLE)
    with again.writing():
        add(again, "c", 3.0, FileState(5, 3))
    assert held(again)["c"] == [3, 3]
    assert again.errors.keys() == {"d"}
    lines = (tmp_path / "v" / ERRORS).read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["d"]


@KINDS
def test_two_writers_lose_and_double_nothing(kind, tmp_path: Path) -> None:
    """Opened before the other wrote: what the other committed meanwhile is not added again."""
    one, other = (VectorStore(tmp_path / "v", ABOUT, kind) for _ in range(2))
    with one.writing(), other.writing():
        for name in ("a", "b"):
            add(one, name)
        for name in ("b", "c"):
            add(other, name, 2.0)
    # the inner one committed first
    assert held(one) == {"a": [1, 1], "b": [2, 2], "c": [2, 2]}
    with one.writing(), other.writing():
        add(one, "a", 3.0, TWO)
        other.fail("a", StoredError(5, 2, "damaged"))
    assert held(VectorStore(tmp_path / "v", ABOUT, kind)) == {"a": [3, 3], "b": [2, 2], "c": [2, 2]}


def test_rows_are_mapped_in_any_order(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "v", ABOUT, "arrow", part_bytes=3 * 24)
    names = [f"{number}" for number in range(10)]
    with store.writing():
        for number, name in enumerate(names):
            add(store, name, number, rows=1 + number % 3)
    wanted = ["7", "0", "9", "3"]
    for name, rows in zip(wanted, store.vectors(wanted), strict=True):
        assert rows.tolist() == [[int(name)] * 3] * (1 + int(name) % 3)
        assert not rows.flags.owndata


@pytest.mark.parametrize(
    "change", [{"encoder_key": "b" * 64}, {"frames": True}, {"layers": True}, {"working_folder": "/q"}]
)
def test_parts_of_other_settings_are_refused_by_name(change: dict, tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "v", {**ABOUT, "working_folder": "/p"})
    with store.writing():
        add(store, "a")
    with pytest.raises(MatpacError, match=r"part-00000\.parquet"):
        VectorStore(tmp_path / "v", {**ABOUT, "working_folder": "/p", **change})
    for same in ({"encoder": {"name": "its other name"}}, {"working_folder": None}):
        assert VectorStore(tmp_path / "v", {**ABOUT, "working_folder": "/p", **same}).files == {"a": ONE}


@pytest.mark.parametrize("name", ["part-00000.parquet", "mine.parquet"])
def test_what_is_no_part_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / name).write_bytes(b"cut short")
    with pytest.raises(MatpacError, match=name):
        VectorStore(tmp_path / "v", ABOUT)
    with pytest.raises(MatpacError, match="missing"):
        VectorStore(tmp_path / "missing" / "v", ABOUT)


def test_a_full_disk_leaves_no_draft_and_nothing_half(tmp_path: Path) -> None:
    def full():
        yield clip_table("b", 1.5, np.ones((1, 3), np.float32))
        raise OSError(28, "No space left on device")

    store = VectorStore(tmp_path / "v", ABOUT, part_bytes=10)
    add(store, "a")
    with pytest.raises(OSError, match="No space"), store.writing():
        store.add("b", ONE, full(), 2, 24)
    assert held(VectorStore(tmp_path / "v", ABOUT)) == {"a": [1, 1]}
    assert not list((tmp_path / "v").glob(".draft*"))
