"""Choosing which prompts take part as well as how many rollouts each gets."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from allocator import beliefs
from allocator.forgetting import PER_VERSION
from allocator.values import Expected, PlugIn
from benchmarks import pool
from benchmarks.pool import choose
from stream.messages import Belief, Budgeting, OpenGroup, Prompt

ROOT = Path(__file__).parents[2]
NO_REASON = Budgeting(mode="", success_rate=-1.0, num_observed=0, value=0.0, price=0.0)


def worth(a, b, rollouts):
    """Total expected value; a prompt without rollouts is worth nothing."""
    value = Expected(a, b).value(np.arange(a.size), np.maximum(rollouts, 2))
    return float(np.where(rollouts > 0, value, 0.0).sum())


def test_the_whole_budget_is_spent_and_no_group_has_one_rollout():
    rng = np.random.default_rng(0)
    for budget in (2, 3, 7, 64, 481):
        a, b = rng.gamma(1.0, 2.0, (2, 200)) + 0.1
        rollouts = choose(Expected(a, b), budget, np.zeros(200, dtype=np.int64), 128)
        assert rollouts.sum() == budget
        assert not (rollouts == 1).any()


def test_no_better_choice_of_four_prompts_exists_but_for_an_odd_rollout():
    rng = np.random.default_rng(1)
    exact = 0
    for budget in (2, 4, 5, 8):
        a, b = rng.gamma(1.0, 2.0, (2, 4)) + 0.1
        found = worth(a, b, choose(Expected(a, b), budget, np.zeros(4, dtype=np.int64), 8))
        sizes = [n for n in itertools.product((0, 2, 3, 4, 5, 6, 7, 8), repeat=4) if sum(n) == budget]
        best = max(worth(a, b, np.array(n)) for n in sizes)
        odd = float(Expected(a, b).value(np.arange(4), np.full(4, 2)).max()) / 2  # half a pair, given to another prompt
        assert best - odd <= found <= best + 1e-12
        exact += found == pytest.approx(best)
    assert exact >= 2


def test_prompts_whose_turn_it_is_keep_their_lower_bound():
    a, b = np.array([1.0, 50.0, 1.0]), np.array([1.0, 0.1, 1.0])
    rollouts = choose(Expected(a, b), 12, np.array([0, 2, 0]), 128)
    assert rollouts.tolist() == [5, 2, 5]


def test_a_group_leaves_the_belief_that_the_allocator_would_have():
    rng = np.random.default_rng(2)
    for discount in (0.5, 0.8):
        belief = theirs = Belief(prompt_id="a")
        for number in range(20):
            graded = int(rng.integers(2, 20))
            correct = int(rng.integers(0, graded + 1))
            belief = pool.after_group(belief, correct, graded, discount)
            group = OpenGroup(group_id=f"{number}", num_rollouts=graded, round=0, budgeting=NO_REASON)
            theirs = beliefs.observe(beliefs.admit(theirs, group), correct, graded, discount=discount)
            theirs = beliefs.end(theirs)
            assert replace(belief, visits=()) == replace(theirs, visits=())
            assert beliefs.success_rate(belief) == pytest.approx(beliefs.success_rate(theirs), nan_ok=True)


def prompts(number):
    return [Prompt(prompt_id=f"{i}", text="", answer="", grader="") for i in range(number)]


def test_wide_rules_spend_the_same_on_more_prompts():
    for allocation, times in (("uniform", 1), ("uniform wide", 2), ("bayes wide", 2), ("uniform wider", 4)):
        plan = pool.Pool(prompts(40), 0).plan(allocation, 5)
        assert len(plan) == 5 * times and sum(plan.values()) == 40


def test_oracle_buys_the_most_true_value_of_the_same_prompts():
    rates = np.random.default_rng(5).beta(0.5, 0.5, 40)
    value, found = PlugIn(rates), {}
    for allocation in ("uniform", "oracle"):
        plan = pool.Pool(prompts(40), 0).plan(allocation, 10, rates)
        found[allocation] = float(value.value(np.array([int(i) for i in plan]), np.array(list(plan.values()))).sum())
    assert found["oracle"] > found["uniform"] * 1.02
    free = pool.Pool(prompts(40), 0).plan("oracle choose", 10, rates)
    assert sum(free.values()) == 80 and min(free.values()) >= 2
    total = float(value.value(np.array([int(i) for i in free]), np.array(list(free.values()))).sum())
    assert total > found["oracle"]


@pytest.mark.parametrize(("rule", "mean"), [("sequential", 8), ("sequential wide", 4), ("sequential wider", 2)])
def test_groups_that_grow_take_the_mean_and_the_updates_their_rollouts(rule, mean):
    played, rates = pool.Pool(prompts(400), seed=0), np.resize([0.0, 0.05, 0.5, 0.99, 1.0], 400)
    sizes = []
    for update in range(1, 41):
        plan, correct = played.play(rule, 10, rates)  # 10 x 8 rollouts
        sizes += plan.values()
        assert sum(sizes) == 80 * update
        for (prompt_id, size), right in zip(plan.items(), correct.tolist(), strict=True):
            assert 0 <= right <= size
            played.observe(prompt_id, right, size)
        played.advance()
    assert np.mean(sizes) == pytest.approx(mean, rel=0.15)
    assert min(sizes) >= 2


@pytest.mark.parametrize("rule", ["turns", "learnability"])
def test_rules_of_single_rollouts_spend_the_budget_and_forget_no_prompt(rule):
    played = pool.Pool(prompts(40), seed=0, per_version=PER_VERSION)
    spent = np.zeros(40)
    for _ in range(30):
        plan = played.plan(rule, 2)  # 2 x 8 rollouts
        assert sum(plan.values()) == 16
        for prompt_id, rollouts in plan.items():
            spent[int(prompt_id)] += rollouts
            played.observe(prompt_id, float(int(prompt_id) < 10) * rollouts, rollouts)  # a quarter is always right
        played.advance()
    assert spent.sum() == 480
    assert spent.min() > 0
    if rule == "turns":
        assert set(spent) == {12}


def test_a_pool_smaller_than_the_budget_gives_all_prompts_about_the_same_at_first():
    for rule in ("turns", "learnability"):
        assert set(pool.Pool(prompts(5), seed=0).plan(rule, 2).values()) == {3, 4}
