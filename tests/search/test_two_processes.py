"""Real processes: two that index at once, and one that is watched and killed."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import pytest

from helpers.sound_files import write_sound
from helpers.tiny_encoder import tiny
from matpac.files.save import save
from matpac.search.database import SoundDatabase
from matpac.search.index import IndexOptions, index_sounds
from matpac.search.writer import writing

SLOW_INDEX = """
import sys, time
from functools import partial
from matpac import cli
from matpac.search import index

add = index.RowBuffer.add

def slow(*arguments):
    time.sleep(0.2)
    return add(*arguments)

index.RowBuffer.add = slow
index.RowBuffer = partial(index.RowBuffer, flush_bytes=1)
sys.exit(cli.run("index", sys.argv[1:]))
"""
"""Each file takes as long as with a larger encoder, and is written at once."""

pytestmark = pytest.mark.slow


def start(*arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SLOW_INDEX, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def end(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return save(tiny(), tmp_path / "encoder.safetensors")


def make_sounds(folder: Path, names: str) -> None:
    for seed, name in enumerate(names):
        write_sound(folder / f"{name}.wav", 16_000, 0.5, seed=seed)


def test_every_file_is_there_once(tmp_path: Path, encoder: Path) -> None:
    """Both make the database, one of them first; the sounds that both were given are embedded by one alone."""
    make_sounds(tmp_path / "first", "ab")
    make_sounds(tmp_path / "both", "cde")
    make_sounds(tmp_path / "second", "fg")
    database = tmp_path / "db"
    options = ("--database", database, "--encoder", encoder, "--device", "cpu")
    processes = [start(tmp_path / name, tmp_path / "both", *options) for name in ("first", "second")]
    said = "".join(end(process) for process in processes)
    rows = SoundDatabase.open(database).table.to_arrow()["path"].to_pylist()
    assert sorted(Path(path).stem for path in rows) == list("abcdefg")
    assert "5 added, 0 changed, 0 vanished, 0 unchanged" in said
    assert "2 added, 0 changed, 0 vanished, 3 unchanged" in said


def test_a_waiting_process_says_so(tmp_path: Path, encoder: Path) -> None:
    make_sounds(tmp_path / "sounds", "a")
    said: Queue[str] = Queue()
    with ThreadPoolExecutor(1) as pool:
        with writing(tmp_path / "db"):
            done = pool.submit(index_sounds, [tmp_path / "sounds"], tmp_path / "db", str(encoder), say=said.put)
            assert str(tmp_path / "db") in said.get(timeout=60)
            assert not done.done()
        assert done.result(timeout=60).added == 1


def test_a_process_that_is_watched_and_killed(tmp_path: Path, encoder: Path) -> None:
    """A reader sees whole files meanwhile; the next process waits for no lock and continues."""
    sounds, database = tmp_path / "sounds", tmp_path / "db"
    make_sounds(sounds, "a")
    windows = IndexOptions(window=0.2, hop=0.2)
    assert index_sounds([sounds], database, str(encoder), windows).rows == 3
    make_sounds(sounds, "abcdefgh")  # of which a is written again
    process = start(sounds, "--database", database, "--device", "cpu")
    reader, seen = SoundDatabase.open(database), {3}
    while max(seen) < 9:
        assert process.poll() is None
        seen.add(reader.count())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert all(count % 3 == 0 for count in seen)

    def waiting(text: str) -> None:
        raise AssertionError(text)

    done = index_sounds([sounds], database, say=waiting)
    assert done.added + done.changed + done.unchanged == 8
    assert done.unchanged >= 2
    assert done.rows == 24
    rows = reader.table.to_arrow()
    assert sorted(Path(path).stem for path in rows["path"].to_pylist()) == sorted("abcdefgh" * 3)
