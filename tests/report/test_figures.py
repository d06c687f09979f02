"""Figures say what the numbers say, leave no trace in matplotlib, and survive labels as people have them."""

import base64
import io
import re
import warnings
from typing import Any
from xml.etree import ElementTree

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from matpac.report import class_scores, confusion, marks, mask_figure, project, projection, projections
from matpac.report.style import COLOURS, WIDTH, number, printable, svg

RNG = np.random.default_rng(0)


def drawn(figure: Any) -> ElementTree.Element:
    return ElementTree.fromstring(svg(figure, "p-", "what is to be seen"))


def texts(figure: Any) -> list[str]:
    return ["".join(element.itertext()) for element in drawn(figure).iter("text")]


def clusters(classes: int, each: int, dim: int = 20) -> tuple[np.ndarray, list[str]]:
    labels = np.repeat(np.arange(classes), each)
    centres = 20 * RNG.normal(size=(classes, dim))
    return centres[labels] + RNG.normal(size=(len(labels), dim)), [f"class {label}" for label in labels]


def spectrogram(bands: int = 5, steps: int = 6) -> dict[str, Any]:
    masked = RNG.random((bands, steps)) < 0.7
    masked[0, 0], masked[0, 1] = True, False
    return {
        "logmel": RNG.normal(size=(16 * bands, 16 * steps)).astype(np.float32),
        "masked": masked,
        "error": np.where(masked, RNG.uniform(0, 2, masked.shape), np.nan),
        "times": 0.0125 + 0.01 * np.arange(16 * steps),
        "frequencies": np.linspace(50, 8000, 16 * bands),
    }


def test_svg_is_the_same_twice_and_has_only_ids_of_its_page():
    given_ = spectrogram()
    one, other = (svg(mask_figure(**given_), "a-", "alt") for _ in range(2))
    assert one == other
    ids = re.findall(r'\bid="([^"]*)"', one)
    assert ids
    assert all(name.startswith("a-") for name in ids)
    referred = re.findall(r'href="#([^"]*)"', one) + re.findall(r"url\(#([^)]*)\)", one)
    assert set(referred) <= set(ids)
    assert len(set(ids)) == len(ids)
    assert "metadata" not in one


def test_figures_leave_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 31.0, "text.usetex": False}):
        figure = confusion(np.eye(3, dtype=int), ["a", "b", "c"])
        assert matplotlib.rcParams["font.size"] == 31
        assert "31px" not in svg(figure, "", "alt")
    assert dict(matplotlib.rcParams) == before


def test_every_figure_has_the_page_width():
    vectors, labels = clusters(2, 4)
    shown = [
        projection(vectors, labels),
        mask_figure(**spectrogram()),
        confusion(np.eye(2, dtype=int), ["a", "b"]),
        class_scores(["a"], np.array([0.5])),
    ]
    for figure in shown:
        left, _, width, _ = map(float, drawn(figure).attrib["viewBox"].split())
        assert (left, width) == (0, 72 * WIDTH)


def test_labels_are_shown_as_they_are():
    labels = ["_hidden", "$x^2$ & <script>!</script>", "日本語", "a\x00b\ud800\nc", "%s {0}"] * 2
    vectors = RNG.normal(size=(10, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = texts(projection(vectors, labels, "$title_"))
    for label in ["_hidden", "$x^2$ & <script>!</script>", "日本語", "a�b� c", "%s {0}", "$title_"]:
        assert label in shown
    assert "<script" not in svg(projection(vectors, labels), "", '"><script>')


@given(st.text(), st.integers(0, 12))
@settings(deadline=None)
def test_printable_is_one_line_of_xml(text, most):
    kept = printable(text, most)
    assert len(kept) == (min(most, len(text)) if most else len(text))
    element = ElementTree.fromstring(f"<t>{ElementTree.tostring(_element(kept), encoding='unicode')}</t>")
    assert element[0].text in (kept, kept or None)
    kept.encode()
    assert "\n" not in kept


def _element(text: str) -> ElementTree.Element:
    element = ElementTree.Element("s")
    element.text = text
    return element


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.25, "0.25"), (-1500, "−1,500"), (294816.0, "294,816"), (3e-4, "0.0003")]
)
def test_numbers_of_ticks(value, shown):
    assert number(value) == shown


