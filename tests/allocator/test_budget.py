import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.budget import level, solve, spread
from allocator.values import Expected, PlugIn, paper_value


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


def fill(num: int, size: int) -> np.ndarray:
    return np.full(size, num, dtype=np.int64)


rates = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@given(rates, st.integers(2, 4), st.integers(0, 6), st.floats(0, 1))
def test_solution_is_optimal_exact_and_within_bounds(p: list[float], low: int, extra: int, share: float) -> None:
    rate, high = np.array(p), low + extra
    budget = low * rate.size + int(share * extra * rate.size)
    rollouts = solve(PlugIn(rate).marginal, budget, fill(low, rate.size), fill(high, rate.size)).num_rollouts
    assert rollouts.sum() == budget
    assert ((low <= rollouts) & (rollouts <= high)).all()
    assert total(rate, rollouts) == pytest.approx(knapsack(rate, budget, low, high), abs=1e-12)


def test_bounds_of_each_prompt_hold_and_brute_force_agrees() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.beta(0.3, 0.3, 3)
        low, high = rng.integers(2, 4, 3), rng.integers(4, 8, 3)
        budget = int(rng.integers(low.sum(), high.sum() + 1))
        rollouts = solve(PlugIn(p).marginal, budget, low, high).num_rollouts
        choices = itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))
        best = max(total(p, np.array(choice)) for choice in choices if sum(choice) == budget)
        assert total(p, rollouts) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("size", [3000, 40_000])
def test_large_problems_take_exactly_the_largest_increments(size: int) -> None:
    # Large enough for the sampled brackets: small problems are sorted outright.
    rng = np.random.default_rng(size)
    p, budget = rng.beta(0.3, 0.3, size), 9 * size
    value = PlugIn(p)
    solution = solve(value.marginal, budget, fill(2, size), fill(64, size))
    table = np.array([value.marginal(np.arange(size), fill(n, size)) for n in range(2, 64)])
    assert solution.num_rollouts.sum() == budget
    assert solution.price == np.partition(table.ravel(), -(budget - 2 * size))[-(budget - 2 * size)]
    assert ((table > solution.price).sum(axis=0) <= solution.num_rollouts - 2).all()
    assert ((table >= solution.price).sum(axis=0) >= solution.num_rollouts - 2).all()


@given(rates, st.integers(0, 40))
def test_more_budget_never_takes_a_rollout_away(p: list[float], extra: int) -> None:
    rate = np.array(p)
    low, high, marginal = fill(2, rate.size), fill(60, rate.size), PlugIn(rate).marginal
    less = solve(marginal, 3 * rate.size, low, high)
    more = solve(marginal, 3 * rate.size + extra, low, high)
    assert (more.num_rollouts >= less.num_rollouts).all()
    assert more.price <= less.price


@given(rates, st.permutations(range(6)))
def test_value_does_not_depend_on_the_order_of_prompts(p: list[float], order: list[int]) -> None:
    rate = np.array(p)
    shuffled = rate[[i for i in order if i < rate.size]]
    low, high, budget = fill(2, rate.size), fill(30, rate.size), 5 * rate.size
    first = solve(PlugIn(rate).marginal, budget, low, high).num_rollouts
    second = solve(PlugIn(shuffled).marginal, budget, low, high).num_rollouts
    assert total(rate, first) == pytest.approx(total(shuffled, second), abs=1e-12)


def test_price_is_the_least_increment_bought() -> None:
    value = PlugIn(np.array([0.1, 0.5, 0.3]))
    solution = solve(value.marginal, 20, fill(2, 3), fill(128, 3))
    bought = value.marginal(np.arange(3), solution.num_rollouts - 1)
    assert solution.price == bought.min()
    assert value.marginal(np.arange(3), solution.num_rollouts).max() <= solution.price


