"""Windows against a slow reading of their definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sound_files import make_sound, write_sound
from helpers.tiny_encoder import tiny
from matpac import MatpacError, read
from matpac.model.chunks import Chunk
from matpac.search.sounds import Sounds
from matpac.search.windows import Grid, WindowMeans

ENCODER = tiny()
RATE = ENCODER.sample_rate


def slow_windows(
    samples: int, window: float, hop: float, frames: np.ndarray
) -> list[tuple[float, float, np.ndarray]]:
    """Start, end and mean of every window, one after another until one reaches the end of the sound."""
    times, found, number = ENCODER.times(len(frames)).numpy(), [], 0
    while True:
        start = number * hop
        inside = (times >= start) & (times < start + window)
        if inside.any():
            found.append((start, min(start + window, samples / RATE), frames[inside].mean(0)))
        if start + window >= samples / RATE:
            return found
        number += 1


@settings(deadline=None, max_examples=60)
@given(
    samples=st.integers(400, 40_000),
    window=st.integers(16, 150),
    hop=st.integers(1, 150),
    order=st.randoms(use_true_random=False),
)
def test_windows_are_the_means_of_the_frames_in_them(samples, window, hop, order):
    """In units of 10 ms, of which no centre of a frame is a multiple; chunks come in any order."""
    hop = min(hop, window)
    count = 1 + (ENCODER.logmel.config.frames(samples) - 1) // 16
    frames = np.random.default_rng(samples).standard_normal((count, 3)).astype(np.float32)
    grid = Grid.of(ENCODER, window / 100, hop / 100)
    steps = ENCODER.encoder.config.steps
    means = WindowMeans(grid, steps)
    chunks = [(n, frames[first : first + steps]) for n, first in enumerate(range(0, count, steps))]
    order.shuffle(chunks)
    for number, part in chunks:
        chunk = Chunk(0, number, np.empty(0, np.float32), 16 * len(part))
        means.add(chunk, torch.from_numpy(part)[None])
    result = means.result().numpy()
    expected = slow_windows(samples, window / 100, hop / 100, frames)
    count = min(grid.count(samples), len(result))
    assert count == len(expected)
    np.testing.assert_allclose(grid.starts(count), [start for start, _, _ in expected], atol=1e-9)
    np.testing.assert_allclose(grid.ends(count, samples), [end for _, end, _ in expected], atol=1e-9)
    np.testing.assert_allclose(result[:count], [mean for _, _, mean in expected], atol=1e-5)


@settings(deadline=None)
@given(samples=st.integers(1, 10**7), window=st.integers(16, 3000), hop=st.integers(1, 3000))
def test_windows_cover_a_sound_and_none_is_needless(samples, window, hop):
    grid = Grid.of(ENCODER, window / 100, min(hop, window) / 100)
    count = grid.count(samples)
    starts, ends = grid.starts(count), grid.ends(count, samples)
    assert starts[0] == 0
    assert ends[-1] == pytest.approx(samples / RATE)
    assert (starts[1:] <= ends[:-1] + 1e-9).all()
    assert count == 1 or ends[-2] < ends[-1]


@pytest.mark.parametrize(
    ("window", "hop", "reason"),
    [(0.1, 0.1, "holds no frame; 0.16 s at least"), (2.0, 2.5, "sound is left out"), (2.0, 0.0, "hop of 0 s")],
)
def test_windows_that_are_none_are_refused(window, hop, reason):
    with pytest.raises(MatpacError, match=reason):
        Grid.of(ENCODER, window, hop)


def test_files_in_windows_are_their_frames(tmp_path):
    paths = [write_sound(tmp_path / f"{n}.wav", rate, 1.0 + n, seed=n) for n, rate in enumerate((16_000, 44_100))]
    grid = Grid.of(ENCODER, 0.5, 0.25)
    found = list(Sounds([str(path) for path in paths], ENCODER, grid))
    for path, sound in zip(paths, found, strict=True):
        waveform = read(path)
        frames = ENCODER.frames(waveform, RATE)[0][0].numpy()
        expected = slow_windows(len(waveform), 0.5, 0.25, frames)
        assert sound is not None
        assert sound.duration == pytest.approx(len(waveform) / RATE)
        np.testing.assert_allclose(sound.starts, [start for start, _, _ in expected])
        np.testing.assert_allclose(sound.vectors, [mean for _, _, mean in expected], atol=1e-5)


def test_whole_sounds_are_scenes_and_bad_ones_are_named(tmp_path):
    good = write_sound(tmp_path / "good.wav", 16_000, 1.0)
    (tmp_path / "bad.wav").write_text("no sound")
    sounds = Sounds([str(tmp_path / "bad.wav"), str(good)], ENCODER, None)
    bad, found = list(sounds)
    assert bad is None
    assert [item.path for item in sounds.left_out] == [str(tmp_path / "bad.wav")]
    assert sounds.left_out[0].reason.startswith("not a sound file")
    assert found is not None
    scene = ENCODER.scene(make_sound(16_000, 1.0)[:, 0], 16_000).numpy()
    np.testing.assert_allclose(found.vectors, scene, atol=1e-3)  # 16 bits of the file


@pytest.mark.parametrize("windows", [False, True])
def test_vectors_that_are_not_finite_are_left_out(tmp_path, windows):
    path = str(write_sound(tmp_path / "sound.wav", 16_000, 1.0))
    encoder = tiny()
    next(encoder.encoder.parameters()).fill_(torch.nan)
    sounds = Sounds([path], encoder, Grid.of(encoder, 0.5, 0.5) if windows else None)
    assert list(sounds) == [None]
    assert [item.path for item in sounds.left_out] == [path]
    assert "NaN or infinity" in sounds.left_out[0].reason
