"""Neyman's allocation with bounds, and its rounding at random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.neyman import drawn, expected_rollouts, within_cost

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


costs = st.floats(1, 1000)


@given(st.lists(st.tuples(st.floats(1e-4, 0.25), costs), min_size=2, max_size=20), st.floats(0.1, 0.9), st.floats(0, 1))
def test_a_bound_on_the_cost_is_met_at_the_least_variance(
    prompts: list[tuple[float, float]], share: float, dearness: float
) -> None:
    w, c = np.array(prompts).T
    low, high = np.full(w.size, 0.2), np.full(w.size, 2.0)
    budget = w.size * (0.2 + share * 1.8)
    free, _ = expected_rollouts(w, budget, low, high)
    cheapest, _ = within_cost(w, budget, low, high, c, 0.0)
    most = dearness * (c @ free) + (1 - dearness) * (c @ cheapest)
    found, price = within_cost(w, budget, low, high, c, most)
    assert found.sum() == pytest.approx(budget, rel=1e-9)
    assert ((found >= low - 1e-9) & (found <= high + 1e-9)).all()
    assert c @ found == pytest.approx(most, rel=1e-9)
    assert price > 0
    # Of a convex sum the least is where no way to another possible point goes down.
    slope = -w / found**2
    for other in (cheapest, within_cost(w[::-1], budget, low, high, c, most)[0]):
        if c @ other <= most * (1 + 1e-9):
            assert slope @ (other - found) >= -1e-6 * np.abs(slope).max()


def test_the_prices_of_rollouts_and_of_tokens_are_one_each() -> None:
    # Inside the bounds w_i / N_i^2 = price + token price c_i: on one line over the costs.
    w, c = np.array([0.25, 0.2, 0.05, 0.1, 0.16]), np.array([10.0, 300.0, 40.0, 80.0, 150.0])
    low, high = np.full(5, 0.01), np.full(5, 9.0)
    found, _ = within_cost(w, 8.0, low, high, c, 600.0)
    assert (found.sum(), c @ found) == (pytest.approx(8.0), pytest.approx(600.0))
    inside = (found > low + 1e-6) & (found < high - 1e-6)
    token_price, price = np.polyfit(c[inside], (w / found**2)[inside], 1)
    assert (w / found**2)[inside] == pytest.approx(price + token_price * c[inside], rel=1e-6)
    assert token_price > 0


def test_a_cost_that_is_no_bound_changes_nothing_and_one_out_of_reach_gives_the_cheapest() -> None:
    w, c = np.array([0.25, 0.25, 0.0]), np.array([1.0, 5.0, 2.0])
    low, high = np.full(3, 0.5), np.full(3, 2.0)
    found, price = within_cost(w, 4.0, low, high, c, 100.0)
    assert (found.tolist(), price) == (expected_rollouts(w, 4.0, low, high)[0].tolist(), pytest.approx(0.25 / 1.75**2))
    assert within_cost(w, 4.0, low, high, c, 1.0)[0] == pytest.approx([2.0, 0.5, 1.5])
    assert within_cost(w, 4.0, low, high, np.full(3, 7.0), 1.0)[0].sum() == pytest.approx(4.0)
