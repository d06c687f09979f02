"""Windows against a slow reading of their definition."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sound_files import write_sound
from helpers.tiny_encoder import tiny
from matpac import MatpacError, read
from matpac.model.chunks import Chunk
from matpac.vectors.road import Road
from matpac.vectors.windows import Grid, WindowMeans

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
    means = WindowMeans(grid)
    chunks = [(n, frames[first : first + steps]) for n, first in enumerate(range(0, count, steps))]
    order.shuffle(chunks)
    for number, part in chunks:
        chunk = Chunk(0, number, number * steps, np.empty(0, np.float32), 16 * len(part))
        means.add(chunk, torch.stack([torch.from_numpy(part), -torch.from_numpy(part)]))
    result, other = means.result().numpy()
    np.testing.assert_array_equal(other, -result)  # the second layer
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
    ("window", "hop", "named"),
    [(0.1, 0.1, "window of 0.1 s"), (2.0, 2.5, "hop of 2.5 s"), (2.0, 0.0, "hop of 0 s")],
)
def test_windows_that_are_none_are_refused(window, hop, named):
    with pytest.raises(MatpacError, match=named):
        Grid.of(ENCODER, window, hop)


def test_files_in_windows_are_their_frames(tmp_path):
    paths = [write_sound(tmp_path / f"{n}.wav", rate, 1.0 + n, seed=n) for n, rate in enumerate((16_000, 44_100))]
    grid = Grid.of(ENCODER, 0.5, 0.25)
    for path, row in zip(paths, Road(ENCODER, partial(WindowMeans, grid)).rows(paths), strict=True):
        waveform = read(path)
        frames = ENCODER.frames(waveform, RATE)[0][0].numpy()
        expected = slow_windows(len(waveform), 0.5, 0.25, frames)
        assert row.vectors is not None
        assert row.duration == len(waveform) / RATE
        found = row.vectors[0, : grid.count(len(waveform))]
        np.testing.assert_allclose(found, [mean for _, _, mean in expected], atol=1e-5)
