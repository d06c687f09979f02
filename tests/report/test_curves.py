"""A run's curves: the panels that its log has keys for, smoothed without inventing anything."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from matpac.report.curves import PANELS, loss_curves, smooth, thin
from matpac.report.style import svg


def lines(count: int = 80) -> list[dict[str, float]]:
    """A log with all keys of the panels and three hypotheses."""
    rng = np.random.default_rng(1)
    keys = [key for panel in PANELS for key in panel.curves]
    return [
        {"step": 10.0 * turn, **{key: float(rng.uniform()) for key in keys}, "speed": 1.0}
        | {f"wins/{k}": float(share) for k, share in enumerate(rng.dirichlet(np.ones(3)))}
        for turn in range(count)
    ]


def panel(figure: Any, title: str) -> Any:
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def names(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_whole_log_has_all_panels_in_order():
    figure = loss_curves(lines())
    assert [axes.get_title(loc="left") for axes in figure.axes] == [panel.title for panel in PANELS]
    assert names(panel(figure, "Loss")) == ["total", "prediction", "classification"]
    assert names(panel(figure, "Tokens won by hypothesis")) == ["1", "2", "3"]


def test_curves_and_panels_without_keys_are_omitted():
    kept = ("step", "loss", "loss/prediction", "learning_rate", "wins/0", "temperature/teacher")
    figure = loss_curves([{key: line[key] for key in kept} for line in lines()])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Loss", "Learning rate", "Temperatures"]
    assert names(panel(figure, "Loss")) == ["total", "prediction"]


def test_measured_curves_are_drawn_as_they_are_under_a_smooth_one_in_order_of_steps():
    raw, smoothed = panel(loss_curves(lines()[::-1]), "Gradient norm").lines
    measured = [line["gradient/norm"] for line in lines()]
    np.testing.assert_allclose(raw.get_xydata(), [[10 * turn, value] for turn, value in enumerate(measured)])
    assert raw.get_alpha() < 0.5
    assert np.std(smoothed.get_ydata()) < 0.6 * np.std(measured)


def test_schedules_are_not_smoothed():
    [curve] = panel(loss_curves(lines()), "Learning rate").lines
    np.testing.assert_allclose(curve.get_ydata(), [line["learning_rate"] for line in lines()])


@pytest.mark.parametrize("count", [1, 2, 80])
def test_gaps_short_logs_and_keys_of_some_lines_are_drawn(count):
    broken = [line | {"loss": float("nan") if turn % 3 else 1.0} for turn, line in enumerate(lines(count))]
    del broken[0]["gradient/norm"]
    if count == 2:
        [curve] = panel(loss_curves(broken), "Gradient norm").lines
        assert curve.get_xdata().tolist() == [10.0]
    svg(loss_curves(broken), "", "alt")


def test_long_runs_stay_small():
    long = [{"step": turn, "loss": float(turn % 7), "wins/0": 0.5, "wins/1": 0.5} for turn in range(20_000)]
    assert len(svg(loss_curves(long), "", "alt")) < 100_000


@pytest.mark.parametrize("metrics", [[], [{"step": 1, "x": 2}], [{"loss": 1}]])
def test_logs_without_curves_or_steps_are_refused(metrics):
    with pytest.raises(ValueError, match="log line"):
        loss_curves(metrics)


@given(arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(-100, 100)), st.floats(0.5, 9))
@settings(deadline=None)
def test_smoothing_stays_between_the_extremes_and_keeps_constants(values, width):
    smoothed = smooth(values, width)
    assert smoothed.shape == values.shape
    assert values.min() - 1e-9 <= smoothed.min() <= smoothed.max() <= values.max() + 1e-9
    np.testing.assert_allclose(smooth(np.full(values.size, 3.0), width), 3.0)


def test_smoothing_equals_a_slow_loop_and_steps_over_nan():
    values = np.random.default_rng(3).normal(size=40)
    values[[4, 5, 30]] = np.nan
    smoothed = smooth(values, 2.0)
    for place in range(40):
        if np.isnan(values[place]):
            assert np.isnan(smoothed[place])
            continue
        near = [k for k in range(40) if abs(k - place) <= 6 and not np.isnan(values[k])]
        weights = [np.exp(-0.5 * ((k - place) / 2.0) ** 2) for k in near]
        assert smoothed[place] == pytest.approx(np.dot(weights, values[near]) / sum(weights))


@given(st.integers(1, 300), st.integers(1, 50))
@settings(deadline=None)
def test_thinning_averages_neighbours(count, most):
    steps = np.arange(count, dtype=float)
    kept, values = thin(steps, 2 * steps, most)
    assert len(kept) <= most
    np.testing.assert_allclose(values, 2 * kept)
    group = -(-count // most)
    np.testing.assert_allclose(kept, [steps[at : at + group].mean() for at in range(0, count, group)])
