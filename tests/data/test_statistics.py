"""Statistics of log-mel: against numpy over the whole, and against what is known of a clip."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from helpers.sound_files import make_mixed_folder, write_sound
from matpac import audio
from matpac.data.files import Clip, DataError, list_clips
from matpac.data.statistics import normalisation
from matpac.model.logmel import LogMel, LogMelConfig


def test_statistics_of_a_mixed_folder_are_those_of_all_its_frames(tmp_path: Path) -> None:
    mixed = make_mixed_folder(tmp_path)
    clips = list_clips(tmp_path).clips
    stats = normalisation(clips, workers=2)
    front_end = LogMel(LogMelConfig(mean=0.0, std=1.0))
    good = [Path(clip.path) for clip in clips if "cut" not in clip.path]
    logmels = [front_end(torch.from_numpy(audio.read(path))[None]).numpy() for path in good]
    numbers = np.concatenate([logmel.ravel() for logmel in logmels]).astype(np.float64)
    assert stats.mean == pytest.approx(numbers.mean(), abs=1e-5)
    assert stats.std == pytest.approx(numbers.std(), abs=1e-5)
    assert (stats.clips, stats.frames) == (len(good), sum(logmel.shape[-1] for logmel in logmels))
    assert [item.path for item in stats.skipped] == [str(mixed["cut.flac"])]
    assert "damaged or cut short" in stats.skipped[0].reason


def test_normalising_by_the_statistics_gives_mean_0_and_deviation_1(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", 16_000, 3.0)
    stats = normalisation(list_clips(path).clips, LogMelConfig(mean=3.0, std=7.0))  # what was there has no say
    logmel = LogMel(LogMelConfig(mean=stats.mean, std=stats.std))(torch.from_numpy(audio.read(path))[None])
    assert float(logmel.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(logmel.std(correction=0)) == pytest.approx(1.0, abs=1e-4)


def test_ten_seconds_of_a_seeded_subset(tmp_path: Path) -> None:
    clips = [
        Clip(str(write_sound(tmp_path / f"{number}.wav", 16_000, 12.0, seed=number)), 12.0) for number in range(6)
    ]
    one, again, other = (normalisation(clips, max_clips=2, seed=seed) for seed in (1, 1, 5))
    assert one == again
    assert one.mean != other.mean
    assert (one.clips, one.frames) == (2, 2 * 998)  # 1 + (160,000 − 400) // 160 a clip


def test_silence_and_clips_that_are_gone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000, np.float32), 16_000)
    silence = list_clips(tmp_path).clips
    with pytest.raises(DataError, match="same everywhere: they are silent"):
        normalisation(silence)
    with pytest.raises(DataError, match=r"no clip to measure: 1 skipped: .*gone\.wav: no such file"):
        normalisation([Clip(str(tmp_path / "gone.wav"), 1.0)])
