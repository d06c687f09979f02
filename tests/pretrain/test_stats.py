"""`matpac stats`: the log-mel statistics of a corpus."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import matpac
from helpers.sound_files import make_mixed_folder, write_sound
from matpac.cli import main
from matpac.model.logmel import LogMel, LogMelConfig
from matpac.pretrain.recipes import RECIPES

BAD = {"empty.wav", "text.wav", "cut.flac", "click.wav"}


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
    assert said.err == f"5 clips, {len(values) // 80} frames; 0 files skipped\n"


def test_stats_of_another_recipes_log_mel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sound(tmp_path / "a.wav", 16_000, 1.0)
    assert main(["stats", str(tmp_path), "--recipe", "tiny-fine"]) == 0
    front_end = LogMel(replace(RECIPES["tiny-fine"]().logmel, mean=0.0, std=1.0))
    values = front_end(torch.from_numpy(matpac.read(path))[None]).double()
    said = capsys.readouterr().out
    assert said == f"--logmel.mean {values.mean():.4f} --logmel.std {values.std(correction=0):.4f}\n"


def test_stats_names_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_mixed_folder(tmp_path)
    assert main(["stats", str(tmp_path), "--max-clips", "100", "--seed", "1"]) == 1
    summary, *skipped = capsys.readouterr().err.splitlines()
    assert summary.endswith("4 files skipped")
    assert {Path(line.removeprefix("skipped: ").split(": ")[0]).name for line in skipped} == BAD


def test_what_stats_prints_are_options_of_pretrain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from matpac.pretrain.command import COMMAND

    write_sound(tmp_path / "a.wav", 16_000, 1.0)
    main(["stats", str(tmp_path)])
    options = capsys.readouterr().out.split()
    _, recipe, _ = COMMAND.parse(["--recipe", "tiny", "--data", "d", "--output", "o", *options])
    assert [recipe.logmel.mean, recipe.logmel.std] == [float(options[1]), float(options[3])]
