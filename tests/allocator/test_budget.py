import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.budget import solve
from allocator.values import paper_marginal, paper_value


def knapsack(p: np.ndarray, budget: int, low: int, high: int) -> float:
    """The paper's dynamic program as an oracle, O(M B high): best total value."""
    best = np.full(budget + 1, -np.inf)
    best[0] = 0.0
    for success_rate in p:
        choices = np.arange(low, min(high, budget) + 1)
        values = paper_value(np.full(choices.size, success_rate), choices)
        following = np.full(budget + 1, -np.inf)
        for rollouts, value in zip(choices, values, strict=True):
            shifted = best[: budget + 1 - rollouts] + value
            following[rollouts:] = np.maximum(following[rollouts:], shifted)
        best = following
    return float(best[budget])


def total(p: np.ndarray, rollouts: np.ndarray) -> float:
    return float(paper_value(p, rollouts).sum())


rates = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@given(rates, st.integers(2, 4), st.integers(0, 6), st.floats(0, 1))
def test_solution_is_optimal_exact_and_within_bounds(p: list[float], low: int, extra: int, share: float) -> None:
    rate, high = np.array(p), low + extra
    budget = low * rate.size + int(share * extra * rate.size)
    lows, highs = np.full(rate.size, low), np.full(rate.size, high)
    rollouts, _ = solve(lambda n: paper_marginal(rate, n), budget, lows, highs)
    assert rollouts.sum() == budget
    assert ((low <= rollouts) & (rollouts <= high)).all()
    assert total(rate, rollouts) == pytest.approx(knapsack(rate, budget, low, high), abs=1e-12)


def test_bounds_of_each_prompt_hold_and_brute_force_agrees() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.beta(0.3, 0.3, 3)
        low, high = rng.integers(2, 4, 3), rng.integers(4, 8, 3)
        budget = int(rng.integers(low.sum(), high.sum() + 1))
        rollouts, _ = solve(lambda n, p=p: paper_marginal(p, n), budget, low, high)
        choices = itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))
        best = max(total(p, np.array(choice)) for choice in choices if sum(choice) == budget)
        assert total(p, rollouts) == pytest.approx(best, abs=1e-12)


def test_price_is_the_least_increment_bought() -> None:
    p = np.array([0.1, 0.5, 0.3])
    rollouts, price = solve(lambda n: paper_marginal(p, n), 20, np.full(3, 2), np.full(3, 128))
    assert price == pytest.approx(paper_marginal(p, rollouts - 1).min())
    assert paper_marginal(p, rollouts).max() <= price


def test_ties_go_to_the_earlier_prompt_and_worthless_budget_is_still_spent() -> None:
    half = np.full(4, 0.5)
    rollouts, _ = solve(lambda n: paper_marginal(half, n), 10, np.full(4, 2), np.full(4, 9))
    assert rollouts.tolist() == [3, 3, 2, 2]
    solved = np.ones(2)
    rollouts, price = solve(lambda n: paper_marginal(solved, n), 100_000, np.full(2, 2), np.full(2, 99_000))
    assert rollouts.sum() == 100_000
    assert price == 0.0


@given(rates, st.permutations(range(6)))
def test_value_does_not_depend_on_the_order_of_prompts(p: list[float], order: list[int]) -> None:
    rate = np.array(p)
    shuffled = rate[[i for i in order if i < rate.size]]
    low, high, budget = np.full(rate.size, 2), np.full(rate.size, 30), 5 * rate.size
    first, _ = solve(lambda n: paper_marginal(rate, n), budget, low, high)
    second, _ = solve(lambda n: paper_marginal(shuffled, n), budget, low, high)
    assert total(rate, first) == pytest.approx(total(shuffled, second), abs=1e-12)


@pytest.mark.parametrize(
    ("budget", "low", "high", "message"),
    [
        (7, [2, 2], [3, 3], "the budget is 7 rollouts; want 4 to 6"),
        (3, [2, 2], [3, 3], "the budget is 3 rollouts; want 4 to 6"),
        (4, [1, 2], [3, 3], "the lower bound is 1; want >= 2: a group of one rollout has no advantage"),
        (9, [5, 2], [3, 9], "the lower bound 5 exceeds the upper bound 3"),
        (0, [], [], "there are 0 prompts"),
    ],
)
def test_impossible_budgets_are_named(budget: int, low: list[int], high: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(lambda n: np.zeros(n.size), budget, np.array(low, dtype=np.int64), np.array(high, dtype=np.int64))
