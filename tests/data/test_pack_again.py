"""Packing that was killed anywhere resumes without loss or repeat; what is packed isn't packed again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.packed_corpus import SIZE, files_of, packed
from helpers.sound_files import BAD, write_sound
from matpac.data.packing import pack as pack_module
from matpac.data.packing import shard_files
from matpac.data.packing.pool import PackError
from matpac.data.shards.listing import list_shards
from matpac.errors import MatpacError


class Killed(BaseException):
    """Stands for a kill: nothing in the project handles it."""


@settings(deadline=None, max_examples=8, derandomize=True)
@given(kills=st.lists(st.integers(0, 25), min_size=1, max_size=3))
def test_killed_anywhere_and_resumed_is_the_same(
    kills: list[int], source: Path, whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At any write of a member, note, table or index; what a kill leaves half-written stays there."""
    output = tmp_path_factory.mktemp("killed") / "shards"
    for kill in kills:
        calls = iter(range(1000))
        with pytest.MonkeyPatch.context() as patch:
            functions = (shard_files, "_add_member"), (pack_module, "_write_table"), (pack_module, "_note")
            for module, name in functions:
                patch.setattr(module, name, _dying(getattr(module, name), calls, kill))
            try:
                packed(source, output)
            except Killed:
                (output / ".000001.tar-0123abcd").write_bytes(b"half")  # a kill tidies nothing up
                assert not (output / "index.json").exists()
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.tar")}
    noted = {f"{path.stem}.tar" for path in (output / ".pack").glob("[0-9]*.json")}
    packed(source, output)
    assert files_of(output) == files_of(whole)
    for name in noted & before.keys():  # what was whole was not done again
        assert (output / name).stat().st_mtime_ns == before[name]


def _dying(function: Callable, calls: Iterator[int], kill: int) -> Callable:
    def call(*arguments: object) -> object:
        if next(calls) == kill:
            raise Killed
        return function(*arguments)

    return call


PROGRAM = "if __name__ == '__main__':\n    import sys; from matpac import cli; sys.exit(cli.main())\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_program_takes_its_processes_with_it(
    number: signal.Signals, source: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "shards"
    (tmp_path / "program.py").write_text(PROGRAM)
    options = ["--output", str(output), "--format", "pcm16", "--shard_size", str(SIZE), "--workers", "2"]
    command = [sys.executable, str(tmp_path / "program.py"), "pack", str(source), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(output.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.kill()
    process.communicate(timeout=60)
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(process.pid)
    packed(source, output)
    assert files_of(output) == files_of(whole)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_all_there_is_nothing_to_do(source: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "shards")
    (tmp_path / "shards" / ".pack").mkdir()  # a kill after the last write
    result = packed(source, tmp_path / "shards")
    assert result.written == 0
    assert {file.path for file in result.skipped} == BAD
    assert files_of(tmp_path / "shards") == files_of(whole)
    assert not (tmp_path / "shards" / ".pack").exists()
    write_sound(tmp_path / "more" / "x.wav", 16_000, 1.0)
    with pytest.raises(PackError, match="the source is not the one"):
        packed(tmp_path / "more", tmp_path / "shards")
    with pytest.raises(PackError, match="other settings: --format pcm16 → flac"):
        packed(source, tmp_path / "shards", encoding="flac")


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Path:
    """The first shard is gone, the second cut short."""
    output = tmp_path / "shards"
    shutil.copytree(whole, output)
    (output / "000000.tar").unlink()
    (output / "000001.tar").write_bytes((whole / "000001.tar").read_bytes()[:3000])
    return output


def test_shards_that_are_gone_or_cut_are_written_again(source: Path, whole: Path, damaged: Path) -> None:
    (damaged / ".000001.tar-0123abcd").write_bytes(b"half")  # a kill as they were written again
    before = (damaged / "000002.tar").stat().st_mtime_ns
    result = packed(source, damaged)
    assert result.written == 2
    assert {file.path for file in result.skipped} == BAD
    assert files_of(damaged) == files_of(whole)
    assert (damaged / "000002.tar").stat().st_mtime_ns == before
    assert packed(source, damaged).written == 0


def test_a_shard_that_comes_out_as_another_is_not_left_there(
    source: Path, whole: Path, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shard_files, "FULL_SCALE", 30_000)  # as another version of a library: the sizes stay
        with pytest.raises(PackError, match=r"000000\.tar: written again it is not what index\.json says .*copy"):
            packed(source, damaged)
    assert not (damaged / "000000.tar").exists()
    packed(source, damaged)
    assert files_of(damaged) == files_of(whole)
    pq.write_table(pq.read_table(damaged / "clips.parquet"), damaged / "clips.parquet", compression="none")
    with pytest.raises(PackError, match=r"clips\.parquet: not the one that index\.json describes; remove"):
        packed(source, damaged)


def test_unfinished_shards_are_no_corpus(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_module, "_finish", _dying(pack_module._finish, iter([0]), 0))
    with pytest.raises(Killed):
        packed(source, tmp_path / "shards")
    with pytest.raises(MatpacError, match="its packing is not complete"):
        list_shards(str(tmp_path / "shards"))
