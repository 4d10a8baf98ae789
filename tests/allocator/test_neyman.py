"""Neyman's allocation with bounds, and its rounding at random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.neyman import drawn, expected_rollouts

weights = st.lists(st.floats(0, 0.25), min_size=1, max_size=30)


@given(weights, st.floats(0, 1), st.floats(0, 1), st.floats(1, 3))
def test_the_budget_is_met_and_no_exchange_of_two_prompts_lowers_the_variance(
    weight: list[float], share: float, low: float, high: float
) -> None:
    w = np.array(weight)
    least, most = np.full(w.size, low), np.full(w.size, high)
    budget = w.size * (low + share * (high - low))
    found, price = expected_rollouts(w, budget, least, most)
    assert found.sum() == pytest.approx(budget, rel=1e-9)
    assert ((found >= least - 1e-9) & (found <= most + 1e-9)).all()
    assert price >= 0
    gain = w / np.maximum(found, 1e-9) ** 2  # of a little more
    give, take = found > least + 1e-6, found < most - 1e-6
    if give.any() and take.any():
        assert gain[give].min() >= gain[take].max() * (1 - 1e-6) - 1e-9


def test_without_bounds_it_goes_with_the_root_of_the_variance() -> None:
    w = np.array([0.25, 0.09, 0.01, 0.0])
    found, price = expected_rollouts(w, 18.0, np.zeros(4), np.full(4, 100.0))
    assert found == pytest.approx([10.0, 6.0, 2.0, 0.0], abs=1e-9)
    assert price == pytest.approx(0.25 / 100)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=40), st.integers(0, 2**32))
def test_a_draw_rounds_down_or_up_and_keeps_the_sum(parts: list[float], seed: int) -> None:
    expected = np.array(parts)
    expected = expected * np.ceil(expected.sum()) / max(expected.sum(), 1e-9)
    found = drawn(expected, np.random.default_rng(seed))
    assert found.sum() == round(expected.sum())
    assert (np.abs(found - expected) < 1 + 1e-9).all()


def test_a_draw_has_the_expectations() -> None:
    expected = np.array([0.1, 0.5, 0.9, 1.5])
    mean = np.mean([drawn(expected, np.random.default_rng(seed)) for seed in range(20_000)], axis=0)
    assert mean == pytest.approx(expected, abs=0.015)


def test_what_cannot_be_met_is_named() -> None:
    with pytest.raises(ValueError, match="the budget is 9; want 0 to 2, the sums of the bounds"):
        expected_rollouts(np.ones(2), 9, np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="weight 1 is not a finite number >= 0"):
        expected_rollouts(np.array([1.0, np.nan]), 1, np.zeros(2), np.ones(2))
