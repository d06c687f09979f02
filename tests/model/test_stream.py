"""A stream of blocks gives what the whole waveform gives, at the same times, whatever the blocks are."""

from collections.abc import Iterator
from itertools import cycle, pairwise

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
from matpac.model.vit import Encoder, EncoderConfig

ENCODER = tiny()
RATE = ENCODER.sample_rate
PERIOD = ENCODER.config.frames * ENCODER.logmel.config.hop
CHUNK = ENCODER.logmel.config.samples(ENCODER.config.frames)
RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000]


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def cut(waveform: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    """Blocks of these sizes, over and over."""
    place, turns = 0, cycle(sizes)
    while place < len(waveform):
        size = next(turns)
        yield waveform[place : place + size]
        place += size


@settings(deadline=None, max_examples=40)
@given(
    rate=st.sampled_from(RATES) | st.integers(4_000, 50_000),
    seconds=st.floats(0.03, 1.2),
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
    assert torch.cat([part.times for part in parts]).equal(torch.as_tensor(times))


def test_frames_come_as_soon_as_their_chunk_is_complete_and_not_before() -> None:
    stream = matpac.stream(ENCODER, RATE)
    assert (stream.latency, stream.period) == (CHUNK / RATE, PERIOD / RATE)
    waveform = noise(CHUNK + 3 * PERIOD)
    ends = [0, CHUNK - 1, CHUNK, CHUNK + PERIOD - 1, CHUNK + PERIOD, CHUNK + 3 * PERIOD]
    blocks = [waveform[start:end] for start, end in pairwise(ends)]
    assert [len(stream.push(block).times) for block in blocks] == [0, 2, 0, 2, 4]
    assert stream.finish().frames.shape == (0, ENCODER.width)
    papers = matpac.stream(matpac.Embedder(Encoder(EncoderConfig(width=16, depth=1, heads=2))), 16_000)
    assert (papers.latency, papers.period) == (6.095, 6.08)


def test_kinds_of_blocks() -> None:
    samples = (3000 * np.random.default_rng(0).standard_normal(44_100)).astype(np.int16)
    floats = (samples / 32768).astype(np.float32)
    expected = ENCODER.frames(floats, 44_100)[0][0]
    for same in (samples, samples.astype(np.int32) * 65536, floats.astype(np.float64), torch.from_numpy(floats)):
        parts = matpac.stream(ENCODER, 44_100, (same[place : place + 7000] for place in range(0, 44_100, 7000)))
        torch.testing.assert_close(torch.cat([part.frames for part in parts]), expected, atol=1e-5, rtol=0)


def test_as_a_context_the_last_frames_are_kept() -> None:
    waveform = noise(CHUNK + 5_000)
    with matpac.stream(ENCODER, RATE) as stream:
        first = stream.push(waveform)
    last = stream.finish()
    assert stream.finish() is last
    assert (len(first.times), len(last.times)) == (2, 2)
    with pytest.raises(MatpacError, match="has ended"):
        stream.push(waveform)
    stream = matpac.stream(ENCODER, RATE)
    with pytest.raises(KeyboardInterrupt), stream:
        raise KeyboardInterrupt
    with pytest.raises(MatpacError, match="by an error"):
        stream.finish()


def test_empty_blocks_are_nothing() -> None:
    stream = matpac.stream(ENCODER, 44_100, layers="all")
    assert stream.push(np.zeros(0, np.float32)).frames.shape == (2, 0, ENCODER.width)
    stream.push(noise(2_000))
    stream.push(np.zeros(0, np.int16))
    assert stream.finish().frames.shape == (2, 1, ENCODER.width)


@pytest.mark.parametrize(("rate", "samples", "length"), [(RATE, 399, "24.9"), (48_000, 0, "0.0")])
def test_too_little_sound_is_an_error_as_for_a_clip(rate: int, samples: int, length: str) -> None:
    stream = matpac.stream(ENCODER, rate)
    stream.push(noise(samples))
    with pytest.raises(AudioError, match=f"stream: {length} ms"):
        stream.finish()


@pytest.mark.parametrize("block", [np.full(10, np.nan, np.float32), np.zeros((2, 10), np.float32)])
def test_a_bad_block_is_named_and_the_stream_continues(block: np.ndarray) -> None:
    waveform = noise(9_000)
    stream = matpac.stream(ENCODER, RATE)
    stream.push(waveform[:1_000])
    with pytest.raises(AudioError, match="block 1: "):
        stream.push(block)
    frames = torch.cat([stream.push(waveform[1_000:]).frames, stream.finish().frames])
    torch.testing.assert_close(frames, ENCODER.frames(waveform, RATE)[0][0], atol=1e-5, rtol=0)


def test_unusable_arguments() -> None:
    with pytest.raises(MatpacError, match="no blocks"):
        next(iter(matpac.stream(ENCODER, RATE)))
    with pytest.raises(ValueError, match="-1"):
        matpac.stream(ENCODER, -1)
    with pytest.raises(ValueError, match="layers"):
        matpac.stream(ENCODER, RATE, layers=[2])


def test_nothing_of_the_past_is_held() -> None:
    """Samples that a stream holds: less than a chunk, however much has passed."""
    stream = matpac.stream(ENCODER, RATE)
    for seed in range(20):
        stream.push(noise(7_000, seed))
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
    resampler, waveform = Resampler(*rates), noise(samples)
    found = np.concatenate([*map(resampler.push, cut(waveform, sizes)), resampler.finish()])
    expected = soxr.resample(waveform, *rates) if samples else waveform
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-6)
