"""`matpac pack` as a person types it."""

import sys
from pathlib import Path

import pytest

from helpers.sound_files import write_sound
from matpac import cli
from matpac.data.packing import command
from matpac.errors import MatpacError


def run_pack(arguments: list[str]) -> int:
    return cli.run("pack", arguments)


def test_pack_verify_and_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SHOWN", 2)
    write_sound(tmp_path / "in" / "a.wav", 8_000, 1.0)
    for number in range(3):
        (tmp_path / "in" / f"{number}.mp3").touch()
    shards = str(tmp_path / "my shards")
    arguments = [str(tmp_path / "in"), "--output", shards, "--workers", "1", "--shard-size", "100kB"]
    assert run_pack(arguments) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{shards}: 1 shards, 1 clips, 0.00 h")
    assert f"3 files skipped, see {shards}/left_out.jsonl" in out
    assert f"matpac pretrain --data '{shards}' --output RUN" in out
    assert "skipped: 0.mp3: empty" in err
    assert "skipped: 2.mp3" not in err
    assert f"skipped: 1 more, in {shards}/left_out.jsonl" in err
    assert "clips/s" in err
    assert "min left" in err
    assert run_pack(arguments) == 1
    assert f"all of it existed, by its sizes (matpac pack --verify '{shards}' reads" in capsys.readouterr().out
    assert run_pack(["--verify", shards]) == 0
    assert capsys.readouterr().out.rstrip().endswith("MB: all whole")
    shard = tmp_path / "my shards" / "000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert run_pack(["--verify", shards]) == 1
    out, err = capsys.readouterr()
    assert out.rstrip().endswith("1 things differ from the index")
    assert f"damaged: {shard}: SHA-256 " in err
    assert "to repair it: remove the damaged shards" in err
    shard.unlink()
    for number in range(3):
        (tmp_path / "in" / f"{number}.mp3").unlink()
    with pytest.raises(MatpacError, match=r"0\.mp3 is gone, and 2 more"):
        run_pack(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "what to pack"),
        (["sounds"], "what to pack"),
        (["sounds", "--output", "x", "--format", "mp3"], "mp3"),
        (["sounds", "--output", "x", "--shard-size", "big"], "--shard_size big"),
        (["sounds", "--output", "x", "--shard-size", "10B"], "10 bytes"),
        (["sounds", "--output", "x", "--workers", "-1"], "-1"),
        (["sounds", "--output", "x", "--workers", "many"], "many"),
        (["sounds", "--verify", "x"], "--verify"),
        (["--verify", "gone"], r"gone: no index\.json there"),
        (["gone", "--output", "x"], "gone: no such file or folder"),
    ],
)
def test_what_cannot_be_done_is_named_in_a_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MatpacError, match=message) as error:
        run_pack(arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GB", 10**9), ("1.5 MB", 1_500_000), ("64MiB", 2**26), ("2GiB", 2**31), ("70000", 70_000), ("9kB", 9000)],
)
def test_sizes(text: str, size: int) -> None:
    assert command.parse_size(text) == size


def test_a_bar_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    write_sound(tmp_path / "in" / "a.wav", 8_000, 1.0)
    assert run_pack([str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 0
    err = capsys.readouterr().err
    assert all(shown in err for shown in ("packing", "1/1", "clips/s"))
    assert "000000.tar" not in err
