"""Prices: streams keep within their budget."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.budget import Floats, solve
from allocator.price import Pacer
from allocator.values import Expected, PlugIn, Value, VarianceRemoved

NUM_PROMPTS, MEAN, LOW, HIGH = 4000, 8.0, 2, 128


def drifting() -> tuple[Floats, np.random.Generator]:
    """Success rates that rise from Beta(.3, 1.8) to Beta(1.8, .3) along the stream."""
    chance = np.random.default_rng(4)
    at = np.arange(NUM_PROMPTS) / NUM_PROMPTS
    return chance.beta(0.3 + 1.5 * at, 1.8 - 1.5 * at), chance


def believed() -> Value:
    p, chance = drifting()
    trials = chance.integers(0, 33, NUM_PROMPTS)
    successes = chance.binomial(trials, p)
    return Expected(0.5 + successes, 0.5 + trials - successes)


def plug_in_of_eight() -> Value:
    p, chance = drifting()
    return PlugIn(chance.binomial(8, p) / 8)


def unseen() -> Value:
    return Expected(np.full(NUM_PROMPTS, 1.0), np.full(NUM_PROMPTS, 2.0))


def least_variance() -> Value:
    p, _ = drifting()
    return VarianceRemoved(0.5 + 10 * p, 10.5 - 10 * p)


def worthless() -> Value:
    return PlugIn(np.zeros(NUM_PROMPTS))


@pytest.mark.parametrize(
    ("make", "start"),
    [(believed, 1e-9), (plug_in_of_eight, 0.01), (unseen, 0.01), (least_variance, 1e9), (worthless, 0.01)],
)
def test_any_10_000_rollouts_of_a_drifting_stream_are_within_two_percent_of_the_budget(
    make: Callable[[], Value], start: float
) -> None:
    value = make()
    pacer = Pacer(MEAN, start)
    rollouts = np.array([pacer.decide(value.marginal, i, LOW, HIGH) for i in range(NUM_PROMPTS)])
    assert rollouts.min() >= LOW and rollouts.max() <= HIGH
    spent = np.concatenate([[0], np.cumsum(rollouts)])
    window = round(10_000 / MEAN)
    off = np.abs(spent[window:] - spent[:-window] - MEAN * window) / (MEAN * window)
    assert off.max() < 0.02
    assert pacer.debt == spent[-1] - MEAN * NUM_PROMPTS


def test_a_stream_reaches_nearly_the_value_of_a_solver_that_sees_all_of_it() -> None:
    value, everyone = believed(), np.arange(NUM_PROMPTS)
    pacer = Pacer(MEAN, 0.01)
    rollouts = np.array([pacer.decide(value.marginal, i, LOW, HIGH) for i in range(NUM_PROMPTS)])
    bounds = np.full(NUM_PROMPTS, LOW), np.full(NUM_PROMPTS, HIGH)
    best = value.value(everyone, solve(value.marginal, int(rollouts.sum()), *bounds).num_rollouts).sum()
    found = value.value(everyone, rollouts).sum()
    uniform = value.value(everyone, np.full(NUM_PROMPTS, int(MEAN))).sum()
    assert uniform < 0.975 * best
    assert 0.985 * best < found <= best


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60), st.floats(2, 20), st.floats(1e-12, 1e12))
def test_the_debt_never_passes_the_most_whatever_the_prompts_are_worth(
    worths: list[float], mean: float, start: float
) -> None:
    pacer = Pacer(mean, start, most_debt=10.0)
    for worth in worths:
        pacer.decide(lambda prompts, n, worth=worth: worth * 0.5**n, 0, 2, 20)
        assert -10.0 - 1e-9 <= pacer.debt <= 10.0 + 1e-9


def test_a_pacer_that_is_made_anew_from_its_debt_and_base_decides_alike() -> None:
    value = believed()
    pacer = Pacer(MEAN, 0.01)
    first = [pacer.decide(value.marginal, i, LOW, HIGH) for i in range(300)]
    again = Pacer(MEAN, 0.01)
    for i in range(200):
        assert again.decide(value.marginal, i, LOW, HIGH) == first[i]
    resumed = Pacer(MEAN, again.base, debt=again.debt)
    assert [resumed.decide(value.marginal, i, LOW, HIGH) for i in range(200, 300)] == first[200:]


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"mean": 1.5, "price": 1.0}, "mean is 1.5; want a finite number >= 2"),
        ({"mean": math.inf, "price": 1.0}, "mean is inf"),
        ({"mean": 8.0, "price": 0.0}, "price is 0.0; want a finite number > 0"),
        ({"mean": 8.0, "price": math.nan}, "price is nan"),
        ({"mean": 8.0, "price": 1.0, "most_debt": -1.0}, "most_debt is -1.0"),
    ],
)
def test_a_pacer_refuses_what_cannot_be(settings: dict[str, float], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Pacer(**settings)


def test_a_pacer_refuses_a_value_that_is_not_a_number_and_a_group_of_one() -> None:
    with pytest.raises(ValueError, match="value of prompt 3 is not a number"):
        Pacer(8.0, 1.0).decide(lambda prompts, n: np.full(n.size, np.nan), 3, 2, 8)
    with pytest.raises(ValueError, match="lower bound is 1; want >= 2"):
        Pacer(8.0, 1.0).decide(lambda prompts, n: 0.5**n, 0, 1, 8)
