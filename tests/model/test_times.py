"""Times of frames: a sound is in the frames where it is in time, at any rate, in clips and in streams."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import matpac
from helpers.tiny_encoder import tiny
from matpac.audio import resample
from matpac.model.logmel import LOG_OFFSET

torch.manual_seed(0)
ENCODER = tiny()
LOGMEL, NETWORK = ENCODER.logmel.config, ENCODER.config
RATE = 16_000
FULL, ADVANCE = LOGMEL.samples(NETWORK.frames), NETWORK.frames * LOGMEL.hop
"""Samples of a whole chunk (5360), and from one chunk to the next (5120)."""
EDGES = [400, 559, 560, 2_799, 2_800, 2_960, FULL - 1, FULL, FULL + 159, FULL + 160, ADVANCE + 2_960, 3 * FULL]
"""Lengths at which a log-mel frame, a patch or a chunk begins or ends."""
RATES = [8_000, 16_000, 22_050, 44_100, 48_000]


def slow_frames(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames and their centres from the definition (docs/method.md, sections 1 and 7), one at a time."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    mel = librosa.filters.mel(sr=RATE, n_fft=400, n_mels=16, fmin=50, fmax=8_000)
    columns = []
    for start in range(0, len(waveform) - 399, 160):
        power = np.abs(np.fft.rfft(window * waveform[start : start + 400])) ** 2
        columns.append((np.log(mel @ power + 1.1920929e-07) + 7.056) / 4.193)
    while len(columns) % 16:
        columns.append(np.zeros(16))
    frames = []
    for start in range(0, len(columns), 32):
        chunk = torch.from_numpy(np.stack(columns[start : start + 32], axis=1).astype(np.float32))[None]
        with torch.inference_mode():
            frames += list(ENCODER.encoder(chunk)[0].numpy())  # one band: a token is a frame
    spans = [(16 * number * 160, (16 * number + 15) * 160 + 400) for number in range(len(frames))]
    return np.stack(frames), np.array([sum(span) / 2 / RATE for span in spans])


@settings(deadline=None, max_examples=30)
@given(samples=st.sampled_from(EDGES) | st.integers(400, 4 * FULL), seed=st.integers(0, 99))
def test_frames_and_times_are_those_of_the_definition(samples: int, seed: int) -> None:
    waveform = np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)
    expected, centres = slow_frames(waveform)
    frames, times = ENCODER.frames(waveform, RATE)
    np.testing.assert_allclose(frames[0], expected, atol=1e-4)
    np.testing.assert_allclose(times, centres, rtol=0, atol=1e-12)
    assert centres[-1] - samples / RATE <= 0.0625  # the last patch may reach past the end, if it has one window


def test_the_published_numbers() -> None:
    np.testing.assert_allclose(ENCODER.times(4), [0.0875, 0.2475, 0.4075, 0.5675], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ENCODER.times(3, 225_000), 36_000 + 0.0875 + 0.16 * np.arange(3), rtol=0, atol=1e-9)
    assert ENCODER.hop == pytest.approx(0.16, abs=1e-12)


def click(rate: int, place: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Faint noise without and with a click at sample `place`."""
    quiet = 1e-4 * np.random.default_rng(place).standard_normal(round(seconds * rate)).astype(np.float32)
    loud = quiet.copy()
    loud[place] = 0.9
    return quiet, loud


@pytest.mark.parametrize("rate", RATES)
def test_the_front_end_hears_a_click_where_it_is(rate: int) -> None:
    """The energy's centre, log-mel frame k at (160 k + 200) / 16000 s; resampling moves nothing.

    Windows every 10 ms see a click up to 1.23 ms away from where it is: how far exactly follows from the window.
    """
    for seconds in np.linspace(0.1, 1.4, 12):
        place = round(seconds * rate)
        logmels = [
            ENCODER.logmel(torch.from_numpy(resample(sound, rate, RATE))[None])[0].double()
            for sound in click(rate, place, 1.5)
        ]
        quiet, loud = (torch.exp(logmel * LOGMEL.std + LOGMEL.mean) - LOG_OFFSET for logmel in logmels)
        energy = (loud - quiet).sum(0).numpy()
        centres = (160 * np.arange(len(energy)) + 200) / RATE
        found = (energy * centres).sum() / energy.sum()
        after = place / rate * RATE - 160 * np.arange(len(energy))  # samples from the start of each window
        inside = np.where((after > 0) & (after < 400), (0.5 - 0.5 * np.cos(2 * np.pi * after / 400)) ** 2, 0)
        assert found == pytest.approx((inside * centres).sum() / inside.sum(), abs=5e-5)
        assert found == pytest.approx(place / rate, abs=1.3e-3)


@settings(deadline=None, max_examples=25)
@given(rate=st.sampled_from(RATES), where=st.floats(0.05, 1.95))
def test_the_frame_that_a_click_moves_most_is_the_nearest(rate: int, where: float) -> None:
    """In a stream over six chunks, the last one padded: 2 s are 12.4 patches."""
    place = round(where * rate)
    found = [list(matpac.stream(ENCODER, rate, np.array_split(sound, 7))) for sound in click(rate, place, 2.0)]
    quiet, loud = (torch.cat([part.frames for part in parts]) for parts in found)
    times = torch.cat([part.times for part in found[0]])
    moved = (loud - quiet).norm(dim=1)
    distance = (times - place / rate).abs()
    # halfway between two centres both hear it alike: within one window's reach of there either may be moved more
    assert distance[moved.argmax()] <= distance.min() + 0.0125
    assert moved.max() > 5 * moved.median()


@pytest.mark.parametrize("offset", [-1_000, -1, 20, 120, 220, 240, 1_000])
def test_a_click_at_a_chunks_boundary_is_heard_on_the_right_side(offset: int) -> None:
    """The last window before a boundary and the first one behind it share 240 samples, and no chunk sees more."""
    chunk = 3
    quiet, loud = click(RATE, chunk * ADVANCE + offset, 2.0)
    moved = (ENCODER.frames(loud, RATE)[0][0] - ENCODER.frames(quiet, RATE)[0][0]).norm(dim=1)
    start, boundary, end = (number * NETWORK.steps for number in (chunk - 1, chunk, chunk + 1))
    before, after = moved[start:boundary], moved[boundary:end]
    assert (before.max() > 0.1) == (offset < 240)
    assert (after.max() > 0.1) == (offset >= 0)
    assert before.max() < 1e-4 or before.argmax() == NETWORK.steps - 1
    assert after.max() < 1e-4 or after.argmax() == 0
    assert torch.cat([moved[:start], moved[end:]]).max() < 1e-4
