"""Times of frames: a sound is in the frames where it is in time, whatever was done to it on the way."""

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
LOGMEL, NETWORK = ENCODER.logmel.config, ENCODER.encoder.config
RATE, PATCH = 16_000, 16
FULL = LOGMEL.samples(NETWORK.frames)
"""Samples of a whole chunk: 5360."""
ADVANCE = NETWORK.frames * LOGMEL.hop
"""Samples from one chunk to the next: 5120."""
LAST_SAMPLES = [
    400,
    559,
    560,
    2_799,
    2_800,
    2_960,
    FULL - 1,
    FULL,
    FULL + 159,
    FULL + 160,
    ADVANCE + 2_960,
    3 * FULL,
]
"""Lengths at which a log-mel frame, a patch or a chunk begins or ends."""


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
    frames, centres = [], []
    for start in range(0, len(columns), 32):
        chunk = np.stack(columns[start : start + 32], axis=1).astype(np.float32)
        with torch.inference_mode():
            tokens = ENCODER.encoder(torch.from_numpy(chunk)[None])[0].numpy()
        frames += list(tokens)  # one band: a token is a frame
    for number in range(len(frames)):
        first, last = 16 * number * 160, (16 * number + 15) * 160 + 400
        centres.append((first + last) / 2 / RATE)
    return np.stack(frames), np.array(centres)


