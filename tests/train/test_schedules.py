"""Schedules as functions of the step: ends, monotony, and the papers' numbers."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matpac.errors import MatpacError
from matpac.pretrain.recipes import PAPER_STEPS, RECIPES, OptimizerConfig, Plan, Recipe, ScheduleConfig
from matpac.train.schedules import linear, warmup_cosine

AUDIOSET = 2_012_615


@given(start=st.floats(-10, 10), end=st.floats(-10, 10), steps=st.integers(1, 10_000), step=st.integers(0, 20_000))
def test_linear_starts_ends_and_stays(start, end, steps, step):
    assert linear(0, start, end, steps) == pytest.approx(start)
    assert linear(0, start, end, 0) == end
    assert linear(steps, start, end, steps) == pytest.approx(end)
    assert linear(steps + step, start, end, steps) == pytest.approx(end)
    assert min(start, end) - 1e-9 <= linear(step, start, end, steps) <= max(start, end) + 1e-9


@given(warmup=st.integers(1, 500), rest=st.integers(1, 500))
def test_warmup_rises_and_cosine_falls(warmup, rest):
    values = [warmup_cosine(step, 2.0, warmup, warmup + rest) for step in range(warmup + rest + 1)]
    assert values[0] == 0.0
    assert values[warmup] == 2.0
    assert values[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(a < b for a, b in pairwise(values[: warmup + 1]))
    assert all(a > b for a, b in pairwise(values[warmup:]))
    half = warmup + rest / 2
    assert warmup_cosine(half, 2.0, warmup, warmup + rest) == pytest.approx(1.0)


def test_the_papers_steps_follow_from_epochs():
    plan = Plan(RECIPES["matpac++"](), AUDIOSET)
    assert plan.steps == PAPER_STEPS
    assert int(plan.steps_of(20)) == 19_654  # warm-up
    assert int(plan.steps_of(10)) == 9_827  # teacher temperature


def test_the_papers_values_at_their_steps():
    plan = Plan(RECIPES["matpac++"](), AUDIOSET)
    first, last = plan.at(0), plan.at(PAPER_STEPS)
    assert (first.learning_rate, first.encoder_decay, first.head_decay) == (0.0, 0.99995, 0.998)
    assert (first.temperatures.multiple_choice, first.temperatures.teacher) == (0.1, 0.04)
    assert last.learning_rate == pytest.approx(0.0, abs=1e-12)
    assert last.encoder_decay == pytest.approx(0.99999)
    assert last.head_decay == pytest.approx(1.0)
    assert plan.at(19_655).learning_rate == pytest.approx(3e-4)
    assert plan.at(9_828).temperatures.teacher == pytest.approx(0.07)
    for step in (1, 1_000, 100_000, 250_000):
        expected = 0.1 * 0.99997**step
        assert plan.at(step).temperatures.multiple_choice == pytest.approx(expected, rel=1e-9)
    crossing = math.log(1e-3) / math.log(0.99997)
    assert (
        plan.at(int(crossing)).temperatures.multiple_choice
        > 1e-4
        > (plan.at(int(crossing) + 1).temperatures.multiple_choice)
    )


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_document_their_command_source_and_cost(name):
    text = RECIPES[name].__doc__
    assert text is not None
    for word in (f"matpac pretrain --recipe {name.removesuffix('-music')} ", "Source:", "Cost:"):
        assert word in text, word
    assert RECIPES[name]() == RECIPES[name]()


def test_recipes_differ_where_the_papers_do():
    matpac, plus = RECIPES["matpac"]().objective, RECIPES["matpac++"]().objective
    assert (matpac.predictor.hypotheses, plus.predictor.hypotheses) == (1, 5)
    assert RECIPES["matpac-no-classification"]().objective.alpha == 1.0
    assert RECIPES["matpac++-music"]() == RECIPES["matpac++"]()


@pytest.mark.parametrize(
    ("config", "change"),
    [
        *[(OptimizerConfig, {name: -1.0}) for name in ("learning_rate", "warmup_epochs", "weight_decay", "eps")],
        (OptimizerConfig, {"learning_rate": math.nan}),
        (OptimizerConfig, {"beta1": 2.0}),
        (OptimizerConfig, {"beta2": 1.0}),
        (OptimizerConfig, {"clip": 0.0}),
        (ScheduleConfig, {"encoder_decay_end": 1.1}),
        (ScheduleConfig, {"head_decay_start": -0.1}),
        (ScheduleConfig, {"multiple_choice_start": 0.0}),
        (ScheduleConfig, {"teacher_temperature_end": 0.0}),
        (ScheduleConfig, {"teacher_temperature_epochs": -1}),
        (Recipe, {"epochs": math.inf}),
        (Recipe, {"batch_size": 0}),
    ],
)
def test_recipes_that_make_no_sense_are_refused(config: Any, change: dict[str, float]) -> None:
    with pytest.raises(MatpacError, match=f"{next(iter(change))} must be"):
        config(**change)


def test_what_makes_sense_at_its_edge_is_taken():
    OptimizerConfig(clip=math.inf, warmup_epochs=0, beta1=0.0)
    ScheduleConfig(encoder_decay_start=1.0, multiple_choice_end=0.0, teacher_temperature_epochs=0)
