"""Spends a budget: finds the integers N_i in [low_i, high_i] that maximise the sum of concave values V_i(N_i).

Where no increment V_i(n+1) - V_i(n) rises in n, the largest increments are an exact optimum (each prompt's are taken in
order), so no dynamic program is needed: marginal analysis (Fox, Management Science 13, 1966). Which increments are the
largest is found as in Floyd and Rivest's SELECT (CACM 18, 1975), over M falling columns that are never written down: a
sample of the increments brackets the price, the bracket decides all but few of them, and the few are sorted. Time
O(M log N), memory O(M).

With costs c_i the increments are ranked by value per cost: Dantzig's greedy solution of the linear relaxation, then a fill
step. The first increment that does not fit bounds what the optimum can be above that: the certified gap. Legend: M prompts,
K of them, U undecided increments.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Marginal = Callable[[Ints, Ints], Floats]
"""(prompts [K], rollouts of each [K]) -> [K] value of one more rollout; must not rise in n for any prompt."""

MAX_BUDGET = 2**53
"""Sums of rollouts stay exact in double precision up to here."""
MAX_SAMPLE = 65536
"""Increments of one sample."""
GOLDEN = 0.618033988749895
FEW = 8
"""Undecided increments, in samples, that are decided outright."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """How a budget is spent."""

    num_rollouts: Ints  # [M]
    price: float
    """Value per cost of the least increment that was bought; inf if none was."""
    spent: float
    """Sum of c_i N_i; rollouts where there are no costs, and then it is the budget."""
    gap: float
    """The optimum's total value is at most this above the solution's; 0 without costs."""


def check_bounds(low: Ints, high: Ints, least: int = 2) -> None:
    """Refuse bounds that no budget can meet.

    Raises:
        ValueError: no prompts, low < `least` (a group of one has no advantage), or low > high.

    """
    if low.size == 0:
        raise ValueError("there are 0 prompts; want at least 1 to spend a budget on")
    if low.min() < least:
        reason = ": a group of one rollout has no advantage to learn from" if least == 2 else ""
        raise ValueError(f"the lower bound is {low.min()}; want >= {least}{reason}")
    if (low > high).any():
        first = int(np.argmax(low > high))
        raise ValueError(f"the lower bound {low[first]} exceeds the upper bound {high[first]} of prompt {first}")


def check_budget(budget: float, low: Ints, high: Ints, cost: Floats | None = None, least: int = 2) -> None:
    """Refuse bounds and budgets that nothing can meet.

    Raises:
        ValueError: as `check_bounds`, a cost that is not positive and finite, or a budget outside the bounds' sums.

    """
    check_bounds(low, high, least)
    if isinstance(budget, bool) or not isinstance(budget, int | float | np.integer | np.floating):
        raise ValueError(f"the budget is {budget!r}; want a number")
    if not 0 <= budget <= MAX_BUDGET:
        raise ValueError(f"the budget is {budget}; want a number from 0 to {MAX_BUDGET} (2^53)")
    if cost is None:
        if budget != int(budget):
            raise ValueError(f"the budget is {budget} rollouts; want a whole number")
        least_sum, most_sum = sum_of(low), sum_of(high)
        if not least_sum <= budget <= most_sum:
            raise ValueError(
                f"the budget is {budget} rollouts; want {least_sum} to {most_sum}, the sums of the bounds "
                f"({_range(low)} and {_range(high)}) of {low.size} prompts: change the budget, or the bounds"
            )
        return
    bad = ~(np.isfinite(cost) & (cost > 0))
    if bad.any():
        raise ValueError(f"the cost of a rollout is {cost[bad][0]}; want a positive, finite number")
    needed = float(cost @ low)
    if needed > budget:
        raise ValueError(
            f"the budget is {budget:g}; the lower bound ({_range(low)} rollouts) of {low.size} prompts costs {needed:g}: "
            "raise the budget, or lower the bound"
        )


def sum_of(bounds: Ints) -> int:
    """Sum as a Python integer: no overflow."""
    return int(bounds.sum()) if int(bounds.max()) < MAX_BUDGET // bounds.size else sum(bounds.tolist())


def total_cost(rollouts: Ints, cost: Floats | None) -> float:
    """Sum of c_i N_i; of N_i, exactly, without costs."""
    return int(rollouts.sum()) if cost is None else float(cost @ rollouts)


def solve(
    marginal: Marginal, budget: float, low: Ints, high: Ints, cost: Floats | None = None, least: int = 2
) -> Solution:
    """Spend a budget: exactly, or, with costs, as far as it goes.

    Among increments of equal value (per cost) those of prompts with fewer rollouts come first, then those of the
    earlier prompt. With costs, increments worth nothing are not bought.

    Args:
        marginal: value of one more rollout; any that never rises in n.
        budget: rollouts in all; with costs the most that sum(c_i N_i) may be.
        low, high: [M] bounds.
        cost: [M] cost of a rollout.
        least: the least lower bound that is let pass.

    Raises:
        ValueError: as `check_budget`, or a marginal that is not a number.

    """
    check_budget(budget, low, high, cost, least)
    purchase = _Purchase(marginal, budget, low, high, cost)
    purchase.narrow()
    gap = purchase.finish()
    return Solution(num_rollouts=purchase.left, price=purchase.price(low), spent=purchase.spent(), gap=gap)


def demand(density: Marginal, price: float, low: Ints, high: Ints) -> Ints:
    """Rollouts [M], from low to high, when every increment of at least this density is bought.

    Each prompt is searched by steps that double from the low end, then by bisection.
    """
    rollouts = low.copy()
    prompts = np.flatnonzero(low < high)
    left, right = low[prompts], high[prompts]
    step = 0
    while prompts.size:
        middle = np.minimum(left + step, (left + right) >> 1)
        buys = density(prompts, middle) >= price
        np.copyto(right, middle, where=~buys)
        np.copyto(left, middle + 1, where=buys)
        undecided = left < right
        if not undecided.all():
            rollouts[prompts] = left
            prompts, left, right = prompts[undecided], left[undecided], right[undecided]
        step = min(2 * step + 1, MAX_BUDGET)
    return rollouts


class _Purchase:
    """Increments below `left` are bought, those from `right` on are not, those between are undecided."""

    def __init__(self, marginal: Marginal, budget: float, low: Ints, high: Ints, cost: Floats | None) -> None:
        self._marginal = marginal
        self._budget = budget
        self._cost = cost
        room = budget - total_cost(low, cost)
        affordable = np.full(low.size, room) if cost is None else room / cost
        self._high = high
        self.left = low.astype(np.int64)
        self.right = np.minimum(high - low, np.minimum(affordable, MAX_BUDGET).astype(np.int64)) + low

    def density(self, prompts: Ints, rollouts: Ints) -> Floats:
        """Value per cost of one more rollout. [K]"""
        gain = self._marginal(prompts, rollouts)
        return gain if self._cost is None else gain / self._cost[prompts]

    def spent(self, rollouts: Ints | None = None) -> float:
        """What these rollouts cost (those that are bought)."""
        return total_cost(self.left if rollouts is None else rollouts, self._cost)

    def price(self, low: Ints) -> float:
        """The least density that was bought."""
        bought = np.flatnonzero(self.left > low)
        return float(self.density(bought, self.left[bought] - 1).min()) if bought.size else float("inf")

    # -- deciding most increments -------------------------------------------------------------------------------------

    def narrow(self) -> None:
        """Decide increments until few are left, or all that are left are of one density."""
        size = int(np.clip(self.left.size // 16, 1024, MAX_SAMPLE))
        undecided = self._num_undecided
        while undecided > FEW * size:
            above, below = self._bracket(size)
            self._cut(above)
            self._cut(below)
            if self._num_undecided == undecided:  # many ties: the same prices, ties on the other side
                self._cut(np.nextafter(above, np.inf))
                self._cut(np.nextafter(below, np.inf))
            if self._num_undecided == undecided:
                return
            undecided = self._num_undecided

    @property
    def _num_undecided(self) -> int:
        return int((self.right - self.left).sum())

    def _bracket(self, size: int) -> tuple[float, float]:
        """Two prices that the budget's price is most likely between, from an even sample of undecided increments."""
        ends = np.cumsum(self.right - self.left)
        # One position in each of `size` even stretches, shifted by the golden ratio: an even step could meet all columns at
        # the same height.
        steps = np.arange(size)
        positions = ((steps + steps * GOLDEN % 1.0) * (ends[-1] / size)).astype(np.int64)
        prompts = np.searchsorted(ends, positions, side="right")
        rollouts = self.right[prompts] - (ends[prompts] - positions)
        density = self.density(prompts, rollouts)
        _check_numbers(density, prompts)
        order = np.argsort(-density)
        weight = np.cumsum(np.ones(size) if self._cost is None else self._cost[prompts][order])
        total = float(ends[-1]) if self._cost is None else self.spent(self.right) - self.spent()
        rank = int(np.searchsorted(weight, (self._budget - self.spent()) / total * weight[-1]))
        margin = int(np.sqrt(size)) + 1
        low, high = max(rank - margin, 0), min(rank + margin, size - 1)
        return float(density[order[low]]), float(density[order[high]])

    def _cut(self, price: float) -> None:
        """Decide by one price: buy all increments that are worth it, or give up all that are not."""
        rollouts = self._demand(price)
        if self.spent(rollouts) <= self._budget:
            self.left = rollouts
        else:
            self.right = rollouts

    def _demand(self, price: float) -> Ints:
        return demand(self.density, price, self.left, self.right)

    # -- the last few -------------------------------------------------------------------------------------------------

    def finish(self) -> float:
        """Buy the best of what is undecided; returns the certified gap."""
        if self._num_undecided > FEW * MAX_SAMPLE:  # only where all that is undecided is of one density
            self.left = level(self.left, self.right, self._rest, self._cost)
            self.right = np.minimum(self.right, self.left + 1)
        prompts, density = self._undecided()
        if self._cost is None:
            self._buy(prompts[: int(self._rest)])
            return 0.0
        num = int(np.searchsorted(np.cumsum(self._cost[prompts]), self._rest, side="right"))
        num = min(num, int(np.searchsorted(-density, 0.0)))  # what is worth nothing is not bought
        self._buy(prompts[:num])
        while num and self.spent() > self._budget:  # by a rounding error of the sum
            num -= 1
            self.left[prompts[num]] -= 1
        return max(float(density[num]) * self._rest - self._fill(), 0.0) if num < prompts.size else 0.0

    def _buy(self, prompts: Ints) -> None:
        self.left = self.left + np.bincount(prompts, minlength=self.left.size)

    @property
    def _rest(self) -> float:
        return self._budget - self.spent()

    def _undecided(self) -> tuple[Ints, Floats]:
        """Prompt and density of the undecided increments, the best first; without costs only as many as fit. [U] each"""
        num = self.right - self.left
        prompts = np.repeat(np.arange(num.size), num)
        rollouts = np.arange(prompts.size) - np.repeat(np.cumsum(num) - self.right, num)
        density = self.density(prompts, rollouts)
        _check_numbers(density, prompts)
        if self._cost is None and 0 < self._rest < density.size:
            last = np.partition(density, density.size - int(self._rest))[density.size - int(self._rest)]
            sure = np.flatnonzero(density > last)
            ties = np.flatnonzero(density == last)
            ties = ties[np.lexsort((prompts[ties], rollouts[ties]))]
            order = np.concatenate([sure, ties])
        else:
            order = np.lexsort((prompts, rollouts, -density))
        return prompts[order], density[order]

    def _fill(self) -> float:
        """Spend what the first increment that does not fit has left on the best that do; returns their value."""
        assert self._cost is not None
        gained = 0.0
        prompts = np.flatnonzero((self._cost <= self._rest) & (self.left < self._high))
        cost, density = self._cost[prompts], self.density(prompts, self.left[prompts])
        while prompts.size:
            best = int(np.argmax(np.where(cost <= self._rest, density, -np.inf)))
            if cost[best] > self._rest or density[best] <= 0:
                break
            prompt = prompts[best : best + 1]  # [1]
            self.left[prompt] += 1
            if self.spent() > self._budget:  # by a rounding error of the sum
                self.left[prompt] -= 1
                density[best] = -np.inf
                continue
            gained += float(density[best] * cost[best])
            has_room = self.left[prompt] < self._high[prompt]
            density[best] = self.density(prompt, self.left[prompt])[0] if has_room.all() else -np.inf
        return gained


