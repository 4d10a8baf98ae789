"""How a group of mode `sequential` goes on."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.messages import Budgeting
from stream.sequential import FIRST, next_rollouts, next_size, progress_of, worth_of_failure, worth_of_success


def reason(price: float, a: float = 1.0, b: float = 1.0, mode: str = "sequential") -> Budgeting:
    return Budgeting(mode=mode, success_rate=0.5, num_observed=0, value=0.0, price=price, a=a, b=b)


@pytest.mark.parametrize(("a", "b"), [(1, 3), (2, 12), (4, 1), (10, 2), (0.3, 7.5)])
def test_the_worth_of_the_next_rollout_agrees_with_quadrature(a: float, b: float) -> None:
    x, weights = np.polynomial.legendre.leggauss(400)
    x, weights = (x + 1) / 2, weights / 2
    p = x**8  # takes the singularity at 0 away
    belief = 8 * x ** (8 * a - 1) * (1 - p) ** (b - 1) * math.gamma(a + b) / math.gamma(a) / math.gamma(b)
    gain = p * (1 - p) ** 2
    assert worth_of_success(a, b) == pytest.approx(float(weights @ (p * gain * belief)), rel=1e-9)
    assert worth_of_failure(a, b) == pytest.approx(float(weights @ ((1 - p) * gain * belief)), rel=1e-9)
    both = worth_of_success(np.array([a, 1.0]), np.array([b, 1.0]))
    assert both.tolist() == [worth_of_success(a, b), worth_of_success(1.0, 1.0)]


def test_slices_grow_with_the_group_so_that_few_answers_are_waited_for() -> None:
    sizes = [0]
    while sizes[-1] < 32:
        sizes.append(next_size(sizes[-1], 32))
    assert sizes == [0, 2, 3, 4, 6, 9, 13, 19, 28, 32]


def test_a_group_begins_with_two_and_is_over_once_it_is_mixed() -> None:
    assert next_rollouts(reason(0.0), 32, 0, []) == FIRST
    assert next_rollouts(reason(0.0), 32, 2, [0.0, 1.0]) == 0
    assert next_rollouts(reason(0.0), 32, 2, [0.3, 0.4]) == 0
    assert next_rollouts(reason(0.0), 32, 2, [0.3, 0.3]) == 1
    assert next_rollouts(reason(0.0), 32, 2, [0.0, 0.0]) == 1
    assert next_rollouts(reason(0.0), 32, 6, [1.0] * 6) == 3
    assert next_rollouts(reason(0.0), 2, 2, [0.0, 0.0]) == 0  # the most


def test_rollouts_without_a_grade_were_asked_for_and_say_nothing() -> None:
    price = worth_of_success(1, 1 + 2) * 1.0001
    assert next_rollouts(reason(price), 32, 2, [0.0, 0.0]) == 0
    assert next_rollouts(reason(price), 32, 2, [0.0]) == 1
    assert next_rollouts(reason(price), 32, 3, []) == 0  # nothing has a grade: there is nothing to go by
    assert progress_of(reason(price), 32, {0: None, 1: None}) == (2, True)


def test_a_group_goes_on_as_long_as_one_more_is_worth_the_price() -> None:
    for outcome, worth in ((0, lambda n: worth_of_success(1, 1 + n)), (1, lambda n: worth_of_failure(1 + n, 1))):
        values = [worth(n) for n in range(2, 12)]
        assert values == sorted(values, reverse=True)
        price = worth(6)  # of the rollout behind six that were alike
        sizes = [n for n in range(2, 12) if next_rollouts(reason(price), 32, n, [float(outcome)] * n)]
        assert sizes == [2, 3, 4, 5, 6]


def test_other_modes_ask_for_all_at_once() -> None:
    assert progress_of(None, 4, {0: 1.0}) == (4, False)
    assert progress_of(reason(0.0, mode="bayes"), 2, {0: 1.0, 1: None}) == (2, True)


@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, None]), min_size=12, max_size=12),
    st.floats(0, 0.03),
    st.integers(2, 12),
    st.randoms(use_true_random=False),
)
def test_the_end_follows_from_the_verdicts_in_whatever_order(
    rewards: list[float | None], price: float, cap: int, shuffle: random.Random
) -> None:
    """Verdicts are handed out as they are asked for; a reader that sees them in another order finds the same end."""
    known: dict[int, float | None] = {}
    while not progress_of(reason(price), cap, known)[1]:
        asked, _ = progress_of(reason(price), cap, known)
        assert len(known) < asked <= cap
        known |= {index: rewards[index] for index in range(asked)}
    order = list(known)
    shuffle.shuffle(order)
    for number in range(len(order)):
        assert not progress_of(reason(price), cap, {index: known[index] for index in order[:number]})[1]
    assert progress_of(reason(price), cap, {index: known[index] for index in order}) == (len(known), True)
