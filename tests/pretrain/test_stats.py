"""`matpac stats`: the log-mel statistics of a corpus."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import matpac
from helpers.sound_files import make_mixed_folder, write_sound
from matpac.cli import main
from matpac.model.logmel import LogMel
from matpac.pretrain.command import COMMAND
from matpac.pretrain.recipes import RECIPES


@pytest.mark.parametrize("recipe", ["matpac++", "tiny-fine"])
def test_stats_prints_options_of_pretrain(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        write_sound(tmp_path / f"{number}.wav", 16_000, 0.5 + 0.3 * number, seed=number)
    assert main(["stats", str(tmp_path), "--recipe", recipe]) == 0
    output = capsys.readouterr()
    front_end = LogMel(replace(RECIPES[recipe]().logmel, mean=0.0, std=1.0))
    waveforms = [torch.from_numpy(matpac.read(path)) for path in sorted(tmp_path.iterdir())]
    values = torch.cat([front_end(waveform[None]).flatten() for waveform in waveforms]).double()
    assert output.err == f"3 clips, {len(values) // front_end.config.mels} frames; 0 files skipped\n"
    _, found, _ = COMMAND.parse(["--recipe", recipe, "--data", "d", "--output", "o", *output.out.split()])
    expected = [values.mean().item(), values.std(correction=0).item()]
    assert [found.logmel.mean, found.logmel.std] == pytest.approx(expected, abs=6e-5)


def test_stats_names_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_mixed_folder(tmp_path)
    assert main(["stats", str(tmp_path), "--max-clips", "100", "--seed", "1"]) == 1
    summary, *skipped = capsys.readouterr().err.splitlines()
    assert summary.endswith("4 files skipped")
    names = {Path(line.removeprefix("skipped: ").split(": ")[0]).name for line in skipped}
    assert names == {"empty.wav", "text.wav", "cut.flac", "click.wav"}