def test_marks_are_all_different_and_go_by_order():
    names = [f"encoder {turn}" for turn in range(30)]
    found = marks([*names, "encoder 3"])
    assert list(found) == names
    assert len(set(found.values())) == 30
    assert [found[name].colour for name in names[:7]] == list(COLOURS)


def test_projection_keeps_clusters_together():
    vectors, labels = clusters(4, 12)
    points = project(vectors, seed=1)
    assert points.shape == (48, 2)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.diag(np.full(48, np.inf))
    nearest = distances.argmin(1)
    assert all(labels[clip] == labels[other] for clip, other in enumerate(nearest))
    np.testing.assert_array_equal(points, project(vectors, seed=1))


def test_few_vectors_are_projected_on_principal_components():
    vectors = RNG.normal(size=(12, 6)) * np.array([1, 10, 100, 1, 1, 1])
    standard = (vectors - vectors.mean(0)) / vectors.std(0)
    left, values, _ = np.linalg.svd(standard, full_matrices=False)
    np.testing.assert_allclose(np.abs(project(vectors)), np.abs(left * values)[:, :2], rtol=1e-6, atol=1e-9)


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


def test_constant_vectors_and_dimensions():
    assert not project(np.full((40, 5), 0.1, np.float32)).any()
    vectors, _ = clusters(2, 8)
    with_constant = np.hstack([vectors, np.full((16, 1), 0.1)])
    np.testing.assert_allclose(project(with_constant), project(vectors), atol=1e-9)


def test_projections_tell_what_they_leave_out(monkeypatch):
    monkeypatch.setattr("matpac.report.figures.MOST_VECTORS", 25)
    labels = [f"class {turn % 20}" for turn in range(400)]
    vectors = RNG.normal(size=(400, 3))
    shown = texts(projections({"one": vectors, "other": vectors[:, :2]}, labels, seed=0))
    assert "PCA, 25 of 400 vectors of 3" in shown
    assert "PCA, 25 of 400 vectors of 2" in shown
    kinds = len({labels[clip] for clip in np.random.default_rng(0).permutation(400)[:25]})
    others = kinds - 16
    assert f"{others} other label{'s' * (others > 1)}" in shown or others <= 0
    named = [text for text in shown if text.startswith("class ")]
    assert len(named) == min(16, kinds)
    assert named == sorted(named, key=lambda text: int(text.split()[1]))


@pytest.mark.parametrize(
    ("vectors", "labels", "said"),
    [
        (np.zeros((3, 2)), ["a"], "x: 3 vectors with 1 labels"),
        (np.full((2, 2), np.nan), ["a", "b"], "not finite"),
        (np.zeros((0, 2)), [], "empty"),
    ],
)
def test_projection_refuses(vectors, labels, said):
    with pytest.raises(ValueError, match=said):
        projections({"x": vectors}, labels)


def pictures(figure: Any) -> list[np.ndarray]:
    """The PNGs in a figure that have the shape of a picture (colour bars are PNGs too), first row on top."""
    found = []
    for element in drawn(figure).iter("image"):
        picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(element.attrib["href"].split(",")[1])))
        # matplotlib stores it first row down and turns it in place
        turned = "scale(1 -1)" in element.attrib["transform"]
        found.append((picture if turned else picture[::-1])[..., :3])
    return found


def test_mask_figure_shows_what_was_seen_low_bands_at_the_bottom():
    given_ = spectrogram()
    given_["masked"][:] = True
    given_["masked"][0] = False  # the lowest band is what was seen
    given_["error"] = np.where(given_["masked"], 1.0, np.nan)
    figure = mask_figure(**given_)
    seen = figure.axes[1].images[0]
    assert seen.origin == "lower"
    grey = (seen.get_array() == 204).all(-1)
    assert grey[16:].all()
    assert not grey[:16].all(1).any()
    left, right, bottom, top = seen.get_extent()
    assert (left, right) == pytest.approx((0.0075, 0.0075 + 0.96))
    assert (bottom, top) == (0, 80)
    titles = [axes.get_title(loc="left") for axes in figure.axes[:3]]
    assert "20 % of the patches" in titles[1]
    assert len({axes.get_xlim() for axes in figure.axes[:3]}) == 1


