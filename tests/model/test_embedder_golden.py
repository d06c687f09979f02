"""Embeddings against the published code's, beside other clips, and of every accepted kind of sound."""

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac import AudioError, load
from matpac.model.embedder import Embedder
from matpac.model.vit import PATCH

RATE = 16_000
NUMBERS = [0, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def encoder(golden) -> Embedder:
    return load(golden / "tiny_official.pt")


@pytest.fixture(scope="module")
def inference(golden) -> dict[str, np.ndarray]:
    archive = np.load(golden / "tiny_inference.npz")
    return {name: archive[name] for name in archive.files}


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def close(actual: torch.Tensor, expected: np.ndarray, relative: float = 1e-4) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual.numpy() - expected).max() <= relative * np.abs(expected).max()


@pytest.mark.parametrize("number", NUMBERS)
def test_frames_and_scene(encoder, inference, number):
    waveform, expected = inference[f"x{number}"], inference[f"emb{number}"]
    frames, times = encoder.frames(waveform, RATE)
    close(frames[0], expected)
    close(encoder.scene(waveform, RATE)[0], expected.mean(axis=0))
    close(times, (np.arange(len(expected)) * 2560 + (15 * 160 + 400) / 2) / RATE, 1e-9)


def test_log_mels(encoder, inference):
    numbers = [number for number in NUMBERS if f"logmel{number}" in inference]
    assert len(numbers) == 3
    for number in numbers:
        close(encoder.logmel(torch.from_numpy(inference[f"x{number}"])[None])[0], inference[f"logmel{number}"])


@pytest.mark.parametrize("number", [0, 4])
def test_layers(encoder, inference, number):
    waveform, expected = inference[f"x{number}"], inference[f"layers{number}"]
    close(encoder.frames(waveform, RATE, layers="all")[0][0], expected)
    close(encoder.scene(waveform, RATE, layers="all")[0], expected.mean(axis=1))
    close(encoder.scene(waveform, RATE, layers=[-1, 0])[0], expected[[2, 0]].mean(axis=1))


def test_all_golden_clips_in_one_call(encoder, inference):
    clips = [inference[f"x{n}"] for n in NUMBERS]
    frames, times = encoder.frames(clips, RATE)
    for found, time, number in zip(frames, times, NUMBERS, strict=True):
        close(found, inference[f"emb{number}"])
        assert len(time) == len(found)
    close(encoder.scene(clips, RATE), np.stack([inference[f"emb{n}"].mean(axis=0) for n in NUMBERS]))


@settings(deadline=None, max_examples=12)
@given(
    lengths=st.lists(st.integers(400, 40_000), min_size=1, max_size=5),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 100),
)
def test_vectors_do_not_depend_on_other_clips(encoder, lengths, batch_size, seed):
    clips = [noise(length, seed + number) for number, length in enumerate(lengths)]
    scenes = encoder.scene(clips, RATE, batch_size=batch_size)
    frames, _ = encoder.frames(clips, RATE, batch_size=batch_size)
    assert len(frames) == len(scenes) == len(clips)
    for clip, scene, part in zip(clips, scenes, frames, strict=True):
        alone, _ = encoder.frames(clip, RATE)
        assert len(part) == -(-(1 + (len(clip) - 400) // 160) // PATCH)
        assert (part - alone[0]).abs().max() <= 1e-5
        assert (scene - encoder.scene(clip, RATE)[0]).abs().max() <= 1e-5
        assert (scene - part.mean(0)).abs().max() <= 1e-5


def test_kinds_of_waveform(encoder):
    samples = (3000 * np.random.default_rng(0).standard_normal(20_000)).astype(np.int16)
    floats = (samples / 32768).astype(np.float32)
    expected = encoder.scene(floats, RATE)
    assert expected.shape == (1, 640)
    for same in (
        samples,
        torch.from_numpy(samples),
        samples.astype(np.int32) * 65536,
        floats.astype(np.float64),
        torch.from_numpy(floats)[None].requires_grad_(),
        [floats],
        (torch.from_numpy(floats),),
    ):
        found = encoder.scene(same, RATE)
        assert (found - expected).abs().max() <= 1e-6
        assert not found.requires_grad
    batch = np.stack([floats, noise(20_000)])
    close(encoder.scene(batch, RATE), encoder.scene(list(batch), RATE).numpy(), 1e-5)
    frames, times = encoder.frames(batch, RATE)
    assert (frames.shape, times.shape) == ((2, 8, 640), (8,))
    assert encoder.scene([], RATE).shape == (0, 640)
    assert encoder.scene([], RATE, layers="all").shape == (0, 3, 640)
    for layers in ([3], [-4]):
        with pytest.raises(ValueError, match="layers"):
            encoder.scene(floats, RATE, layers=layers)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_other_rates_are_resampled(encoder, rate):
    waveform = noise(rate * 2)
    expected = encoder.scene(soxr.resample(waveform, rate, RATE), RATE)
    assert (encoder.scene(waveform, rate) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("waveform", "named"),
    [
        (np.zeros(399, np.float32), "clip 0"),
        ([np.zeros(8000, np.float32), np.zeros(0, np.float32)], "clip 1"),
        (np.zeros((2, 2, 8000), np.float32), r"clip 0: .*\(2, 2, 8000\)"),
        (np.append(np.zeros(7999), 1e300), "clip 0: .*1e\\+300.*sample 7999"),
        (np.zeros(8000, np.uint8), "clip 0: uint8"),
    ],
)
def test_unusable_clips_are_named(encoder, waveform, named):
    for call in (encoder.scene, encoder.frames):
        with pytest.raises(AudioError, match=named):
            call(waveform, RATE)


@pytest.mark.parametrize(("clips", "chunks"), [(1, 1), (4, 1), (2, 2)])
def test_clips_that_end_with_a_full_chunk(encoder, clips, chunks):
    """Where a clip's last chunk fills the last batch, its end is known only after that batch was given out."""
    samples = encoder.logmel.config.samples(chunks * encoder.config.frames)
    waveforms = [noise(samples, seed) for seed in range(clips)]
    for waveform, scene in zip(waveforms, encoder.scene(waveforms, RATE), strict=True):
        torch.testing.assert_close(encoder.scene(waveform, RATE)[0], scene, atol=1e-5, rtol=1e-5)
