"""The front-end against librosa, and its own formula for frames; golden spectrograms: test_embedder_golden."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac.errors import MatpacError
from matpac.model.logmel import LogMel, LogMelConfig, mel_matrix


@pytest.mark.parametrize(
    "config",
    [LogMelConfig(), LogMelConfig(mels=128, low=0.0), LogMelConfig(sample_rate=32_000, window=800, high=14_000)],
)
def test_mel_matrix_is_slaneys(config):
    expected = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.window, n_mels=config.mels, fmin=config.low, fmax=config.high
    )
    np.testing.assert_allclose(mel_matrix(config), expected, atol=1e-7)


def test_spectrogram_equals_librosas():
    waveform = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=waveform, sr=16_000, n_fft=400, hop_length=160, window="hann", center=False, power=2.0,
        n_mels=80, fmin=50, fmax=8_000,
    )  # fmt: skip
    logarithm = np.log(power + 1.1920929e-07)
    for mean, std in ((-7.056, 4.193), (2.0, 3.0)):
        found = LogMel(LogMelConfig(mean=mean, std=std))(torch.from_numpy(waveform)[None])[0]
        np.testing.assert_allclose(found, (logarithm - mean) / std, atol=1e-4)


@given(samples=st.integers(400, 4_000))
@settings(deadline=None, max_examples=30)
def test_frames_follow_the_formula(samples):
    config = LogMelConfig()
    frames = LogMel(config)(torch.zeros(1, samples)).shape[-1]
    assert frames == config.frames(samples) == 1 + (samples - 400) // 160
    assert config.samples(frames) <= samples < config.samples(frames + 1)


def test_less_than_a_window_has_no_frame():
    assert LogMelConfig().frames(399) == 0
    with pytest.raises(ValueError, match="399"):
        LogMel()(torch.zeros(1, 399))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("hop", value) for value in (0, 401)),  # sound between windows would not be seen
        *(("window", value) for value in (0, 10**13)),
        *(("mels", value) for value in (0, 208)),  # more than bins
        *(("low", value) for value in (9_000, -1.0, float("nan"))),
        *(("sample_rate", value) for value in (0, 8_000)),  # half of which is below the highest band
        *(("high", 8_001.0), ("mean", float("inf")), ("std", 0.0)),
    ],
)
def test_impossible_front_ends_are_refused(name, value):
    with pytest.raises(MatpacError, match=rf"logmel\.{name}"):
        LogMelConfig(**{name: value})