def test_mask_figure_colours_each_patch_by_its_error():
    given_ = spectrogram()
    figure: Any = mask_figure(**given_)
    picture = figure.axes[2].images[0].get_array()
    bar = figure.axes[-1]
    highest = bar.get_ylim()[1]
    assert np.nanmax(given_["error"]) <= highest <= 4
    for (band, step), masked in np.ndenumerate(given_["masked"]):
        patch = picture[16 * band : 16 * band + 16, 16 * step : 16 * step + 16].reshape(-1, 3)
        if masked:
            expected = matplotlib.colormaps["viridis"](given_["error"][band, step] / highest, bytes=True)[:3]
            assert (patch == np.array(expected)).all()
        else:
            assert (patch >= 190).all()


def test_pictures_are_stored_with_their_own_pixels():
    sizes = [picture.shape[:2] for picture in pictures(mask_figure(**spectrogram()))]
    assert sizes.count((80, 96)) == 3


def test_frequencies_are_named_where_the_bands_have_them():
    figure = mask_figure(**spectrogram())
    axes = figure.axes[0]
    named = {
        float(text.get_text()): tick for text, tick in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    }
    assert {8.0, 4.0, 2.0} <= named.keys()
    assert named[4.0] == pytest.approx(0.5 + 79 * (4000 - 50) / 7950)


@pytest.mark.parametrize(("change", "said"), [("masked", "divide"), ("error", "no prediction error")])
def test_mask_figure_refuses(change, said):
    given_ = spectrogram()
    if change == "masked":
        given_["masked"], given_["error"] = np.ones((5, 7), bool), np.ones((5, 7))
    else:
        given_["error"][0, 0] = np.nan
    with pytest.raises(ValueError, match=said):
        mask_figure(**given_)


def test_confusion_is_in_per_cent_of_the_true_class():
    matrix = np.array([[3, 1, 0], [0, 0, 0], [1, 1, 6]])
    figure: Any = confusion(matrix, ["cat", "dog", "owl"])
    shares = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    np.testing.assert_allclose(shares[[0, 2]], [[75, 25, 0], [12.5, 12.5, 75]])
    assert np.isnan(shares[1]).all()
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written == ["75", "25", "12", "12", "75"]


@pytest.mark.parametrize("classes", [2, 7, 50])
def test_the_colour_bar_has_no_negative_zero(classes):
    figure = confusion(np.eye(classes, dtype=np.int64), [f"c{number}" for number in range(classes)])
    svg(figure, "", "alt")
    bar: Any = figure.axes[1]
    assert bar.yaxis.get_major_formatter()(-0.0) == "0"
    shown = [text.get_text() for text in bar.get_yticklabels()]
    assert "0" in shown
    assert not any("-" in text or "−" in text for text in shown)


@pytest.mark.parametrize(("classes", "numbers"), [(15, True), (16, False)])
def test_confusion_of_many_classes_has_no_numbers(classes, numbers):
    figure = confusion(np.full((classes, classes), 2), [str(number) for number in range(classes)])
    assert bool(figure.axes[0].texts) is numbers


def test_confusion_names_sixty_classes_at_most():
    figure = confusion(np.eye(200, dtype=int), [f"c{number}" for number in range(200)])
    assert len(figure.axes[0].get_yticklabels()) == 50
    with pytest.raises(ValueError, match="2 class names"):
        confusion(np.eye(3, dtype=int), ["a", "b"])


def test_class_scores_are_sorted_and_told():
    figure = class_scores(["a", "b", "c"], np.array([0.2, np.nan, 0.7]), np.array([0.1, 0.1, 0.05]), "mAP")
    axes: Any = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "a"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([70, 20])
    assert axes.get_xlabel() == "mAP in %; left out for want of a score: 1"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_class_scores_of_many_classes_show_both_ends():
    values = np.linspace(0.1, 0.9, 200)
    axes = class_scores([f"c{number}" for number in range(200)], values).axes[0]
    assert len(axes.patches) == 60
    assert "the best and the worst 30 of 200" in axes.get_xlabel()
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert (shown[0], shown[29], shown[30], shown[-1]) == ("c199", "c170", "c29", "c0")


@pytest.mark.parametrize(
    ("names", "values", "ci"),
    [(["a"], np.ones(2), None), (["a"], np.ones(1), np.ones(2)), (["a"], np.array([np.nan]), None)],
)
def test_class_scores_refuse(names, values, ci):
    with pytest.raises(ValueError, match="class"):
        class_scores(names, values, ci)
