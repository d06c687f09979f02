"""Figures of scores, read back from what is drawn."""

import math
from typing import Any

import numpy as np
import pytest

from matpac.report.results import Result
from matpac.report.scores import class_scores, confusion, confusion_counts, layers_curve, score_intervals
from matpac.report.style import marks, svg


def result(encoder: str, mean: float, ci95: float = 0.01, task: str = "esc50", **more: Any) -> Result:
    return Result(task, encoder, more.pop("metric", "accuracy"), mean, ci95, (42, 43, 44), **more)


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_intervals_are_drawn_where_they_are():
    given = [result("a", 0.7, 0.05), result("_b", 0.6, math.nan), result("a", 0.5, 0.1, "us8k", published=True)]
    colours = marks(["other", "a", "_b"])
    figure = score_intervals(given, colours)
    axes: Any = figure.axes[0]
    dots = [container.lines[0] for container in axes.containers]
    np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], [70, 60, 50])
    assert [round(float(dot.get_ydata()[0])) for dot in dots] == [0, 0, 1]
    bars = [container.lines[2][0].get_segments()[0][:, 0] for container in axes.containers]
    np.testing.assert_allclose(bars, [[65, 75], [60, 60], [40, 60]])
    assert [dot.get_color() for dot in dots] == [colours[name].colour for name in ("a", "_b", "a")]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, False, True]
    assert legend(figure) == ["a", "_b", "a (published)"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


@pytest.mark.parametrize(("mean", "half"), [(0.02, 0.9), (0.97, 1.7), (0.5, 3.0), (0.0, 0.0), (1.0, math.nan)])
def test_intervals_and_their_axis_end_where_scores_do(mean, half):
    axes: Any = score_intervals([result("a", mean, half)]).axes[0]
    left, right = axes.get_xlim()
    bar = axes.containers[0].lines[2][0].get_segments()[0][:, 0]
    reach = 0 if math.isnan(half) else 100 * half
    np.testing.assert_allclose(bar, np.clip([100 * mean - reach, 100 * mean + reach], 0, 100), atol=1e-9)
    assert -1 <= left <= bar[0] <= bar[1] <= right <= 101


@pytest.mark.parametrize("results", [[], [result("a", 0.5), result("a", 0.6)]])
def test_no_or_double_results_are_refused(results):
    with pytest.raises(ValueError, match="result"):
        score_intervals(results)


def curve(name: str, means: list[float], half: float = 0.01, metric: str = "accuracy") -> list[Result]:
    return [result(name, mean, half, metric=metric) for mean in means]


def test_layers_are_one_line_per_encoder_and_count_from_one():
    encoders = {"_deep": curve("_deep", [0.2, 0.4, 0.6]), "flat": curve("flat", [0.3, 0.3])}
    figure = layers_curve(encoders, marks(encoders))
    axes: Any = figure.axes[0]
    deep, flat = axes.get_lines()
    np.testing.assert_allclose(deep.get_xydata(), [[1, 20], [2, 40], [3, 60]])
    np.testing.assert_allclose(flat.get_xydata(), [[1, 30], [2, 30]])
    assert deep.get_color() != flat.get_color()
    assert legend(figure) == ["_deep", "flat"]
    assert axes.get_ylabel() == "accuracy in %"


@pytest.mark.parametrize(("half", "band"), [(0.2, (30, 100)), (math.nan, (50, 90))])
def test_the_band_of_layers_is_the_interval_cut_at_the_ends_of_the_scale(half, band):
    axes: Any = layers_curve({"a": curve("a", [0.5, 0.9], half)}, marks("a")).axes[0]
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx(band)
    assert axes.get_ylim()[0] < band[0] < band[1] < axes.get_ylim()[1] < 105


@pytest.mark.parametrize("curves", [{}, {"a": []}, {"a": curve("a", [0.1]), "b": curve("b", [0.1], 0, "mAP")}])
def test_layers_without_scores_or_of_two_metrics_are_refused(curves):
    with pytest.raises(ValueError, match="one layer or more of each encoder and one metric"):
        layers_curve(curves, marks(curves))


def test_class_scores_are_sorted_and_missing_ones_counted():
    axes: Any = class_scores(["a", "b", "c"], np.array([0.2, np.nan, 0.7]), "mAP").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "a"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([70, 20])
    assert axes.get_xlabel() == "mAP in %; without a score: 1"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_class_scores_of_many_classes_show_both_ends():
    axes = class_scores([f"c{number}" for number in range(200)], np.linspace(0.1, 0.9, 200), "mAP").axes[0]
    assert len(axes.patches) == 60
    assert "30 of 200" in axes.get_xlabel()
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert (shown[0], shown[29], shown[30], shown[-1]) == ("c199", "c170", "c29", "c0")


@pytest.mark.parametrize("values", [np.ones(2), np.array([np.nan])])
def test_class_scores_need_one_name_each_and_a_score(values):
    with pytest.raises(ValueError, match="class"):
        class_scores(["a"], values, "mAP")


def test_confusion_counts_pairs_of_classes():
    counts = confusion_counts(np.array([0, 0, 2]), np.array([0, 1, 2]), 3)
    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 0, 0], [0, 0, 1]])


def test_confusion_is_in_per_cent_of_the_true_class():
    axes: Any = confusion(np.array([[3, 1, 0], [0, 0, 0], [1, 1, 6]]), ["cat", "dog", "owl"]).axes[0]
    shares = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shares, [[75, 25, 0], [np.nan] * 3, [12.5, 12.5, 75]])
    assert [text.get_text() for text in axes.texts] == ["75", "25", "12", "12", "75"]


@pytest.mark.parametrize(("classes", "numbers", "named"), [(15, 15, 15), (16, 0, 16), (200, 0, 50)])
def test_confusion_of_many_classes_has_no_numbers_and_fewer_names(classes, numbers, named):
    figure: Any = confusion(np.eye(classes, dtype=int), [f"c{number}" for number in range(classes)])
    svg(figure, "", "alt")
    assert len(figure.axes[0].texts) == numbers
    assert len(figure.axes[0].get_yticklabels()) == named
    on_bar = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert "0" in on_bar
    assert not any("-" in text or "−" in text for text in on_bar)  # no negative zero


def test_confusion_needs_all_names():
    with pytest.raises(ValueError, match="2 class names"):
        confusion(np.eye(3, dtype=int), ["a", "b"])
