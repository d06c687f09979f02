"""Figures of one sound or two, and the map that can be clicked."""

import io

import numpy as np
import pytest
from PIL import Image

from matpac.report import listening
from matpac.report.listening import heard_figure, similarity_figure
from matpac.report.maps import sound_map
from matpac.report.style import COLOURS, marks

FREQUENCIES = np.geomspace(60, 7500, 20)


def sound(frames: int = 300):
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, frames)).astype(np.float32), np.arange(frames) * 0.01 + 0.0125


def test_rows_are_named_first_on_top_and_share_the_time():
    logmel, times = sound()
    steps = np.arange(18) * 0.16 + 0.0875
    rows = {"dog": np.linspace(0, 1, 18), "rain": np.zeros(18)}
    figure = heard_figure(logmel, times, FREQUENCIES, rows, steps)
    above, below = figure.axes
    labels = {text.get_text(): text.get_position()[1] for text in below.get_yticklabels()}
    assert labels["dog"] > labels["rain"]
    picture = below.images[0].get_array()
    assert picture is not None
    drawn = np.asarray(picture)
    assert (drawn[0] == drawn[0, 0]).all()  # rain: one colour, at the bottom
    assert (drawn[1, 0] > drawn[1, -1]).any()  # dog: darker to the right
    assert above.get_shared_x_axes().joined(above, below)


def test_without_labels_there_is_the_spectrogram_alone():
    logmel, times = sound()
    assert len(heard_figure(logmel, times, FREQUENCIES, {}, np.array([0.0875])).axes) == 1


def test_a_long_sound_keeps_its_loudest_frames_in_place(monkeypatch):
    monkeypatch.setattr(listening, "MOST_COLUMNS", 100)
    logmel, times = sound(1_001)
    logmel[:, 505] = 50.0
    figure = heard_figure(logmel, times, FREQUENCIES, {}, np.array([0.0875]))
    image = figure.axes[0].images[0]
    picture = np.asarray(image.get_array())
    assert picture.shape[1] == 91  # of 11 each
    brightest = picture.sum(axis=(0, 2)).argmax()
    left, right, *_ = image.get_extent()
    assert left + (brightest + 0.5) / 91 * (right - left) == pytest.approx(times[505], abs=0.07)


def test_similarity_has_both_times_and_its_cosines():
    cosines = np.random.default_rng(0).uniform(0.2, 1, (5, 9))
    up, right = np.arange(5) * 0.16, np.arange(9) * 0.16
    axes = similarity_figure(cosines, (up, right), ("one.wav", "another.wav")).axes[0]
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), cosines)
    assert axes.get_ylabel() == "seconds of one.wav"
    assert axes.get_xlabel() == "seconds of another.wav"
    assert axes.images[0].get_extent() == pytest.approx([-0.08, 8 * 0.16 + 0.08, -0.08, 4 * 0.16 + 0.08])
    similarity_figure(cosines[:1, :1], (up[:1], right[:1]), ("a", "b"))  # a sound of one frame


def test_a_map_knows_where_its_dots_are():
    rng = np.random.default_rng(0)
    labels = ["dog", "rain", "bell", "dog", "rain", "bell"]
    drawn = sound_map(rng.normal(size=(6, 12)), labels)
    picture = np.asarray(Image.open(io.BytesIO(drawn.png)).convert("RGB")).astype(int)
    assert drawn.size == (picture.shape[1], picture.shape[0])
    colours = {label: mark.colour for label, mark in marks(sorted(set(labels))).items()}
    assert set(colours.values()) <= set(COLOURS)
    for number, (label, (x, y)) in enumerate(zip(labels, drawn.places, strict=True)):
        wanted = [int(colours[label][place : place + 2], 16) for place in (1, 3, 5)]
        assert np.abs(picture[round(y), round(x)] - wanted).max() < 80  # it is somewhat transparent
        assert drawn.at(x + 2, y - 2) == number
    assert drawn.at(-500, -500) is None


def test_a_map_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="3 vectors with 2 labels"):
        sound_map(np.zeros((3, 4)), ["a", "b"])
    with pytest.raises(ValueError, match="not finite"):
        sound_map(np.full((3, 4), np.nan), ["a", "b", "c"])