def test_the_bounds_themselves_are_budgets() -> None:
    marginal = PlugIn(np.array([0.1, 0.5])).marginal
    low, high = np.array([2, 5]), np.array([9, 7])
    least = solve(marginal, 7, low, high)
    assert (least.num_rollouts.tolist(), least.price) == ([2, 5], np.inf)
    assert solve(marginal, 16, low, high).num_rollouts.tolist() == [9, 7]


def test_ties_go_to_fewer_rollouts_then_to_the_earlier_prompt() -> None:
    half = PlugIn(np.full(4, 0.5)).marginal
    assert solve(half, 10, fill(2, 4), fill(9, 4)).num_rollouts.tolist() == [3, 3, 2, 2]
    worthless = PlugIn(np.array([1.0, 0.0, 1.0])).marginal
    solution = solve(worthless, 14, np.array([2, 2, 5]), fill(9, 3))
    assert (solution.num_rollouts.tolist(), solution.price) == ([5, 4, 5], 0.0)


def test_many_ties_are_spent_evenly_whatever_the_bounds() -> None:
    size = 2000
    rollouts = solve(PlugIn(np.ones(size)).marginal, 1_000_000_000, fill(2, size), fill(900_000, size)).num_rollouts
    assert rollouts.tolist() == [500_000] * size
    same = solve(PlugIn(np.full(size, 0.3)).marginal, 10 * size + 7, fill(2, size), fill(999, size)).num_rollouts
    assert same.tolist() == [11] * 7 + [10] * (size - 7)


# -- costs ------------------------------------------------------------------------------------------------------------


def knapsack_with_costs(value: Expected, cost: np.ndarray, budget: int, low: int, high: int) -> float:
    """Multiple-choice dynamic program over whole units of cost: the best total value for at most `budget`."""
    best = np.zeros(budget + 1)
    for i, unit in enumerate(cost):
        following = np.full(budget + 1, -np.inf)
        for n in range(low, high + 1):
            gain, spent = value.value(np.array([i]), np.array([n]))[0], n * int(unit)
            if spent <= budget:
                following[spent:] = np.maximum(following[spent:], best[: budget + 1 - spent] + gain)
        best = following
    return float(best[budget])


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0, 1))
def test_with_costs_the_certified_gap_holds_against_the_optimum(seed: int, size: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.3, 9, (2, size))
    cost = rng.integers(1, 6, size).astype(float)
    low, high = 2, 9
    budget = int(cost.sum() * (low + share * (high - low)))
    value = Expected(a, b)
    solution = solve(value.marginal, budget, fill(low, size), fill(high, size), cost)
    reached = value.value(np.arange(size), solution.num_rollouts).sum()
    optimum = knapsack_with_costs(value, cost, budget, low, high)
    assert solution.spent == cost @ solution.num_rollouts <= budget
    assert ((low <= solution.num_rollouts) & (solution.num_rollouts <= high)).all()
    assert reached - 1e-12 <= optimum <= reached + solution.gap + 1e-12


