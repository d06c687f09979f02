"""The front-end against librosa, the published code's spectrograms, and its own formula for frames."""

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
    expected = (np.log(power + 1.1920929e-07) + 7.056) / 4.193
    found = LogMel()(torch.from_numpy(waveform)[None])[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_spectrogram_equals_the_published_codes(golden):
    archive = np.load(golden / "tiny_inference.npz")
    names = [name for name in archive.files if name.startswith("logmel")]
    assert len(names) == 3
    for name in names:
        waveform = torch.from_numpy(archive[name.replace("logmel", "x")])
        np.testing.assert_allclose(LogMel()(waveform[None])[0], archive[name], atol=1e-4)


@given(samples=st.integers(400, 4_000))
@settings(deadline=None, max_examples=30)
def test_frames_follow_the_formula(samples):
    config = LogMelConfig()
    frames = LogMel(config)(torch.zeros(1, samples)).shape[-1]
    assert frames == config.frames(samples) == 1 + (samples - 400) // 160
    assert config.samples(frames) <= samples < config.samples(frames + 1)


def test_less_than_a_window_has_no_frame():
    assert LogMelConfig().frames(399) == 0
    with pytest.raises(ValueError, match="399 samples is shorter than one window"):
        LogMel()(torch.zeros(1, 399))


def test_mean_and_deviation_are_the_configurations():
    waveform = torch.randn(1, 8_000)
    plain = LogMel(LogMelConfig(mean=0.0, std=1.0))(waveform)
    torch.testing.assert_close(LogMel(LogMelConfig(mean=2.0, std=3.0))(waveform), (plain - 2) / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop": 0}, "logmel.hop must be between 1 and 400, not 0"),
        ({"hop": 401}, "logmel.hop must be between 1 and 400, not 401"),  # sound between windows would not be seen
        ({"window": 0}, "logmel.window must be between 1 and 65536, not 0"),
        ({"window": 10**13}, "logmel.window must be between 1 and 65536, not 10000000000000"),
        ({"sample_rate": 0}, "logmel.sample_rate must be between 1 and 1000000, not 0"),
        ({"mels": 0}, "logmel.mels must be between 1 and 201, not 0"),
        ({"mels": 208}, "logmel.mels must be between 1 and 201, not 208"),  # more than bins
        ({"low": 9_000}, "logmel.low 9000 and logmel.high 8000.0 must be 0 ≤ low < high ≤ 8000, half of"),
        ({"low": -1.0}, "logmel.low -1.0"),
        ({"high": 8_001.0}, "logmel.high 8001.0"),
        ({"sample_rate": 8_000}, "logmel.high 8000.0 must be 0 ≤ low < high ≤ 4000"),
        ({"low": float("nan")}, "logmel.low nan"),
        ({"mean": float("inf")}, "logmel.mean must be a finite number, not inf"),
        ({"std": 0.0}, "logmel.std must be above 0 and finite, not 0.0"),
    ],
)
def test_front_ends_that_make_no_sense_are_refused(change, message):
    with pytest.raises(MatpacError, match=message):
        LogMelConfig(**change)
