"""Figures of a clip show every band, patch, frame and label where it is."""

import base64
import io
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from matpac.report import spectrograms
from matpac.report.spectrograms import MaskedClip, heard_figure, mask_figure, similarity_figure
from matpac.report.style import svg

RNG = np.random.default_rng(0)


def clip() -> MaskedClip:
    """5 × 6 patches of 16 × 16."""
    masked = RNG.random((5, 6)) < 0.7
    masked[0, 0], masked[0, 1] = True, False
    error = np.where(masked, RNG.uniform(0, 2, masked.shape), np.nan)
    logmel = RNG.normal(size=(80, 96)).astype(np.float32)
    return MaskedClip(logmel, masked, error, 0.0125 + 0.01 * np.arange(96), np.linspace(50, 8000, 80))


def test_masked_patches_are_grey_low_bands_at_the_bottom():
    masked = np.ones((5, 6), bool)
    masked[0] = False
    figure = mask_figure(replace(clip(), masked=masked, error=np.where(masked, 1.0, np.nan)))
    seen = figure.axes[1].images[0]
    assert seen.origin == "lower"
    grey = (seen.get_array() == 204).all(-1)
    assert grey[16:].all()
    assert not grey[:16].all(1).any()
    assert seen.get_extent() == pytest.approx((0.0075, 0.0075 + 0.96, 0, 80))
    assert "20 % of the patches" in figure.axes[1].get_title(loc="left")
    assert len({axes.get_xlim() for axes in figure.axes[:3]}) == 1


def test_each_masked_patch_has_the_colour_of_its_error():
    shown = clip()
    figure: Any = mask_figure(shown)
    picture = figure.axes[2].images[0].get_array()
    highest = figure.axes[-1].get_ylim()[1]
    assert np.nanmax(shown.error) <= highest <= 4
    for (band, step), masked in np.ndenumerate(shown.masked):
        patch = picture[16 * band : 16 * band + 16, 16 * step : 16 * step + 16].reshape(-1, 3)
        expected = matplotlib.colormaps["viridis"](shown.error[band, step] / highest, bytes=True)[:3]
        assert (patch == np.array(expected)).all() if masked else (patch >= 190).all()


def test_pictures_are_stored_with_their_own_pixels():
    drawn = ElementTree.fromstring(svg(mask_figure(clip()), "", "alt"))
    stored = [base64.b64decode(element.attrib["href"].split(",")[1]) for element in drawn.iter("image")]
    sizes = [matplotlib.image.imread(io.BytesIO(png)).shape[:2] for png in stored]
    assert sizes.count((80, 96)) == 3


def test_frequencies_are_named_where_the_bands_have_them():
    axes = mask_figure(clip()).axes[0]
    ticks = zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    named = {float(text.get_text()): tick for text, tick in ticks}
    assert {8.0, 4.0, 2.0} <= named.keys()
    assert named[4.0] == pytest.approx(0.5 + 79 * (4000 - 50) / 7950)


@pytest.mark.parametrize(
    "change",
    [{"masked": np.ones((5, 7), bool), "error": np.ones((5, 7))}, {"error": np.full((5, 6), np.nan)}],
)
def test_patches_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match="patch"):
        replace(clip(), **change)


FREQUENCIES = np.geomspace(60, 7500, 20)


def sound(frames: int) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(size=(20, frames)).astype(np.float32), np.arange(frames) * 0.01 + 0.0125


def test_labels_are_named_first_on_top_and_share_the_time():
    rows = {"dog": np.linspace(0, 1, 18), "rain": np.zeros(18)}
    above, below = heard_figure(*sound(300), FREQUENCIES, rows, np.arange(18) * 0.16 + 0.0875).axes
    heights = {text.get_text(): text.get_position()[1] for text in below.get_yticklabels()}
    assert heights["dog"] > heights["rain"]
    drawn = np.asarray(below.images[0].get_array())
    assert (drawn[0] == drawn[0, 0]).all()  # rain: one colour, at the bottom
    assert (drawn[1, 0] > drawn[1, -1]).any()  # dog: darker to the right
    assert above.get_shared_x_axes().joined(above, below)
    np.testing.assert_allclose(above.get_xlim(), above.images[0].get_extent()[:2])


def test_a_long_sound_keeps_its_loudest_frames_in_place(monkeypatch):
    monkeypatch.setattr(spectrograms, "MOST_COLUMNS", 100)
    logmel, times = sound(1_001)
    logmel[:, 505] = 50.0
    [axes] = heard_figure(logmel, times, FREQUENCIES, {}, np.array([0.0875])).axes  # no labels: spectrogram alone
    picture = np.asarray(axes.images[0].get_array())
    assert picture.shape[1] == 91  # of 11 each
    brightest = picture.sum(axis=(0, 2)).argmax()
    left, right, *_ = axes.images[0].get_extent()
    assert left + (brightest + 0.5) / 91 * (right - left) == pytest.approx(times[505], abs=0.07)


def test_similarity_has_both_times_and_its_cosines():
    cosines = RNG.uniform(0.2, 1, (5, 9))
    up, right = np.arange(5) * 0.16, np.arange(9) * 0.16
    axes = similarity_figure(cosines, (up, right), ("one.wav", "another.wav")).axes[0]
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), cosines)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("seconds of one.wav", "seconds of another.wav")
    assert axes.images[0].get_extent() == pytest.approx([-0.08, 8 * 0.16 + 0.08, -0.08, 4 * 0.16 + 0.08])
    similarity_figure(cosines[:1, :1], (up[:1], right[:1]), ("a", "b"))  # a sound of one frame
