"""The command line as a person uses it: exit codes, one line for an error, nothing heavy for `--help`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

import matpac
from helpers.sound_files import GOOD, make_mixed_folder, write_sound
from helpers.tiny_encoder import tiny
from matpac import cli
from matpac.cli import COMMANDS, main
from matpac.errors import MatpacError
from matpac.files import checkpoint
from matpac.model.logmel import LogMel, LogMelConfig
from matpac.pretrain.recipes import RECIPES

BAD = {"empty.wav", "text.wav", "cut.flac", "click.wav"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    make_mixed_folder(root)
    return root


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("encoder") / "tiny.safetensors"
    checkpoint.save(tiny(), path)
    return str(path)


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout


# --- help --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands_one_a_line(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (about, _) in COMMANDS.items():
        assert [line.split() for line in lines].count([name, *about.split()]) == 1
    assert any("Exit code" in line for line in lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_its_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"usage: matpac {command}" in said
    assert "Exit code: 0 when" in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"matpac {matpac.__version__}\n"


@pytest.mark.parametrize("code", ["import matpac", "from matpac.cli import main; main(['--help'])"])
def test_nothing_heavy_is_imported_for_it(code: str) -> None:
    heavy = (
        "torch",
        "lightning_fabric",
        "sklearn",
        "scipy",
        "matplotlib",
        "pyarrow",
        "jsonargparse",
        "rich",
        "numpy",
    )
    printed = python(f"{code}\nimport sys; print('LOADED', [n for n in {heavy} if n in sys.modules])")
    assert printed.splitlines()[-1] == "LOADED []"


def test_a_command_imports_only_what_it_needs() -> None:
    code = "import sys\nfrom matpac.cli import main\ntry: main(['embed', '--help'])\nexcept SystemExit: pass\n"
    heavy = ("torch", "lightning_fabric", "sklearn", "matplotlib")
    assert python(f"{code}print('LOADED', [n for n in {heavy} if n in sys.modules])").endswith("LOADED []\n")


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "begins", "holds"),
    [
        (["embedd", "x"], "matpac: ", "no command 'embedd'; there are quickstart, embed"),
        (["embed", "FOLDER", "--encoder", "matpak++", "--output", "v.npz"], "matpac embed: ", "matpac++"),
        (["embed", "FOLDER", "--encoder", "FOLDER", "--output", "v.npz"], "matpac embed: ", "holds no checkpoint"),
        (["embed", "FOLDER", "--encoder", "ENCODER", "--output", "v.csv"], "matpac embed: ", ".parquet or .npz"),
        (["embed", "FOLDER", "--encoder", "ENCODER", "--output", "no/v.npz"], "matpac embed: ", "no folder no"),
        (["embed", "nowhere", "--encoder", "ENCODER", "--output", "v.npz"], "matpac embed: ", "nowhere: no such"),
        (["embed", "FOLDER", "--encoder", "ENCODER"], "matpac embed: ", "--output; matpac embed --help"),
        (["embed", "FOLDER", "--bogus"], "matpac embed: ", "--help"),
        (
            ["embed", "FOLDER", "--encoder", "ENCODER", "--output", "v.npz", "--batch-size", "0"],
            "matpac embed: ",
            "0",
        ),
        (
            ["embed", "FOLDER", "--encoder", "ENCODER", "--output", "v.npz", "--device", "tpu9"],
            "matpac embed: ",
            "tpu9",
        ),
        (
            ["embed", "FOLDER", "--encoder", "ENCODER", "--output", "v.npz", "--device", "cuda"],
            "matpac embed: ",
            "cuda",
        ),
        (["stats", "nowhere"], "matpac stats: ", "nowhere: no such file or folder"),
        (["stats", "FOLDER", "--max-clips", "few"], "matpac stats: ", "few"),
        (
            ["stats", "FOLDER", "--recipe", "tinny"],
            "matpac stats: ",
            "no recipe 'tinny'; there are matpac, matpac++",
        ),
        (["stats"], "matpac stats: ", "data; matpac stats --help tells the options"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    given: list[str],
    begins: str,
    holds: str,
    folder: Path,
    encoder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"FOLDER": str(folder), "ENCODER": encoder}
    assert main([named.get(word, word) for word in given]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(begins)
    assert holds in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MatpacError("x.wav: bad"), 2, "matpac stats: x.wav: bad\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "matpac stats: [Errno 13] Permission denied: '/x'\n"),
        (KeyboardInterrupt(), 130, "matpac stats: stopped\n"),
    ],
)
def test_what_ends_a_command(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(arguments: list[str]) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "stats", ("", fails))
    assert main(["stats"]) == code
    assert capsys.readouterr().err == said


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "stats", ("", lambda arguments: [].index(1)))
    with pytest.raises(ValueError, match="not in list"):
        main(["stats"])


# --- embed -------------------------------------------------------------------------------------------------


def test_embed_names_bad_files_and_exits_with_1(
    folder: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "v.parquet"
    assert main(["embed", str(folder), "--encoder", encoder, "--output", str(output)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{output}: {len(GOOD)} files, ")
    assert said.out.endswith("4 files left out\n")
    lines = said.err.splitlines()
    assert {Path(line.removeprefix("left out: ").split(": ")[0]).name for line in lines} == BAD
    assert all(line.startswith("left out: ") for line in lines)
    table = parquet.read_table(output)
    about = json.loads((table.schema.metadata or {})[b"matpac"])
    assert about["encoder"]["name"] == encoder
    loaded = matpac.load(encoder)
    for row in table.to_pylist():
        expected = loaded.scene(matpac.read(row["path"]), loaded.sample_rate)[0]
        torch.testing.assert_close(torch.tensor(row["vector"]), expected, atol=1e-5, rtol=0)


def test_embed_with_all_good_exits_with_0(
    folder: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["embed", str(folder / "album"), str(folder / "stereo_44k.wav"), "--encoder", encoder]
    for spelling in ("--batch-size", "--batch_size"):
        output = tmp_path / f"{spelling}.npz"
        assert main([*given, "--output", str(output), spelling, "2", "--frames", "--layers"]) == 0
        assert capsys.readouterr().err == ""
        with np.load(output, allow_pickle=False) as found:
            assert set(found["layer"]) == {0, 1}
            assert len(set(found["path"])) == 4


def test_embed_with_all_bad_exits_with_2(
    folder: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [str(folder / name) for name in BAD]
    assert main(["embed", *bad, "--encoder", encoder, "--output", str(tmp_path / "v.parquet")]) == 2
    assert "not one of 4 files could be embedded" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_embed_killed_half_way_leaves_no_output(encoder: str, tmp_path: Path) -> None:
    sounds = tmp_path / "sounds"
    first = write_sound(sounds / "0.wav", 16_000, 60.0)
    for number in range(1, 60):
        shutil.copy(first, sounds / f"{number}.wav")
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    code = (
        "import sys, matpac.vectors.vector_files as v, matpac.cli\n"
        "v.ROW_GROUP_BYTES = 1\n"  # so that the file grows from the first clip on
        "sys.exit(matpac.cli.main(sys.argv[1:]))"
    )
    given = ["embed", str(sounds), "--encoder", encoder, "--output", str(output)]
    process = subprocess.Popen([sys.executable, "-c", code, *given], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 200
    while not any(path.stat().st_size > 4 for path in output.parent.glob(".*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert not output.exists()
    assert process.returncode == -signal.SIGKILL


# --- stats -------------------------------------------------------------------------------------------------


def test_stats_prints_what_the_log_mel_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        write_sound(tmp_path / f"{number}.wav", 16_000, 0.5 + 0.3 * number, seed=number)
    assert main(["stats", str(tmp_path)]) == 0
    said = capsys.readouterr()
    front_end = LogMel(LogMelConfig(mean=0.0, std=1.0))
    values = torch.cat(
        [front_end(torch.from_numpy(matpac.read(path))[None]).flatten() for path in sorted(tmp_path.iterdir())]
    ).double()
    assert said.out == f"--logmel.mean {values.mean():.4f} --logmel.std {values.std(correction=0):.4f}\n"
    assert said.err == f"5 clips, {len(values) // 80} frames; 0 files left out\n"


def test_stats_of_another_recipes_log_mel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sound(tmp_path / "a.wav", 16_000, 1.0)
    assert main(["stats", str(tmp_path), "--recipe", "tiny-fine"]) == 0
    front_end = LogMel(replace(RECIPES["tiny-fine"]().logmel, mean=0.0, std=1.0))
    values = front_end(torch.from_numpy(matpac.read(path))[None]).double()
    said = capsys.readouterr().out
    assert said == f"--logmel.mean {values.mean():.4f} --logmel.std {values.std(correction=0):.4f}\n"


def test_stats_names_bad_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(folder), "--max-clips", "100", "--seed", "1"]) == 1
    summary, *left_out = capsys.readouterr().err.splitlines()
    assert summary.endswith("4 files left out")
    assert {Path(line.removeprefix("left out: ").split(": ")[0]).name for line in left_out} == BAD


def test_what_stats_prints_are_options_of_pretrain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from matpac.pretrain.command import parse

    write_sound(tmp_path / "a.wav", 16_000, 1.0)
    main(["stats", str(tmp_path)])
    options = capsys.readouterr().out.split()
    _, recipe, _ = parse(["--recipe", "tiny", "--data", "d", "--output", "o", *options])
    assert [recipe.logmel.mean, recipe.logmel.std] == [float(options[1]), float(options[3])]
