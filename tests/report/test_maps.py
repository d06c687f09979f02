"""Vectors in two dimensions keep their neighbours; panels and maps show labels as they are."""

import io
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from matpac.report.maps import project, projections, sound_map
from matpac.report.style import marks, svg

RNG = np.random.default_rng(0)


def texts(vectors: dict[str, np.ndarray], labels: list[str]) -> list[str]:
    drawn = ElementTree.fromstring(svg(projections(vectors, labels, marks(vectors)), "p-", "alt"))
    return ["".join(element.itertext()) for element in drawn.iter("text")]


def test_projection_keeps_clusters_together_and_is_the_same_twice():
    classes = np.repeat(np.arange(4), 12)
    vectors = 20 * RNG.normal(size=(4, 20))[classes] + RNG.normal(size=(48, 20))
    points = project(vectors, seed=1)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.diag(np.full(48, np.inf))
    np.testing.assert_array_equal(classes[distances.argmin(1)], classes)
    np.testing.assert_array_equal(points, project(vectors, seed=1))


def test_few_vectors_are_projected_on_principal_components():
    vectors = RNG.normal(size=(12, 6)) * np.array([1, 10, 100, 1, 1, 1])
    standard = (vectors - vectors.mean(0)) / vectors.std(0)
    left, values, _ = np.linalg.svd(standard, full_matrices=False)
    expected = np.abs(left * values)[:, :2]
    np.testing.assert_allclose(np.abs(project(vectors)), expected, rtol=1e-6, atol=1e-9)
    with_constant = np.hstack([vectors, np.full((12, 1), 0.1)])
    np.testing.assert_allclose(np.abs(project(with_constant)), expected, rtol=1e-6, atol=1e-9)
    assert not project(np.full((40, 5), 0.1, np.float32)).any()


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 4)), elements=st.floats(-9, 9, width=32))
)
@settings(deadline=None, max_examples=40)
def test_projection_of_anything_small_is_finite(vectors):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = project(vectors)
    assert points.shape == (len(vectors), 2)
    assert np.isfinite(points).all()


def test_labels_are_shown_as_they_are():
    labels = ["_hidden", "$x^2$ & <script>!</script>", "日本語", "a\x00b\ud800\nc", "%s {0}"] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = texts({"$title_": RNG.normal(size=(10, 4))}, labels)
    assert {"_hidden", "$x^2$ & <script>!</script>", "日本語", "a�b� c", "%s {0}", "$title_"} <= set(shown)


def test_panels_report_samples_and_rare_labels(monkeypatch):
    monkeypatch.setattr("matpac.report.maps.MOST_VECTORS", 25)
    labels = [f"class {turn % 40}" for turn in range(400)]
    vectors = RNG.normal(size=(400, 3))
    shown = texts({"one": vectors, "other": vectors[:, :2]}, labels)
    assert {"PCA, 25 of 400 vectors of 3", "PCA, 25 of 400 vectors of 2"} <= set(shown)
    named = [text for text in shown if text.startswith("class ")]
    assert len(named) == 16
    assert named == sorted(named, key=lambda text: int(text.split()[1]))
    assert any(text.endswith(("other label", "other labels")) for text in shown)


def test_a_map_knows_where_its_dots_are():
    labels = ["dog", "rain", "bell"] * 2
    drawn = sound_map(RNG.normal(size=(6, 12)), labels)
    picture = np.asarray(Image.open(io.BytesIO(drawn.png)).convert("RGB")).astype(int)
    assert drawn.size == (picture.shape[1], picture.shape[0])
    colours = {label: mark.colour for label, mark in marks(sorted(set(labels))).items()}
    for number, (label, (x, y)) in enumerate(zip(labels, drawn.places, strict=True)):
        wanted = [int(colours[label][place : place + 2], 16) for place in (1, 3, 5)]
        assert np.abs(picture[round(y), round(x)] - wanted).max() < 80  # dots are somewhat transparent
        assert drawn.at(x + 2, y - 2) == number
    assert drawn.at(-500, -500) is None


@pytest.mark.parametrize(
    ("vectors", "labels", "reason"),
    [
        (np.zeros((3, 2)), ["a"], "3 vectors with 1 labels"),
        (np.full((2, 2), np.nan), ["a", "b"], "not finite"),
        (np.zeros((0, 2)), [], "empty"),
    ],
)
def test_what_cannot_be_projected_is_refused(vectors, labels, reason):
    with pytest.raises(ValueError, match=reason):
        projections({"x": vectors}, labels, marks("x"))
    with pytest.raises(ValueError, match=reason):
        sound_map(vectors, labels)
