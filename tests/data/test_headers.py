"""Headers are read once, kept whatever ends the reading, and read again where a file has changed."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from matpac import audio
from matpac.data import headers
from matpac.data.headers import DataError, Header, read_headers
from matpac.data.shards.tar import ShardError

NAMES = ["a.tar", "b.tar", "c.tar"]
SOUNDS = {"a.tar": [Header("1.wav", 512, 9, 1.5, ""), Header("2.wav", 2048, 7, 0.0, "empty")], "b.tar": []}


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    (tmp_path / "in").mkdir()
    for name in NAMES:
        (tmp_path / "in" / name).write_text(name)
    return [str(tmp_path / "in" / name) for name in NAMES]


def reader(log: list[str], fails: BaseException | None = None) -> Callable[[str, Event], list[Header]]:
    """Reads what `SOUNDS` says; fails at the last file."""

    def read(path: str, stop: Event) -> list[Header]:
        name = Path(path).name
        log.append(name)
        if fails is not None and name == NAMES[-1]:
            raise fails
        return SOUNDS.get(name, [Header("", 0, 0, 2.0, "")])

    return read


def read_again(paths: list[str], cache: Path) -> list[str]:
    log: list[str] = []
    assert read_headers(paths, reader(log), cache) == {
        path: SOUNDS.get(Path(path).name, [Header("", 0, 0, 2.0, "")]) for path in paths
    }
    return sorted(log)


def test_only_what_changed_is_read_again(paths: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "run" / "headers.parquet"
    paths.append("s3://bucket/d.tar")
    assert read_again(paths, cache) == [*NAMES, "d.tar"]
    assert read_again(paths, cache) == []
    os.utime(paths[1], ns=(0, 0))
    Path(paths[2]).write_text("longer than before")
    assert read_again(paths, cache) == ["b.tar", "c.tar"]
    assert read_again(paths[:2], cache) == []
    assert set(pq.read_table(cache)["path"].to_pylist()) == set(map(os.fsencode, paths[:2]))
    assert [path.name for path in cache.parent.iterdir()] == ["headers.parquet"]


@pytest.mark.parametrize("error", [ShardError("damaged"), KeyboardInterrupt()])
def test_what_is_known_is_kept_whatever_ends_it(error: BaseException, paths: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "headers.parquet"
    with pytest.raises(type(error)):
        read_headers(paths, reader([], error), cache, workers=1)
    assert read_again(paths, cache) == NAMES[-1:]
    os.utime(paths[-1], ns=(0, 0))  # what is known of the others isn't lost by another break
    with pytest.raises(type(error)):
        read_headers(paths, reader([], error), cache, workers=1)
    assert read_again(paths, cache) == NAMES[-1:]


def test_what_is_known_is_kept_now_and_then(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(headers, "_write_cache", lambda cache, known: written.append(len(known)))
    monkeypatch.setattr(headers, "KEEP_SECONDS", -1.0)
    read_headers(paths, reader([]), tmp_path / "headers.parquet")
    assert written == [1, 2, 3, 3]


def test_an_error_ends_the_other_readings(paths: list[str]) -> None:
    def read(path: str, stop: Event) -> list[Header]:
        while path.endswith("a.tar") and not stop.is_set():
            time.sleep(0.001)
        raise ShardError(path)

    with pytest.raises(ShardError, match=r"b\.tar"):
        read_headers(paths[:2], read, workers=2)


def test_what_other_libraries_may_read_is_tried_again(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "headers.parquet"
    read_again(paths, cache)
    monkeypatch.setattr(audio, "readers", lambda: "libsndfile 9, PyAV 99")
    assert read_again(paths, cache) == ["a.tar"]


def test_a_cache_that_is_none(paths: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text("words", encoding="utf-8")
    with pytest.raises(DataError, match=str(cache)):
        read_headers(paths, reader([]), cache)
    pq.write_table(pa.table({"path": ["a"]}), cache)  # of an earlier version
    assert read_again(paths, cache) == NAMES
