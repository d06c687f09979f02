"""The papers' table, checked against the averages that the papers print beside it."""

import pytest

from matpac.probe.published_scores import SCORES, TASKS, published_results

AVERAGES = {
    "MATPAC++": 75.7,
    "MATPAC": 75.2,
    "MATPAC (its paper)": 74.9,
    "MATPAC, τ 20 epochs": 74.7,
    "MATPAC without classification": 74.0,
    "M2D": 74.3,
    "ASiT": 72.9,
    "ATST-Clip": 71.9,
    "Dasheng 0.6B": 71.9,
    "BEATs iter3": 71.6,
    "ATST-Frame": 70.1,
    "Dasheng Base": 70.1,
    "MAE-AST": 66.6,
    "Data2vec": 64.3,
    "HuBERT": 62.3,
    "PaSST (supervised)": 76.7,
    "BEATs iter3+ (supervised)": 76.1,
    "HTS-AT (supervised)": 74.8,
}
"""As printed (arXiv 2508.12709, arXiv 2502.12031), from unrounded scores."""


@pytest.mark.parametrize("encoder", SCORES)
def test_a_row_has_the_average_that_its_paper_prints(encoder: str) -> None:
    found = [result for task in TASKS for result in published_results(task) if result.encoder == encoder]
    assert len(found) == 7
    assert 100 * sum(result.mean for result in found) / 7 == pytest.approx(AVERAGES[encoder], abs=0.1)


def test_best_first_and_marked_as_published() -> None:
    results = published_results("esc50")
    assert [result.mean for result in results] == sorted((result.mean for result in results), reverse=True)
    assert all(result.published for result in results)
    first = next(result for result in results if result.encoder == "MATPAC++")
    assert (first.metric, first.mean, first.ci95) == ("accuracy", pytest.approx(0.931), pytest.approx(0.001))
    assert {task: published_results(task)[0].metric for task in TASKS} == {
        "openmic": "mAP",
        "nsynth": "accuracy",
        "gtzan": "accuracy",
        "mtt": "mAP",
        "fsd50k": "mAP",
        "esc50": "accuracy",
        "us8k": "accuracy",
    }


def test_no_published_score_for_ones_own_sounds() -> None:
    assert published_results("my_sounds") == []
