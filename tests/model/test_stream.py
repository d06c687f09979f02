"""A stream of blocks gives what the whole waveform gives, at the same times, whatever the blocks are."""

from collections.abc import Iterator

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import matpac
from helpers.tiny_encoder import tiny
from matpac import AudioError, MatpacError
from matpac.audio import Resampler
from matpac.model.stream import Stream, TimedFrames

ENCODER = tiny()
RATE = ENCODER.sample_rate
CHUNK = ENCODER.logmel.config.samples(ENCODER.encoder.config.frames)
RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000]


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def cut(waveform: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    """Blocks of these sizes, over and over."""
    place = turn = 0
    while place < len(waveform):
        size = sizes[turn % len(sizes)]
        yield waveform[place : place + size]
        place, turn = place + size, turn + 1


@settings(deadline=None, max_examples=60)
@given(
    rate=st.sampled_from(RATES) | st.integers(4_000, 50_000),
    seconds=st.floats(0.03, 2.0),
    sizes=st.lists(st.integers(0, 30_000), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 300),
    layers=st.sampled_from([None, "all", [0], [-1, 0]]),
)
def test_blocks_of_any_size_give_what_the_whole_gives(rate: int, seconds: float, sizes: list, layers) -> None:
    waveform = noise(round(rate * seconds))
    expected, times = ENCODER.frames(waveform, rate, layers)
    stream = matpac.stream(ENCODER, rate, layers=layers)
    parts = [stream.push(block) for block in cut(waveform, sizes)] + [stream.finish()]
    assert all(part.frames.shape[-2] == len(part.times) for part in parts)
    torch.testing.assert_close(torch.cat([part.frames for part in parts], -2), expected[0], atol=1e-5, rtol=0)
    assert isinstance(times, torch.Tensor)
    assert torch.equal(torch.cat([part.times for part in parts]), times)


def test_single_samples() -> None:
    waveform = noise(CHUNK + 500)
    found = list(matpac.stream(ENCODER, RATE, cut(waveform, [1])))
    expected, _ = ENCODER.frames(waveform, RATE)
    assert [len(part.times) for part in found] == [2, 1]
    torch.testing.assert_close(torch.cat([part.frames for part in found]), expected[0], atol=1e-5, rtol=0)


def test_frames_come_as_soon_as_their_chunk_is_complete_and_not_before() -> None:
    stream = matpac.stream(ENCODER, RATE)
    period = ENCODER.encoder.config.frames * ENCODER.logmel.config.hop
    assert (stream.latency, stream.period) == (CHUNK / RATE, period / RATE)
    waveform = noise(CHUNK + 3 * period)
    assert not len(stream.push(waveform[: CHUNK - 1]).times)
    ends = [CHUNK, CHUNK + period - 1, CHUNK + period, CHUNK + 3 * period]
    pushed = [waveform[start:end] for start, end in zip([CHUNK - 1, *ends], ends, strict=False)]
    assert [len(stream.push(block).times) for block in pushed] == [2, 0, 2, 4]
    assert stream.finish().frames.shape == (0, ENCODER.width)


def test_the_papers_latency() -> None:
    stream = matpac.stream(tiny_of_608(), 16_000)
    assert (stream.latency, stream.period) == (6.095, 6.08)


def tiny_of_608() -> matpac.Embedder:
    from matpac.model.vit import Encoder, EncoderConfig

    return matpac.Embedder(Encoder(EncoderConfig(width=16, depth=1, heads=2)))


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_kinds_of_blocks(rate: int) -> None:
    samples = (3000 * np.random.default_rng(0).standard_normal(2 * rate)).astype(np.int16)
    floats = (samples / 32768).astype(np.float32)
    expected = torch.cat([part.frames for part in matpac.stream(ENCODER, rate, cut(floats, [999]))])
    for same in (samples, samples.astype(np.int32) * 65536, floats.astype(np.float64)):
        found = torch.cat([part.frames for part in matpac.stream(ENCODER, rate, cut(same, [5000]))])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    found = torch.cat([part.frames for part in matpac.stream(ENCODER, rate, torch.from_numpy(floats).split(700))])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_as_a_context_the_last_frames_are_kept() -> None:
    waveform = noise(CHUNK + 5_000)
    with matpac.stream(ENCODER, RATE) as stream:
        first = stream.push(waveform)
    last = stream.finish()
    assert stream.finish() is last
    assert (len(first.times), len(last.times)) == (2, 2)
    with pytest.raises(MatpacError, match="has ended"):
        stream.push(waveform)

    def fails() -> None:
        with stream:
            raise KeyboardInterrupt

    stream = matpac.stream(ENCODER, RATE)
    with pytest.raises(KeyboardInterrupt):
        fails()
    with pytest.raises(MatpacError, match="left by an error"):
        stream.finish()


def test_empty_blocks_are_nothing() -> None:
    stream = matpac.stream(ENCODER, 44_100, layers="all")
    assert stream.push(np.zeros(0, np.float32)).frames.shape == (2, 0, ENCODER.width)
    stream.push(noise(2_000))
    stream.push(np.zeros(0, np.int16))
    assert stream.finish().frames.shape == (2, 1, ENCODER.width)


def test_too_little_sound_is_an_error_as_for_a_clip() -> None:
    for rate, samples, said in ((RATE, 399, "24.9 ms"), (48_000, 0, "0.0 ms"), (8_000, 100, "12.5 ms")):
        stream = matpac.stream(ENCODER, rate)
        stream.push(noise(samples))
        with pytest.raises(AudioError, match=f"stream: {said} of sound is shorter than one window"):
            stream.finish()


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (np.full(10, np.nan, np.float32), "block 1: holds values that are not finite"),
        (np.zeros((2, 10), np.float32), r"block 1: shape \(2, 10\)"),
        (np.zeros(10, np.uint8), "block 1: uint8"),
    ],
)
def test_a_bad_block_is_named_and_the_stream_goes_on(block: np.ndarray, said: str) -> None:
    waveform = noise(9_000)
    stream = matpac.stream(ENCODER, RATE)
    stream.push(waveform[:1_000])
    with pytest.raises(AudioError, match=said):
        stream.push(block)
    parts = [stream.push(waveform[1_000:]), stream.finish()]
    expected, _ = ENCODER.frames(waveform, RATE)
    torch.testing.assert_close(torch.cat([part.frames for part in parts]), expected[0], atol=1e-5, rtol=0)