def _check_numbers(density: Floats, prompts: Ints) -> None:
    if np.isnan(density).any():
        raise ValueError(f"the value of prompt {prompts[np.isnan(density)][0]} is not a number")


def level(low: Ints, high: Ints, amount: float, cost: Floats | None = None) -> Ints:
    """The largest equal number of rollouts, within the bounds, that costs at most `amount` more than `low` does. [M]"""

    def raised(to: int) -> Ints:
        return np.asarray(np.clip(to, low, high))

    below, above = int(low.min()), int(high.max()) + 1
    while above - below > 1:
        middle = (below + above) // 2
        more = raised(middle) - low
        fits = total_cost(more, cost) <= amount
        below, above = (middle, above) if fits else (below, middle)
    return raised(below)


def spread(rollouts: Ints, among: NDArray[np.bool_], amount: float, high: Ints, cost: Floats | None = None) -> float:
    """Add rollouts worth up to `amount` to the prompts in `among`, one each in turn, in place; returns what is left."""
    unit = np.ones(rollouts.size) if cost is None else cost
    while amount > 0:
        room = np.flatnonzero(among & (rollouts < high) & (unit <= amount))
        if room.size == 0:
            break
        each = max(1, min(int(amount / float(unit[room].sum())), int((high - rollouts)[room].min())))
        takers = room[: int(np.searchsorted(np.cumsum(unit[room] * each), amount, side="right"))]
        rollouts[takers] += each
        amount -= float(unit[takers].sum()) * each
    return amount


def _range(bounds: Ints) -> str:
    return str(bounds.min()) if bounds.min() == bounds.max() else f"{bounds.min()} to {bounds.max()}"
