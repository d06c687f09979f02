"""A run's curves: the panels that its log has keys for, smoothed without inventing anything."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from matpac.report import loss_curves
from matpac.report.curves import smooth, thin
from matpac.report.style import svg

FINITE = st.floats(-100, 100)


def lines(count: int = 80, hypotheses: int = 3) -> list[dict[str, float]]:
    rng = np.random.default_rng(1)
    found = []
    for turn in range(count):
        line = {
            "loss": 4 - turn / count,
            "loss/prediction": 1.5 + 0.1 * rng.normal(),
            "loss/classification": 6.5,
            "gradient/norm": 1.0,
            "targets/deviation": 0.9,
            "predictions/deviation": 0.5,
            "classes/perplexity": 1000.0,
            "classes/agreement": 0.4,
            "learning_rate": 1e-3 * turn / count,
            "temperature/multiple_choice": 0.1,
            "temperature/teacher": 0.04,
            "decay/encoder": 0.995,
            "decay/head": 0.98,
            "speed/clips_per_second": 100.0,
        }
        shares = rng.dirichlet(np.ones(hypotheses))
        found.append({"step": 10 * turn, **line} | {f"wins/{k}": float(share) for k, share in enumerate(shares)})
    return found


def titles(figure: Any) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def names(figure: Any, title: str) -> list[str]:
    axes = figure.axes[titles(figure).index(title)]
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_all_panels_of_a_whole_log():
    figure = loss_curves(lines())
    assert titles(figure) == [
        "Loss",
        "Deviation of vectors (0 = collapse)",
        "Gradient norm",
        "Perplexity of pseudo-classes",
        "Student and teacher agree",
        "Tokens won by hypothesis",
        "Learning rate",
        "Temperatures",
        "Teacher's decay",
    ]
    assert names(figure, "Loss") == ["total", "prediction", "classification"]
    assert names(figure, "Tokens won by hypothesis") == ["1", "2", "3"]
    svg(figure, "", "alt")


def test_absent_keys_leave_their_panel_or_curve_out():
    kept = ("step", "loss", "loss/prediction", "learning_rate", "wins/0", "temperature/teacher")
    figure = loss_curves([{key: line[key] for key in kept} for line in lines()])
    assert titles(figure) == ["Loss", "Learning rate", "Temperatures"]
    assert names(figure, "Loss") == ["total", "prediction"]
    assert names(figure, "Temperatures") == ["teacher"]


def test_key_that_only_some_lines_have_is_drawn_at_their_steps():
    figure = loss_curves(
        [{"step": 0, "loss": 3}, {"step": 10, "loss": 2, "gradient/norm": 1}, {"step": 20, "loss": 1}]
    )
    axes: Any = figure.axes[titles(figure).index("Gradient norm")]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[10.0]]


def test_raw_curve_lies_under_the_smoothed_one_and_both_are_in_order_of_steps():
    shuffled = lines()[::-1]
    figure = loss_curves([{"step": line["step"], "loss": line["loss/prediction"]} for line in shuffled])
    axes: Any = figure.axes[0]
    raw, smoothed = axes.lines
    expected = [line["loss/prediction"] for line in lines()]
    np.testing.assert_allclose(raw.get_ydata(), expected)
    assert raw.get_xdata().tolist() == [10.0 * turn for turn in range(80)]
    assert raw.get_alpha() < 0.5
    assert np.std(smoothed.get_ydata()) < 0.6 * np.std(expected)


def test_schedules_are_not_smoothed():
    figure = loss_curves(lines())
    axes: Any = figure.axes[titles(figure).index("Learning rate")]
    assert len(axes.lines) == 1
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [line["learning_rate"] for line in lines()])


def test_long_runs_stay_small():
    long = [{"step": turn, "loss": float(turn % 7), "wins/0": 0.5, "wins/1": 0.5} for turn in range(20_000)]
    assert len(svg(loss_curves(long), "", "alt")) < 100_000


@pytest.mark.parametrize("count", [1, 2, 30, 80])
def test_gaps_and_short_logs_are_drawn(count):
    broken = [line | {"loss": float("nan") if turn % 3 else 1.0} for turn, line in enumerate(lines(count))]
    svg(loss_curves(broken), "", "alt")


@pytest.mark.parametrize(
    ("metrics", "said"), [([], "nothing to draw"), ([{"step": 1, "x": 2}], "nothing"), ([{"loss": 1}], "no step")]
)
def test_curves_refuse(metrics, said):
    with pytest.raises(ValueError, match=said):
        loss_curves(metrics)


@given(arrays.arrays(np.float64, st.integers(1, 60), elements=FINITE), st.floats(0.5, 9))
@settings(deadline=None)
def test_smoothing_stays_between_the_extremes_and_keeps_constants(values, width):
    smoothed = smooth(values, width)
    assert smoothed.shape == values.shape
    assert (smoothed >= values.min() - 1e-9).all()
    assert (smoothed <= values.max() + 1e-9).all()
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
    assert len(kept) == len(values)
    np.testing.assert_allclose(values, 2 * kept)
    group = -(-count // most)
    np.testing.assert_allclose(kept, [steps[at : at + group].mean() for at in range(0, count, group)])