def test_what_is_refused() -> None:
    with pytest.raises(MatpacError, match="no blocks"):
        next(iter(matpac.stream(ENCODER, RATE)))
    for rate in (0, -1):
        with pytest.raises(ValueError, match="rates are positive"):
            matpac.stream(ENCODER, rate)
    with pytest.raises(ValueError, match="layers must be"):
        matpac.stream(ENCODER, RATE, layers=[2])


def test_nothing_of_the_past_is_held() -> None:
    """Samples that a stream holds: less than a chunk, however much has passed."""
    stream = Stream(ENCODER, RATE)
    for seed in range(20):
        found = stream.push(noise(7_000, seed))
        assert isinstance(found, TimedFrames)
    held = [value for value in vars(stream._cutter).values() if isinstance(value, np.ndarray)]
    assert sum(len(samples) for samples in held) <= CHUNK
    assert not any(isinstance(value, (list, dict)) for value in vars(stream).values())


@settings(deadline=None, max_examples=40)
@given(
    rates=st.tuples(st.sampled_from(RATES), st.sampled_from(RATES)),
    samples=st.integers(0, 20_000),
    sizes=st.lists(st.integers(0, 9_000), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) > 50),
)
def test_resampled_blocks_are_the_resampled_whole(rates: tuple[int, int], samples: int, sizes: list[int]) -> None:
    resampler = Resampler(*rates)
    waveform = noise(samples)
    found = np.concatenate([*map(resampler.push, cut(waveform, sizes)), resampler.finish()])
    expected = soxr.resample(waveform, *rates) if samples else waveform
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-6)