def test_equal_costs_are_as_no_costs_and_what_does_not_fit_is_filled() -> None:
    rng = np.random.default_rng(3)
    value = Expected(*rng.uniform(0.3, 9, (2, 300)))
    plain = solve(value.marginal, 2401, fill(2, 300), fill(128, 300))
    costly = solve(value.marginal, 7 * 2401 + 6, fill(2, 300), fill(128, 300), np.full(300, 7.0))
    assert costly.num_rollouts.tolist() == plain.num_rollouts.tolist()
    # Densities: the first prompt's next rollout is the best but costs 5 of the 2 that are left; the second's fits.
    filled = solve(PlugIn(np.array([0.3, 0.3])).marginal, 14, fill(2, 2), fill(9, 2), np.array([5.0, 1.0]))
    assert filled.num_rollouts.tolist() == [2, 4]


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_fractional_costs_never_exceed_the_budget_by_a_rounding_error(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.integers(1, 9, size) / 10
    value = Expected(*rng.uniform(0.3, 9, (2, size)))
    budget = float(cost @ rng.integers(2, 12, size))
    solution = solve(value.marginal, budget, fill(2, size), fill(12, size), cost)
    assert solution.spent <= budget


def test_gap_shrinks_with_the_number_of_prompts_and_nothing_worthless_is_bought() -> None:
    rng = np.random.default_rng(5)
    gaps = []
    for size in (8, 128, 4096):
        cost = rng.lognormal(0, 0.5, size)
        value = Expected(*rng.uniform(0.3, 9, (2, size)))
        solution = solve(value.marginal, 8 * cost.sum(), fill(2, size), fill(128, size), cost)
        assert 7.9 * cost.sum() < solution.spent <= 8 * cost.sum()
        gaps.append(solution.gap / value.value(np.arange(size), solution.num_rollouts).sum())
    assert gaps[2] < 1e-6 < gaps[0] < 0.01
    solved = solve(PlugIn(np.ones(3)).marginal, 100, fill(2, 3), fill(50, 3), np.ones(3))
    assert solved.num_rollouts.tolist() == [2, 2, 2]


# -- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "low", "high", "message"),
    [
        (7, [2, 2], [3, 3], r"the budget is 7 rollouts; want 4 to 6, the sums of the bounds \(2 and 3\) of 2 prompts"),
        (3, [2, 2], [3, 3], "the budget is 3 rollouts; want 4 to 6"),
        (4, [1, 2], [3, 3], "the lower bound is 1; want >= 2: a group of one rollout has no advantage"),
        (9, [5, 2], [3, 9], "the lower bound 5 exceeds the upper bound 3"),
        (0, [], [], "there are 0 prompts"),
        (2**63, [2], [2**62], "the budget is 9223372036854775808; want a number from 0 to"),
        (float("nan"), [2], [3], "the budget is nan; want a number"),
    ],
)
def test_impossible_budgets_are_named(budget: int, low: list[int], high: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(PlugIn(np.full(len(low), 0.5)).marginal, budget, np.array(low, np.int64), np.array(high, np.int64))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_costs_are_named(bad: float) -> None:
    with pytest.raises(ValueError, match=f"the cost of a rollout is {bad}; want a positive, finite number"):
        solve(PlugIn(np.array([0.5, 0.5])).marginal, 9, fill(2, 2), fill(9, 2), np.array([1.0, bad]))
    with pytest.raises(ValueError, match=r"the lower bound \(2 rollouts\) of 2 prompts costs 12: raise the budget"):
        solve(PlugIn(np.array([0.5, 0.5])).marginal, 11, fill(2, 2), fill(9, 2), np.array([1.0, 5.0]))


def test_bounds_near_the_end_of_the_integers_do_not_overflow() -> None:
    rollouts = solve(PlugIn(np.array([0.5, 0.2])).marginal, 20, fill(2, 2), fill(2**62, 2)).num_rollouts
    assert rollouts.sum() == 20


# -- helpers ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(2, 9), st.integers(0, 9)), min_size=1, max_size=6), st.integers(0, 70))
def test_level_is_the_highest_that_fits(bounds: list[tuple[int, int]], amount: int) -> None:
    low = np.array([a for a, _ in bounds])
    high = low + np.array([b for _, b in bounds])
    found = level(low, high, amount)
    reached = [np.clip(to, low, high) for to in range(20) if np.clip(to, low, high).sum() <= low.sum() + amount]
    assert found.tolist() == reached[-1].tolist()


def test_spread_gives_one_each_in_turn_and_returns_what_found_no_room() -> None:
    rollouts, among = np.array([2, 2, 2]), np.array([True, False, True])
    assert spread(rollouts, among, 5, np.array([9, 9, 4])) == 0
    assert rollouts.tolist() == [5, 2, 4]
    assert spread(rollouts, among, 9, np.array([9, 9, 4])) == 5
    rollouts = np.array([2, 2])
    assert spread(rollouts, np.array([True, True]), 7.0, np.array([9, 9]), np.array([2.0, 3.0])) == 0
    assert rollouts.tolist() == [4, 3]
