"""A budget of time becomes images and steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.recipes.budget import Costs, Plan, plan_training

SECONDS = st.floats(1.0, 1e5)
COST = st.floats(1e-3, 10.0)


def test_all_images_are_used_where_there_is_time() -> None:
    assert plan_training(600.0, 240, 8, Costs(image=0.05, step=1.5, end=18.0)) == Plan(240, 380)


def test_some_are_left_out_of_more_than_can_be_shown() -> None:
    assert plan_training(600.0, 100_000, 8, Costs(image=0.125, step=1.0, end=0.0)) == Plan(2400, 300)


def test_there_is_always_something_to_do() -> None:
    assert plan_training(1.0, 50, 8, Costs(image=0.1, step=1.5, end=30.0)) == Plan(1, 1)


@given(SECONDS, st.integers(1, 10**6), st.integers(1, 64), COST, COST, st.floats(0.0, 100.0))
def test_a_plan_ends_in_time_and_wastes_less_than_a_step(
    seconds: float, available: int, in_step: int, image: float, step: float, end: float
) -> None:
    plan = plan_training(seconds, available, in_step, Costs(image, step, end))
    assert 1 <= plan.images <= available
    assert plan.steps >= 1
    spent = plan.images * image + plan.steps * step + end
    if plan.steps > 1:
        assert spent <= seconds * (1 + 1e-9)
        assert spent + step > seconds * (1 - 1e-9)
        assert plan.steps * in_step >= plan.images - in_step  # each image is shown, but for the last step's


@given(SECONDS, SECONDS, st.integers(1, 10**4), COST, COST)
def test_more_time_is_never_less_work(a: float, b: float, available: int, image: float, step: float) -> None:
    less, more = (plan_training(seconds, available, 8, Costs(image, step, 0.0)) for seconds in sorted((a, b)))
    assert more.images >= less.images
    assert more.images > less.images or more.steps >= less.steps


def test_an_hour_of_one_step() -> None:
    assert plan_training(3600.0, 10, 1, Costs(0.0, 7200.0, 0.0)).steps == pytest.approx(1)
