"""The command line as a person uses it: help, options, exit codes, one line for an error."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

import matpac
from matpac import cli
from matpac.cli import COMMANDS, main, parse
from matpac.errors import MatpacError

# --- help --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name, (about, _) in COMMANDS.items():
        assert lines.count([name, *about.split()]) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"usage: matpac {command}" in shown
    assert "Exit code: 0 when" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"matpac {matpac.__version__}\n"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import matpac", "torch numpy scipy sklearn pyarrow matplotlib lightning_fabric jsonargparse rich"),
        (
            "from matpac.cli import main; main(['--help'])",
            "torch numpy scipy sklearn pyarrow matplotlib lightning_fabric jsonargparse rich",
        ),
        (
            "from matpac.cli import main\ntry: main(['embed', '--help'])\nexcept SystemExit: pass",
            "torch sklearn matplotlib lightning_fabric",
        ),
    ],
)
def test_nothing_heavy_is_imported(code: str, heavy: str) -> None:
    code += f"\nimport sys; print('LOADED', [n for n in {heavy.split()} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "LOADED []"


# --- options -----------------------------------------------------------------------------------------------


def command(
    sources: list[str],
    *,
    encoder: list[str],
    head: Literal["esc50", "us8k"] | None = None,
    top: int = 5,
    batch_size: int | None = None,
    timeline: bool = False,
    seeds: list[int] = [1, 2],  # noqa: B006 (read, never written)
) -> int:
    """A command.

    Args:
        sources: sound files, 100 %
        encoder: its name
        head: of a task
        top: how many
        batch_size: chunks
        timeline: segments
        seeds: random seeds
    """
    return 0


def test_parameters_are_options() -> None:
    words = [
        "a",
        "b",
        "--encoder",
        "x",
        "--encoder",
        "y",
        "z",
        "--head",
        "us8k",
        "--batch_size",
        "3",
        "--timeline",
    ]
    assert parse(command, words) == {
        "sources": ["a", "b"],
        "encoder": ["x", "y", "z"],
        "head": "us8k",
        "top": 5,
        "batch_size": 3,
        "timeline": True,
        "seeds": [1, 2],
    }
    assert parse(command, ["a", "--encoder", "x", "--seeds", "7"])["seeds"] == [7]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--encoder", "x"], "sources"),
        (["a"], "encoder"),
        (["a", "--encoder", "x", "--top", "few"], "few"),
        (["a", "--encoder", "x", "--head", "gtzan"], "gtzan"),
        (["a", "--encoder", "x", "--bogus"], "--bogus"),
    ],
)
def test_wrong_words_are_named(words: list[str], named: str) -> None:
    with pytest.raises(MatpacError, match=named):
        parse(command, words)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("--batch-size", "--batch_size"), ("--batch-size=a-b", "--batch_size=a-b"), ("a-b", "a-b"), ("-1", "-1")],
)
def test_dashes_in_names_of_options(word: str, expected: str) -> None:
    assert cli.with_underscores(word) == expected


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["embedd", "x"], "embedd"),
        (["embed", "FOLDER", "--encoder", "matpak++", "--output", "v.npz"], "matpac++"),
        (["embed", "FOLDER", "--encoder", "FOLDER", "--output", "v.npz"], "FOLDER"),
        (["embed", "FOLDER", "--encoder", "ENCODER", "--output", "v.csv"], "v.csv"),
        (["embed", "FOLDER", "--encoder", "ENCODER", "--output", "no/v.npz"], "no/v.npz"),
        (["embed", "nowhere", "--encoder", "ENCODER", "--output", "v.npz"], "nowhere"),
        (["embed", "FOLDER", "--encoder", "ENCODER"], "output"),
        (["embed", "FOLDER", "--encoder", "ENCODER", "--output", "v.npz", "--batch-size", "0"], "0"),
        (["embed", "FOLDER", "--encoder", "ENCODER", "--output", "v.npz", "--device", "tpu9"], "tpu9"),
        (["stats", "nowhere"], "nowhere"),
        (["stats", "FOLDER", "--max-clips", "few"], "few"),
        (["stats", "FOLDER", "--recipe", "tinny"], "tinny"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    given: list[str],
    named: str,
    mixed_folder: Path,
    tiny_file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {"FOLDER": str(mixed_folder), "ENCODER": tiny_file}
    assert main([words.get(word, word) for word in given]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("matpac")
    assert words.get(named, named) in shown.err
    assert shown.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (MatpacError("x.wav: bad"), 2, "matpac stats: x.wav: bad\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "matpac stats: [Errno 13] Permission denied: '/x'\n"),
        (KeyboardInterrupt(), 130, "matpac stats: stopped\n"),
    ],
)
def test_what_ends_a_command(
    error: BaseException,
    code: int,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(name: str, words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "run", fails)
    assert main(["stats"]) == code
    assert capsys.readouterr().err == shown


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "run", lambda name, words: [].index(1))
    with pytest.raises(ValueError, match="not in list"):
        main(["stats"])