@settings(deadline=None, max_examples=40)
@given(samples=st.sampled_from(LAST_SAMPLES) | st.integers(400, 4 * FULL), seed=st.integers(0, 99))
def test_frames_and_times_are_those_of_the_definition(samples: int, seed: int) -> None:
    waveform = np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)
    expected, centres = slow_frames(waveform)
    frames, times = ENCODER.frames(waveform, RATE)
    assert isinstance(times, torch.Tensor)
    np.testing.assert_allclose(frames[0], expected, atol=1e-4)
    np.testing.assert_allclose(times, centres, rtol=0, atol=1e-12)
    stream = matpac.stream(ENCODER, RATE)
    parts = [stream.push(waveform[: samples // 3]), stream.push(waveform[samples // 3 :]), stream.finish()]
    np.testing.assert_allclose(torch.cat([part.frames for part in parts]), expected, atol=1e-4)
    np.testing.assert_allclose(torch.cat([part.times for part in parts]), centres, rtol=0, atol=1e-12)


def test_the_published_numbers() -> None:
    times = ENCODER.times(4)
    np.testing.assert_allclose(times, [0.0875, 0.2475, 0.4075, 0.5675], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ENCODER.times(3, 225_000), 36_000 + 0.0875 + 0.16 * np.arange(3), rtol=0, atol=1e-9)
    assert ENCODER.hop == pytest.approx(0.16, abs=1e-12)


def test_the_last_centre_may_lie_past_the_end() -> None:
    """At most 62.5 ms behind a clip that has one window for its last patch."""
    for samples in LAST_SAMPLES:
        times = ENCODER.times(len(slow_frames(np.zeros(samples))[0]))
        assert times[-1].item() - samples / RATE <= 0.0625


def click(rate: int, place: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Faint noise without and with a click at sample `place`."""
    quiet = 1e-4 * np.random.default_rng(place).standard_normal(round(seconds * rate)).astype(np.float32)
    loud = quiet.copy()
    loud[place] = 0.9
    return quiet, loud


RATES = [8_000, 16_000, 22_050, 44_100, 48_000]


@pytest.mark.parametrize("rate", RATES)
def test_the_front_end_hears_a_click_where_it_is(rate: int) -> None:
    """The energy's centre, log-mel frame k at (160 k + 200) / 16000 s; resampling moves nothing.

    Windows every 10 ms see a click up to 1.23 ms away from where it is: how far exactly follows from the window.
    """
    for seconds in np.linspace(0.1, 1.4, 24):
        place = round(seconds * rate)
        quiet, loud = (resample(sound, rate, RATE) for sound in click(rate, place, 1.5))
        power = [
            torch.exp(ENCODER.logmel(torch.from_numpy(sound)[None])[0].double() * LOGMEL.std + LOGMEL.mean)
            - LOG_OFFSET
            for sound in (quiet, loud)
        ]
        energy = (power[1] - power[0]).sum(0).numpy()
        centres = (160 * np.arange(len(energy)) + 200) / RATE
        found = (energy * centres).sum() / energy.sum()
        after = place / rate * RATE - 160 * np.arange(len(energy))  # samples from each window's begin
        inside = np.where((after > 0) & (after < 400), (0.5 - 0.5 * np.cos(2 * np.pi * after / 400)) ** 2, 0)
        assert found == pytest.approx((inside * centres).sum() / inside.sum(), abs=5e-5)
        assert found == pytest.approx(place / rate, abs=1.3e-3)


@settings(deadline=None, max_examples=40)
@given(rate=st.sampled_from(RATES), where=st.floats(0.05, 1.95), streamed=st.booleans())
def test_the_frame_that_a_click_moves_most_is_the_nearest(rate: int, where: float, streamed: bool) -> None:
    """Over six chunks, the last one padded: 2 s are 12.4 patches."""
    place = round(where * rate)
    sounds = click(rate, place, 2.0)
    if streamed:
        found = [list(matpac.stream(ENCODER, rate, np.array_split(sound, 7))) for sound in sounds]
        frames = [torch.cat([part.frames for part in parts]) for parts in found]
        times = torch.cat([part.times for part in found[0]])
    else:
        frames = [ENCODER.frames(sound, rate)[0][0] for sound in sounds]
        times = ENCODER.times(len(frames[0]))
    moved = (frames[1] - frames[0]).norm(dim=1)
    distance = (times - place / rate).abs()
    # halfway between two centres both hear it alike: within one window's reach of there either may be moved more
    assert distance[moved.argmax()] <= distance.min() + 0.0125
    assert moved.max() > 5 * moved.median()


@pytest.mark.parametrize("chunk", [1, 2, 3])
@pytest.mark.parametrize("offset", [-1_000, -1, 20, 60, 120, 180, 220, 240, 1_000])
def test_a_click_at_a_chunks_boundary_is_heard_on_the_right_side(chunk: int, offset: int) -> None:
    """The last window before a boundary and the first one behind it share 240 samples, and no chunk sees more."""
    quiet, loud = click(RATE, chunk * ADVANCE + offset, 2.0)
    moved = (ENCODER.frames(loud, RATE)[0][0] - ENCODER.frames(quiet, RATE)[0][0]).norm(dim=1)
    steps = NETWORK.steps
    before, after = moved[(chunk - 1) * steps : chunk * steps], moved[chunk * steps : (chunk + 1) * steps]
    assert (before.max() > 0.1) == (offset < 240)
    assert (after.max() > 0.1) == (offset >= 0)
    assert before.max() < 1e-4 or before.argmax() == steps - 1
    assert after.max() < 1e-4 or after.argmax() == 0
    others = torch.cat([moved[: (chunk - 1) * steps], moved[(chunk + 1) * steps :]])
    assert others.max() < 1e-4


def test_times_in_a_file_are_those_of_the_encoder(tmp_path) -> None:
    from pyarrow import parquet

    from helpers.sound_files import write_sound
    from matpac.vectors.embed_files import EmbedOptions, embed_files

    write_sound(tmp_path / "a.wav", 44_100, 1.3)
    embed_files([str(tmp_path / "a.wav")], ENCODER, EmbedOptions(str(tmp_path / "v.parquet"), frames=True))
    times = parquet.read_table(tmp_path / "v.parquet")["time"].to_numpy()
    np.testing.assert_allclose(times, 0.0875 + 0.16 * np.arange(8), rtol=0, atol=1e-12)
