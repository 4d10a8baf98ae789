"""Exact budgets: the integers N_i in [low_i, high_i] with sum B that maximise the sum of concave values V_i(N_i).

Increments V_i(n+1) - V_i(n) that never rise in n make the B - sum(low) largest increments an exact optimum (their
prefixes are taken in order), so no dynamic program is needed (algorithms.md A4). Memory is O(M).
"""

import heapq
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Marginal = Callable[[Ints], Floats]
"""[M] current rollouts -> [M] value of one more; must not rise in n for any prompt."""


def check_budget(budget: int, low: Ints, high: Ints) -> None:
    """Refuse bounds and budgets that nothing can meet.

    Raises:
        ValueError: no prompts, low < 2 (a group of one has no advantage), low > high, or a budget outside their sums.

    """
    if low.size == 0:
        raise ValueError("there are 0 prompts; want at least 1 to spend a budget on")
    if low.min() < 2:
        raise ValueError(
            f"the lower bound is {low.min()}; want >= 2: a group of one rollout has no advantage to learn from"
        )
    if (low > high).any():
        raise ValueError(f"the lower bound {low[low > high][0]} exceeds the upper bound {high[low > high][0]}")
    if not int(low.sum()) <= budget <= int(high.sum()):
        raise ValueError(
            f"the budget is {budget} rollouts; want {low.sum()} to {high.sum()}, the sums of the bounds of "
            f"{low.size} prompts: change the budget, or the bounds"
        )


def solve(marginal: Marginal, budget: int, low: Ints, high: Ints) -> tuple[Ints, float]:
    """Rollouts of every prompt [M], and the price: the least increment that was bought (inf if none was).

    Ties go to the earlier prompt. Raises ValueError as `check_budget` does.
    """
    check_budget(budget, low, high)
    if budget == int(low.sum()):
        return low.copy(), float("inf")
    rollouts = _demand(marginal, _price_above(marginal, budget, low, high), low, high)
    rollouts = _buy_rest(marginal, rollouts, high, budget - int(rollouts.sum()))
    return rollouts, float(marginal(rollouts - 1)[rollouts > low].min())


def _demand(marginal: Marginal, price: float, low: Ints, high: Ints) -> Ints:
    """Low + the number of increments worth at least `price`, by bisection in n. [M]"""
    left, right = low.copy(), high.copy()
    while (left < right).any():
        middle = (left + right) // 2
        buys = (marginal(middle) >= price) & (left < right)
        left = np.where(buys, middle + 1, left)
        right = np.where(buys, right, middle)
    return left


def _price_above(marginal: Marginal, budget: int, low: Ints, high: Ints) -> float:
    """The least price at which demand does not exceed the budget."""
    above, below = float(np.nextafter(marginal(low).max(), np.inf)), 0.0
    for _ in range(200):
        middle = (above + below) / 2
        if not below < middle < above:
            break
        if int(_demand(marginal, middle, low, high).sum()) <= budget:
            above = middle
        else:
            below = middle
    return above


def _buy_rest(marginal: Marginal, rollouts: Ints, high: Ints, num_left: int) -> Ints:
    """The last few increments one by one: those at the price, where ties are."""
    offers = marginal(rollouts)
    heap = [(-offers[i], i) for i in range(rollouts.size) if rollouts[i] < high[i]]
    heapq.heapify(heap)
    rollouts = rollouts.copy()
    while num_left:
        offer, i = heapq.heappop(heap)
        # Increments worth nothing stay so: all that fit are taken at once, or a huge budget would go one by one.
        take = 1 if offer < 0 else min(num_left, int(high[i] - rollouts[i]))
        rollouts[i] += take
        num_left -= take
        if rollouts[i] < high[i]:
            heapq.heappush(heap, (-marginal(rollouts)[i], i))
    return rollouts


def spread_evenly(rollouts: Ints, among: NDArray[np.bool_], amount: int, high: Ints) -> int:
    """Add up to `amount` rollouts to the prompts in `among`, one each in turn, in place; returns what found no room."""
    while amount > 0:
        room = np.flatnonzero(among & (rollouts < high))
        if room.size == 0:
            break
        each = max(1, min(amount // room.size, int((high - rollouts)[room].min())))
        takers = room[: amount // each]
        rollouts[takers] += each
        amount -= each * takers.size
    return amount
