"""The table and its writer: what is written is read, and other things are refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.stored_sounds import clusters, fill, rows_of, stored
from matpac.search.database import DatabaseSettings, SearchError, SoundDatabase
from matpac.search.writer import writing
from matpac.vectors.states import FileState

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def none_waited() -> None:
    raise AssertionError("no other process writes")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("names") / "sounds.lance"


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(NAMES, min_size=2, max_size=6))
def test_any_name_is_written_replaced_and_removed(shared: Path, names: set[str]) -> None:
    first, *rest = names
    with writing(shared, none_waited) as writer:
        if writer.found is None:
            writer.create(DatabaseSettings("none", "0", 2))
        writer.replace(rows_of(list(names), np.ones((len(names), 2), np.float32)))
        assert writer.database.files() == dict.fromkeys(names, FileState(1, 2))
        writer.replace(rows_of([first], np.full((1, 2), 5, np.float32)))
        tags = pa.array([["it's", '"new"']], pa.list_(pa.string()))
        writer.retag(pa.table({"path": [first], "start": [0.0], "tags": tags}))
        assert writer.database.tags() == {**dict.fromkeys(names, ()), first: ("it's", '"new"')}
        assert writer.database.count() == len(names)
        found = [row for batch in writer.database.rows(["path", "vector"]) for row in batch.to_pylist()]
        assert {row["path"]: row["vector"] for row in found} == {
            name: [5, 5] if name == first else [1, 1] for name in names
        }
        writer.remove([first])
        assert writer.database.files() == dict.fromkeys(rest, FileState(1, 2))
        writer.remove(rest)
        assert writer.database.count() == 0


def test_a_file_with_fewer_windows_than_before_loses_the_others(tmp_path: Path) -> None:
    def windows(path: str, count: int, value: float) -> pa.Table:
        return rows_of([path] * count, np.full((count, 2), value, np.float32), np.arange(count) * 0.5)

    with writing(tmp_path / "db", none_waited) as writer:
        writer.create(DatabaseSettings("none", "0", 2, 1.0, 0.5))
        writer.replace(pa.concat_tables([windows("a", 4, 1), windows("b", 2, 1)]))
        writer.replace(windows("a", 3, 2))
        rows = writer.database.table.to_arrow().sort_by([("path", "ascending"), ("start", "ascending")])
        assert rows["path"].to_pylist() == ["a", "a", "a", "b", "b"]
        assert rows["start"].to_pylist() == [0.0, 0.5, 1.0, 0.0, 0.5]
        assert [row[0] for row in rows["vector"].to_pylist()] == [2, 2, 2, 1, 1]
        assert writer.database.files().keys() == {"a", "b"}


def test_settings_stay_with_the_table(tmp_path: Path) -> None:
    with writing(tmp_path / "db", none_waited) as writer:
        writer.create(DatabaseSettings("matpac++", "abc", 8, 6.0, 3.0))
        fill(writer, clusters(1, 8))
    found = SoundDatabase.open(tmp_path / "db")
    assert found.settings == DatabaseSettings("matpac++", "abc", 8, 6.0, 3.0)
    with writing(tmp_path / "db", none_waited) as writer:
        fill(writer, clusters(30, 8))
        writer.keep_index(10)
    assert found.count() == 30  # what is open sees what was written since
    assert found.trained() == 30
    assert SoundDatabase.open(tmp_path / "db").settings == found.settings


def test_other_things_of_that_name_are_refused(tmp_path: Path) -> None:
    import lancedb

    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "song.wav").touch()
    lancedb.connect(tmp_path / "foreign").create_table("sounds", pa.table({"vector": [[1.0]]}))
    for name, reason in {
        "none": "none",
        "file": "file",
        "folder": r"folder.*'song.wav'",
        "foreign": "foreign",
        "s3://bucket/sounds": "s3:/bucket",
    }.items():
        with pytest.raises(SearchError, match=reason):
            SoundDatabase.open(name if "://" in name else tmp_path / name)
    for name in ("folder", "missing/db"):
        with pytest.raises(SearchError, match=name), writing(tmp_path / name, none_waited):
            pass
    assert [entry.name for entry in (tmp_path / "folder").iterdir()] == ["song.wav"]


def test_a_creation_that_was_killed_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "db" / "sounds.lance" / "data").mkdir(parents=True)
    with pytest.raises(SearchError, match="db"):
        SoundDatabase.open(tmp_path / "db")
    assert stored(tmp_path / "db", clusters(3, 8)).count() == 3


def test_damage_is_reported_in_one_line(tmp_path: Path) -> None:
    stored(tmp_path / "db", clusters(50, 8))
    for file in (tmp_path / "db" / "sounds.lance" / "data").iterdir():
        file.unlink()
    with pytest.raises(SearchError, match="db") as caught:
        SoundDatabase.open(tmp_path / "db").files()
    assert "\n" not in str(caught.value)
    assert ".rs" not in str(caught.value)


def test_without_lancedb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "db", clusters(3, 8))
    monkeypatch.setitem(__import__("sys").modules, "lancedb", None)
    with pytest.raises(SearchError, match=r"pip install 'matpac\[search\]'"):
        SoundDatabase.open(tmp_path / "db")
