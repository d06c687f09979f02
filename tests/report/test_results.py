"""Tables and intervals of results: what is bold, what is published, what is refused."""

import json
import math
from typing import Any

import numpy as np
import pytest

from matpac.report import Cell, Result, Table, details_table, marks, results_table, score_intervals
from matpac.report.style import svg


def result(encoder: str, mean: float, ci95: float = 0.01, task: str = "esc50", **more) -> Result:
    return Result(task, encoder, more.pop("metric", "accuracy"), mean, ci95, (42, 43, 44), **more)


def shown(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in [table.header_cells, *table.cells]]


def strong(table: Table) -> list[str]:
    return [cell.text for row in table.cells for cell in row if cell.strong]


def test_tasks_by_encoders():
    table = results_table(
        [
            result("a", 0.6204, 0.0051),
            result("b", 0.41, 0.02),
            result("b", 0.3, math.nan, "us8k"),
            result("a", 1, 0, "us8k"),
        ]
    )
    assert shown(table) == [
        ["Task", "a", "b"],
        ["esc50", "62.0 ± 0.5", "41.0 ± 2.0"],
        ["us8k", "100.0 ± 0.0", "30.0"],
    ]
    assert table.cells[0][0].note == "accuracy"
    assert "one run only" in table.caption


@pytest.mark.parametrize(
    ("scores", "bold"),
    [
        ([("a", 0.7, 0.01), ("b", 0.6, 0.01)], ["70.0 ± 1.0"]),
        ([("a", 0.7, 0.05), ("b", 0.6, 0.06)], []),
        ([("a", 0.7, 0.01), ("b", 0.6, 0.01), ("c", 0.5, 0.3)], []),  # the third one's interval reaches up
        ([("a", 0.7, math.nan), ("b", 0.2, 0.01)], []),
        ([("a", 0.7, 0.0), ("b", 0.7, 0.0)], []),
        ([("a", 0.7, 0.01)], []),
    ],
)
def test_bold_only_where_intervals_do_not_overlap(scores, bold):
    table = results_table([result(*score) for score in scores])
    assert strong(table) == bold
    assert "overlaps no other" in table.caption


def test_missing_results_and_two_metrics_of_a_task():
    table = results_table([result("a", 0.5), result("b", 0.4, metric="mAP"), result("a", 0.2, metric="mAP")])
    assert shown(table)[1:] == [["esc50", "50.0 ± 1.0", "–"], ["esc50", "20.0 ± 1.0", "40.0 ± 1.0"]]


def test_published_stand_beside_measured_ones_and_are_told():
    both = [result("a", 0.5), result("a", 0.6, published=True)]
    table = results_table(both)
    assert [(cell.text, cell.note) for cell in table.header_cells] == [("Task", ""), ("a", ""), ("a", "published")]
    assert "not measured here" in table.caption
    assert "Published" not in results_table(both[:1]).caption
    assert shown(details_table(both))[1][:3] == ["esc50", "a", "50.0 ± 1.0"]
    assert len(details_table(both).rows) == 1


def test_many_encoders_stand_below_each_other():
    many = [result(f"e{turn}", turn / 10, task=task) for task in ("esc50", "us8k") for turn in range(7)]
    table = results_table(many)
    assert shown(table)[0] == ["Encoder", "esc50", "us8k"]
    assert [row[0] for row in shown(table)[1:]] == [f"e{turn}" for turn in range(7)]
    assert strong(table) == ["60.0 ± 1.0"] * 2


def test_details_never_round_up_to_all_clips():
    table = details_table([result("a", 0.5, folds=5, learning_rates=(1e-4, 3e-3), used=1999, total=2000)])
    assert shown(table)[1] == [
        "esc50",
        "a",
        "50.0 ± 1.0",
        "42, 43, 44",
        "5",
        "0.0001, 0.003",
        "1,999 of 2,000 (99.9 %)",
    ]


def test_records_of_json():
    record = {
        "task": "esc50",
        "encoder": "a",
        "metric": "accuracy",
        "mean": 0.5,
        "ci95": None,
        "seeds": [42, 43],
        "folds": 5,
        "learning_rate": [1e-3, 1e-4, 1e-3],
        "used": 10,
        "total": 12,
        "seconds": 3.2,
    }
    found = Result.from_record(json.loads(json.dumps(record)))
    assert (found.seeds, found.folds, found.learning_rates, found.used, found.total) == (
        (42, 43),
        5,
        (1e-4, 1e-3),
        10,
        12,
    )
    assert math.isnan(found.ci95)
    assert Result.from_record({**record, "learning_rate": 0.1, "folds": [1, 2]}).learning_rates == (0.1,)
    with pytest.raises(ValueError, match="lacks encoder, mean"):
        Result.from_record({"task": "esc50", "metric": "accuracy"})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: result("a", 62.0), "not between 0 and 1"),
        (lambda: result("a", math.nan), "not between"),
        (lambda: result("a", 0.5, -0.1), "half an interval"),
        (lambda: results_table([result("a", 0.5), result("a", 0.6)]), "two results of a on esc50"),
        (lambda: results_table([]), "one result"),
        (lambda: score_intervals([]), "one result"),
        (lambda: Table(["a", "b"], [["c"]]), "a row of 1"),
    ],
)
def test_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_numbers_in_one_own_table():
    table = Table(["class", "d′", "clips"], [["dog", 1.23456, 12345], ["cat", math.nan, np.int64(-3)]])
    assert shown(table)[1:] == [["dog", "1.235", "12,345"], ["cat", "–", "−3"]]
    assert table.cells[0][0] == Cell("dog")


def test_intervals_are_drawn_where_they_are():
    given = [result("a", 0.7, 0.05), result("b", 0.6, math.nan), result("a", 0.5, 0.1, "us8k", published=True)]
    colours = marks(["other", "a", "b"])
    figure = score_intervals(given, colours)
    axes: Any = figure.axes[0]
    dots = [container.lines[0] for container in axes.containers]
    assert [dot.get_xdata().tolist() for dot in dots] == [
        pytest.approx([70.0]),
        pytest.approx([60.0]),
        pytest.approx([50.0]),
    ]
    assert [round(float(dot.get_ydata()[0])) for dot in dots] == [0, 0, 1]
    bars = [container.lines[2][0].get_segments()[0][:, 0] for container in axes.containers]
    np.testing.assert_allclose(bars, [[65, 75], [60, 60], [40, 60]])
    assert [dot.get_color() for dot in dots] == [colours["a"].colour, colours["b"].colour, colours["a"].colour]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, False, True]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "a (published)"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert "_secret" in svg(score_intervals([result("_secret", 0.5)]), "", "alt")


@pytest.mark.parametrize(("mean", "half"), [(0.02, 0.9), (0.97, 1.7), (0.5, 3.0), (0.0, 0.0), (1.0, math.nan)])
def test_the_axis_of_scores_ends_where_scores_do(mean, half):
    axes: Any = score_intervals([result("a", mean, half)]).axes[0]
    left, right = axes.get_xlim()
    assert -1 <= left < right <= 101
    bar = axes.containers[0].lines[2][0].get_segments()[0][:, 0]
    reach = 0 if math.isnan(half) else 100 * half
    np.testing.assert_allclose(bar, np.clip([100 * mean - reach, 100 * mean + reach], 0, 100), atol=1e-9)
    assert left <= bar[0] <= bar[1] <= right
