from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import allocate
from allocator.modes import MODES
from allocator.values import Expected

counts = st.lists(
    st.integers(0, 40).flatmap(lambda t: st.tuples(st.integers(0, t), st.just(t))), min_size=1, max_size=30
)


@settings(max_examples=30)
@pytest.mark.parametrize("mode", sorted(MODES))
@given(counts, st.integers(2, 5), st.integers(0, 60), st.floats(0, 1))
def test_budget_is_met_exactly_within_the_bounds(
    mode: str, seen: list[tuple[int, int]], low: int, extra: int, share: float
) -> None:
    wins, trials = np.array(seen).T
    budget = low * len(seen) + int(share * extra * len(seen))
    found = allocate(wins, trials, budget, mode=mode, min_rollouts=low, max_rollouts=low + extra)
    assert found.num_rollouts.sum() == found.spent == budget
    assert ((low <= found.num_rollouts) & (found.num_rollouts <= low + extra)).all()
    assert (found.value >= 0).all()
    assert found.gap == 0.0


@settings(max_examples=30)
@pytest.mark.parametrize("mode", sorted(MODES))
@given(counts, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_with_costs_the_budget_is_never_exceeded(
    mode: str, seen: list[tuple[int, int]], seed: int, share: float
) -> None:
    wins, trials = np.array(seen).T
    cost = np.random.default_rng(seed).integers(1, 50, len(seen))
    budget = float(cost.sum() * (2 + 30 * share))
    found = allocate(wins, trials, budget, mode=mode, max_rollouts=32, cost=cost)
    assert cost @ found.num_rollouts == found.spent <= budget
    least = 0 if mode == "learnability" else 2
    assert ((found.num_rollouts >= least) & (found.num_rollouts <= 32)).all()


def rollouts(successes: list[float], trials: list[float], budget: int, mode: str, **options: Any) -> list[int]:
    return [int(n) for n in allocate(successes, trials, budget, mode=mode, **options).num_rollouts]


def test_learnability_begins_at_no_rollouts_and_goes_where_rewards_vary() -> None:
    # Beta(1, 1) and counts: E[pq] of 4/8 is 5 5 / (10 11) = .227, of 8/8 9 1 / (10 11) = .082, of unseen 1/6.
    # The increments of n / (1 + (n-1)/2): 1, 1/3, 1/6, 1/10, ...
    found = allocate([4, 8, 0], [8, 8, 0], 4, mode="learnability", prior=(1, 1))
    assert found.num_rollouts.tolist() == [2, 1, 1]  # .227, .167, .082; .227/3 = .076 before .167/3
    assert found.value == pytest.approx([25 / 110 * 4 / 3, 9 / 110, 1 / 6])
    assert found.price == pytest.approx(25 / 110 / 3)
    assert rollouts([4, 8, 0], [8, 8, 0], 2, "learnability", prior=(1, 1)) == [1, 0, 1]
    assert rollouts([4, 8, 0], [8, 8, 0], 4, "learnability", prior=(1, 1), min_rollouts=1, max_rollouts=2) == [2, 1, 1]


def test_uniform_gives_the_remainder_to_the_first() -> None:
    assert rollouts([1, 0, 9], [9, 0, 9], 26, "uniform") == [9, 9, 8]
    assert rollouts([0, 0, 0], [0, 0, 0], 26, "uniform", max_rollouts=[4, 99, 99]) == [4, 11, 11]


# -- the paper's rule -------------------------------------------------------------------------------------------------


def test_paper_gives_unseen_the_mean_and_solved_the_least() -> None:
    found = rollouts([0, 3, 16, 16, 2, 3], [0, 7, 16, 16, 16, 16], 48, "paper")
    assert found[:4] == [8, 8, 2, 2]
    assert sum(found) == 48


def test_fallback_gives_the_surplus_to_prompts_never_solved_not_to_unseen_ones() -> None:
    # Defects of the published code: unseen got 12 of 8, a hard one 386 of at most 128.
    assert rollouts([0, 0, 0, 0, 9, 9], [0, 0, 9, 9, 9, 9], 48, "paper") == [8, 8, 14, 14, 2, 2]
    found = rollouts([0] + [9] * 63, [9] * 64, 512, "paper")
    assert found[0] == 128
    assert sum(found) == 512


def test_a_surplus_without_prompts_never_solved_goes_to_those_always_solved() -> None:
    assert rollouts([8, 16, 16], [16, 16, 16], 30, "paper") == [3, 14, 13]


def test_all_effective_with_a_surplus_does_not_crash() -> None:
    # Defect 3: an assertion in the published code.
    assert rollouts([8] * 4, [16] * 4, 32, "paper") == [8, 8, 8, 8]


def test_nothing_effective_and_nothing_hard_is_uniform() -> None:
    assert rollouts([9, 9, 0], [9, 9, 0], 24, "paper") == [8, 8, 8]


def test_hard_prompts_get_more_than_medium_ones() -> None:
    found = rollouts([1, 8] + [16] * 14, [16] * 16, 128, "paper")
    assert found[0] == 30
    assert found[0] > found[1]


# -- the posterior ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bayes", "p_nonzero", "variance", "learnability"])
def test_no_move_of_one_rollout_raises_the_total(mode: str) -> None:
    # For concave values a solution that no exchange improves is the best one.
    rng = np.random.default_rng(4)
    trials = rng.integers(0, 17, 40)
    wins = rng.binomial(trials, rng.beta(0.4, 0.4, 40))
    best = allocate(wins, trials, 300, mode=mode, prior=(0.5, 0.7))
    for _ in range(200):
        i, j = rng.choice(40, 2, replace=False)
        low, high = best.num_rollouts.copy(), best.num_rollouts.copy()
        low[i], high[i], low[j], high[j] = best.num_rollouts[i] - 1, low[i] - 1, best.num_rollouts[j] + 1, low[j] + 1
        if low[i] < 2:
            continue
        assert allocate(
            wins, trials, 300, mode=mode, prior=(0.5, 0.7), min_rollouts=low, max_rollouts=low
        ).value.sum() <= (best.value.sum() + 1e-12)


def test_bayes_values_are_those_of_the_posterior() -> None:
    found = allocate([0, 3, 0], [0, 4, 9], 30, mode="bayes", prior=(1, 2))
    expected = Expected(np.array([1.0, 4.0, 1.0]), np.array([2.0, 3.0, 11.0])).value(np.arange(3), found.num_rollouts)
    np.testing.assert_allclose(found.value, expected, rtol=1e-12)
    np.testing.assert_allclose(found.success_rate, [1 / 3, 4 / 7, 1 / 12])


def test_bayes_budgets_a_prompt_never_seen_by_its_kind() -> None:
    wins, trials = [8] * 10 + [0] + [3] * 10 + [0], [8] * 10 + [0] + [8] * 10 + [0]
    level = ["easy"] * 11 + ["medium"] * 11
    found = allocate(wins, trials, 8 * 22, mode="bayes", level=level).num_rollouts
    assert found[21] > found[10]
    with_task = allocate(wins, trials, 8 * 22, mode="bayes", level=["1"] * 22, task=level).num_rollouts
    assert with_task[21] > with_task[10]


def test_a_different_task_makes_the_same_name_of_a_level_another_level() -> None:
    wins, trials = [8] * 5 + [0] * 5, [8] * 10
    believed = allocate(wins, trials, 80, task=["a"] * 5 + ["b"] * 5, level=["1"] * 10).success_rate
    assert believed[0] > 0.9
    assert believed[9] < 0.1


def test_labels_may_be_of_any_kind() -> None:
    found = allocate([4, 4, 0, 0], [4, 4, 4, 4], 32, level=[("a", 1), ("a", 1), 7, 7]).success_rate
    same = allocate([4, 4, 0, 0], [4, 4, 4, 4], 32, level=np.array(["x", "x", "y", "y"])).success_rate
    assert found.tolist() == same.tolist()
    with pytest.raises(ValueError, match="task has labels that cannot be told apart"):
        allocate([4], [4], 8, task=[["a"]])


def test_budgets_up_to_the_last_whole_double_are_spent_exactly() -> None:
    found = allocate(np.zeros(10), np.zeros(10), 2**53, max_rollouts=2**53, prior=(0.5, 0.5)).num_rollouts
    assert int(found.sum()) == 2**53
    assert found.max() - found.min() <= 1


def test_costs_move_rollouts_to_the_cheap() -> None:
    found = allocate([3, 3], [8, 8], 200, cost=[1.0, 9.0], prior=(1, 1))
    assert found.num_rollouts[0] > found.num_rollouts[1]
    assert 190 < found.spent <= 200


# -- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, float("nan")], [2, 2], 8), "prompt 1 has successes nan; want a finite number >= 0"),
        (([1, 1], [2, float("inf")], 8), "prompt 1 has trials inf; want a finite number"),
        (([-1, 1], [2, 2], 8), "prompt 0 has successes -1; want a finite number >= 0"),
        (([1, 5], [2, 4], 8), "prompt 1 has 5 successes in 4 trials; want successes <= trials"),
        (([1, 1], [2], 8), "there are 2 successes and 1 trials"),
        (([[1]], [[2]], 8), r"successes has the shape \(1, 1\); want one number per prompt"),
        ((["x"], [1], 8), "successes are not numbers"),
        (([], [], 8), "there are 0 prompts"),
        (([1], [2], 8.5), "the budget is 8.5 rollouts; want a whole number"),
        (([1], [2], float("nan")), "the budget is nan"),
        (([1], [2], 10**30), "the budget is 10+; want a number from 0 to"),
        (([1], [2], 1), "the budget is 1 rollouts; want 2 to 128"),
        (([1], [2], "8"), "the budget is '8'; want a number"),
        (([1], [2], None), "the budget is None; want a number"),
    ],
)
def test_impossible_counts_and_budgets_are_named(arguments: tuple[Any, Any, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocate(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "greedy"}, "mode is 'greedy'; want one of uniform, paper, bayes, p_nonzero, variance, learnability"),
        ({"prior": (0, 1)}, r"the prior is Beta\(0, 1\); want two positive, finite numbers"),
        ({"prior": (1, float("nan"))}, r"the prior is Beta\(1, nan\)"),
        ({"prior": (1, 2, 3)}, r"the prior is Beta\(1, 2, 3\)"),
        ({"prior": "ab"}, "the prior's numbers are not numbers"),
        ({"min_rollouts": 9, "max_rollouts": 8}, "the lower bound 9 exceeds the upper bound 8 of prompt 0"),
        ({"min_rollouts": 1}, "the lower bound is 1; want >= 2"),
        ({"min_rollouts": 2.5}, "min_rollouts is 2.5; want a whole number"),
        ({"max_rollouts": [9, 9]}, r"max_rollouts has the shape \(2,\)"),
        ({"cost": [0.0]}, "the cost of a rollout is 0.0; want a positive, finite number"),
        ({"cost": [1.0, 2.0]}, r"cost has the shape \(2,\); want one number per prompt"),
        ({"task": ["a", "b"]}, "task has 2 labels; want one per prompt, 1"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocate([1], [2], 8, **options)
