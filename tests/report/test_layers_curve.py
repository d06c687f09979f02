"""The curve over layers: what is drawn, read back from the figure."""

import math
from typing import Any

import numpy as np
import pytest

from matpac.report import Result, layers_curve


def results(encoder: str, means: list[float], half: float = 0.01, metric: str = "accuracy") -> list[Result]:
    return [Result("task", encoder, metric, mean, half) for mean in means]


def test_one_line_an_encoder_and_layers_from_one() -> None:
    figure = layers_curve({"_deep": results("_deep", [0.2, 0.4, 0.6]), "flat": results("flat", [0.3, 0.3])})
    axes: Any = figure.axes[0]
    deep, flat = axes.get_lines()
    np.testing.assert_allclose(deep.get_xydata(), [[1, 20], [2, 40], [3, 60]])
    np.testing.assert_allclose(flat.get_xydata(), [[1, 30], [2, 30]])
    assert deep.get_color() != flat.get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["_deep", "flat"]
    assert axes.get_ylabel() == "accuracy in %"


def test_the_band_is_the_interval_cut_at_the_ends_of_the_scale() -> None:
    figure = layers_curve({"wide": results("wide", [0.5, 0.9], 0.2)})
    axes: Any = figure.axes[0]
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((30, 100))
    low, high = axes.get_ylim()
    assert 25 < low < 30 < 100 < high < 105


def test_one_seed_has_a_line_without_a_band() -> None:
    figure = layers_curve({"once": results("once", [0.5, 0.6], math.nan)})
    axes: Any = figure.axes[0]
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert set(np.round(heights, 6)) == {50.0, 60.0}


@pytest.mark.parametrize("curves", [{}, {"a": []}, {"a": results("a", [0.1]), "b": results("b", [0.1], 0, "mAP")}])
def test_nothing_to_draw(curves: dict[str, list[Result]]) -> None:
    with pytest.raises(ValueError, match="one layer or more of each encoder and one metric"):
        layers_curve(curves)
