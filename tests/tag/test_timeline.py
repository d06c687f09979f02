"""Segments against slow loops written from their definition, by pieces of any size, and on real sounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.named_sounds import LABELS, RATE, knowing, sound
from matpac import MatpacError
from matpac.model.embedder import Embedder
from matpac.tag.timeline import Segment, Timeline, TimelineConfig, timeline

HOP, LEAD = 0.16, 0.0075


def slow_segments(values: np.ndarray, labels: str, duration: float, config: TimelineConfig) -> list[Segment]:
    """All frames at once, in loops."""
    frames, found = len(values), []
    for number, label in enumerate(labels):
        active = [bool(value >= np.float32(config.threshold)) for value in values[:, number]]
        half = config.median_frames // 2
        smoothed = []
        for frame in range(frames):
            window = [active[min(max(other, 0), frames - 1)] for other in range(frame - half, frame + half + 1)]
            smoothed.append(sorted(window)[half])
        runs: list[list[int]] = []
        for frame in range(frames):
            if not smoothed[frame]:
                continue
            if runs and (frame - runs[-1][1]) * HOP <= config.gap + 1e-9:
                runs[-1][1] = frame + 1
            else:
                runs.append([frame, frame + 1])
        for begin, end in runs:
            if (end - begin) * HOP < config.shortest - 1e-9 and (begin, end) != (0, frames):
                continue
            start = 0.0 if begin == 0 else min(duration, begin * HOP + LEAD)
            stop = duration if end == frames else min(duration, end * HOP + LEAD)
            part = values[begin:end, number].astype(np.float64)
            found.append(Segment(start, stop, label, max(part), sum(part) / len(part)))
    return sorted(found, key=lambda segment: (segment.start, segment.label))


def assert_same(found: list[Segment], expected: list[Segment]) -> None:
    assert [segment.label for segment in found] == [segment.label for segment in expected]
    for one, other in zip(found, expected, strict=True):
        numbers = [(part.start, part.end, part.peak, part.mean) for part in (one, other)]
        assert numbers[0] == pytest.approx(numbers[1], abs=2e-6)


configs = st.builds(
    TimelineConfig,
    threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    median_frames=st.sampled_from([1, 3, 5, 9]),
    gap=st.sampled_from([0.0, 0.16, 0.48, 0.5, 1.0]),
    shortest=st.sampled_from([0.0, 0.16, 0.3, 0.32, 0.9]),
)
probabilities = st.integers(1, 3).flatmap(
    lambda classes: st.lists(
        st.lists(st.sampled_from([0.0, 0.2, 0.25, 0.5, 0.6, 1.0]), min_size=classes, max_size=classes),
        max_size=60,
    ).map(lambda rows: np.array(rows, np.float32).reshape(-1, classes))
)


@settings(deadline=None, max_examples=300)
@given(probabilities, configs, st.lists(st.integers(0, 60), max_size=8))
def test_pieces_of_any_size_give_what_the_slow_loop_gives(values, config, cuts):
    labels = "abc"[: values.shape[1]]
    duration = len(values) * HOP + 0.003
    pieces = Timeline(labels, HOP, LEAD, config)
    for piece in np.split(values, sorted(min(cut, len(values)) for cut in cuts)):
        pieces.push(piece)
    assert_same(pieces.finish(duration), slow_segments(values, labels, duration, config))


def row(text: str) -> np.ndarray:
    """One class: x sounds, . does not."""
    return np.array([[letter == "x"] for letter in text], np.float32)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ("..........", []),
        ("....x.....", []),  # flicker
        ("....xx....", [(0.6475, 0.9675)]),
        ("xxxx......", [(0.0, 0.6475)]),
        ("x.........", []),  # its neighbour before the start is itself, but one frame is too short
        ("x", [(0.0, 0.17)]),  # unless there is no more
        ("xx.xx.....", [(0.0, 0.8075)]),  # smoothed away
        ("xxx...xxx.", [(0.0, 1.4475)]),  # 0.48 s of pause
        ("xxx....xxx", [(0.0, 0.4875), (1.1275, 1.61)]),  # 0.64 s
        ("......xxxx", [(0.9675, 1.61)]),
    ],
)
def test_by_hand(frames, expected):
    values = row(frames)
    found = Timeline(("a",), HOP, LEAD)
    found.push(values)
    segments = found.finish(len(values) * HOP + 0.01)
    assert [(part.start, part.end) for part in segments] == [pytest.approx(pair) for pair in expected]
    assert all(part.peak == 1 for part in segments)


def test_the_mean_is_of_the_pauses_too():
    values = np.array([[0.8], [0.9], [0.1], [0.3], [0.7], [0.6]], np.float32)
    found = Timeline(("a",), HOP, LEAD)
    found.push(values)
    [segment] = found.finish(0.96)
    assert (segment.peak, segment.mean) == (pytest.approx(0.9), pytest.approx(3.4 / 6))


def test_only_what_sounds_is_kept():
    """Frames of silent classes are dropped as they pass, and classes that fell silent are closed."""
    line = Timeline([str(number) for number in range(500)], HOP, LEAD)
    quiet = np.full((1000, 500), 0.1, np.float32)
    loud = quiet.copy()
    loud[:, 7] = 0.9
    for block in (quiet, loud, quiet, quiet):
        line.push(block)
        assert sum(len(opened.values) for opened in line._open.values()) <= 1000
    assert not line._open
    assert len(line.finish(640.0)) == 1


@pytest.mark.parametrize("wrong", [{"threshold": 1.1}, {"median_frames": 2}, {"gap": -1.0}, {"shortest": -0.1}])
def test_numbers_out_of_range(wrong):
    with pytest.raises(MatpacError, match=str(*wrong)):
        TimelineConfig(**wrong)


@pytest.fixture(scope="module")
def encoder() -> Embedder:
    return knowing()


def test_sounds_one_after_another(encoder):
    waveform = sound(("silence", 1), ("tone", 2), ("silence", 1.5), ("noise", 1), ("tone", 1), seed=50)
    found = timeline(encoder, waveform, RATE)
    assert [part.label for part in found] == ["tone", "noise", "tone"]
    expected = [(1, 3), (4.5, 5.5), (5.5, 6.5)]
    for part, (start, end) in zip(found, expected, strict=True):
        # a frame is 0.16 s, and the encoder's chunks of 0.32 s see both sides
        assert part.start == pytest.approx(start, abs=0.33)
        assert part.end == pytest.approx(end, abs=0.33)
        assert 0.5 <= part.mean <= part.peak <= 1
    assert timeline(encoder, sound(("silence", 1)), RATE) == []


def test_another_rate_and_a_whole_sound(encoder):
    waveform = sound(("noise", 1.234), rate=44_100)
    [segment] = timeline(encoder, waveform, 44_100)
    assert (segment.start, segment.end) == (0.0, pytest.approx(1.234, abs=1e-4))
    assert segment.label == LABELS[1]
