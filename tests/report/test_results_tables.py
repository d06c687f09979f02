"""Tables of results: what is bold, what is published, what is refused."""

import math
from typing import Any

import numpy as np
import pytest

from matpac.report.results import Cell, Result, Table, details_table, results_table


def result(encoder: str, mean: float, ci95: float = 0.01, task: str = "esc50", **more: Any) -> Result:
    return Result(task, encoder, more.pop("metric", "accuracy"), mean, ci95, (42, 43, 44), **more)


def shown(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.cells]


def bold(table: Table) -> list[str]:
    return [cell.text for row in table.cells for cell in row if cell.strong]


def test_tasks_by_encoders():
    scores = [
        result("a", 0.6204, 0.0051),
        result("b", 0.41, 0.02),
        result("b", 0.3, math.nan, "us8k"),
        result("a", 1, 0, "us8k"),
        result("a", 0.2, metric="mAP"),
    ]
    table = results_table(scores)
    assert shown(table) == [
        ["Task", "a", "b"],
        ["esc50", "62.0 ± 0.5", "41.0 ± 2.0"],
        ["us8k", "100.0 ± 0.0", "30.0"],
        ["esc50", "20.0 ± 1.0", "–"],
    ]
    assert [row[0].note for row in table.cells[1:]] == ["accuracy", "accuracy", "mAP"]
    assert "only one run" in table.caption


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([("a", 0.7, 0.01), ("b", 0.6, 0.01)], ["70.0 ± 1.0"]),
        ([("a", 0.7, 0.05), ("b", 0.6, 0.06)], []),
        ([("a", 0.7, 0.01), ("b", 0.6, 0.01), ("c", 0.5, 0.3)], []),  # the third one's interval reaches up
        ([("a", 0.7, math.nan), ("b", 0.2, 0.01)], []),
        ([("a", 0.7, 0.0), ("b", 0.7, 0.0)], []),
        ([("a", 0.7, 0.01)], []),
    ],
)
def test_bold_only_where_intervals_do_not_overlap(scores, best):
    table = results_table([result(*score) for score in scores])
    assert bold(table) == best
    assert "overlaps no other" in table.caption


def test_published_scores_stand_beside_measured_ones_and_are_marked():
    both = [result("a", 0.5), result("a", 0.6, published=True)]
    table = results_table(both)
    assert [cell.note for cell in table.cells[0]] == ["", "", "published"]
    assert "Published" in table.caption
    assert "Published" not in results_table(both[:1]).caption
    assert len(details_table(both).rows) == 1


def test_many_encoders_are_listed_below_each_other():
    many = [result(f"e{turn}", turn / 10, task=task) for task in ("esc50", "us8k") for turn in range(7)]
    table = results_table(many)
    assert [row[0] for row in shown(table)] == ["Encoder", *(f"e{turn}" for turn in range(7))]
    assert shown(table)[0] == ["Encoder", "esc50", "us8k"]
    assert bold(table) == ["60.0 ± 1.0"] * 2


def test_details_never_round_up_to_all_clips():
    table = details_table([result("a", 0.5, folds=5, learning_rates=(1e-4, 3e-3), used=1999, total=2000)])
    details = ["esc50", "a", "50.0 ± 1.0", "42, 43, 44", "5", "0.0001, 0.003", "1,999 of 2,000 (99.9 %)"]
    assert shown(table)[1] == details


def test_records_of_json():
    record = {"task": "esc50", "encoder": "a", "metric": "accuracy", "mean": 0.5, "ci95": None, "seconds": 3.2}
    record |= {"seeds": [42, 43], "folds": 5, "learning_rate": [1e-3, 1e-4, 1e-3], "used": 10, "total": 12}
    found = Result.from_record(record)
    assert found == Result("esc50", "a", "accuracy", 0.5, found.ci95, (42, 43), 5, (1e-4, 1e-3), 10, 12)
    assert math.isnan(found.ci95)
    assert Result.from_record({**record, "learning_rate": 0.1, "folds": [1, 2]}).learning_rates == (0.1,)
    with pytest.raises(ValueError, match="encoder, mean"):
        Result.from_record({"task": "esc50", "metric": "accuracy"})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: result("a", 62.0), "between 0 and 1"),
        (lambda: result("a", math.nan), "between 0 and 1"),
        (lambda: result("a", 0.5, -0.1), "interval"),
        (lambda: results_table([result("a", 0.5), result("a", 0.6)]), "two results of a on esc50"),
        (lambda: results_table([]), "one result"),
        (lambda: Table(["a", "b"], [["c"]]), "a row of 1"),
    ],
)
def test_impossible_results_and_tables_are_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


def test_numbers_of_a_table():
    table = Table(["class", "d′", "clips"], [["dog", 1.23456, 12345], ["cat", math.nan, np.int64(-3)]])
    assert shown(table)[1:] == [["dog", "1.235", "12,345"], ["cat", "–", "−3"]]
    assert table.cells[1][0] == Cell("dog")
