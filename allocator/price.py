"""One price instead of one solution: how prompts that are decided alone, and allocators that share a budget, spend it.

At a price a prompt buys every increment worth it: N_i(price) = low_i + #{n: V_i(n+1) - V_i(n) >= price}. At the right
price that is the solution of the knapsack (algorithms.md A4, A6), and nobody has to know the other prompts.

`Pacer` is for a stream: the price follows what is spent, prompt by prompt, and what is spent never strays far from what
is allowed. `Split` is for allocators that each hold a share of the prompts: they tell one another how much they would
buy at some prices, and all work out the same exact shares of the budget. Legend: M prompts, P prices.
"""

import math
import struct
from collections.abc import Sequence

import numpy as np

from allocator.budget import Ints, Marginal, check_bounds, demand

NUM_PRICES = 64
"""Parts that one step of the search cuts a range of prices into."""
LEARNING = 1 / 128
"""How fast the price's base learns: the share of the debt (in units of the most) that it moves by a prompt."""
FORCED = 1 / 8
"""What the log of the base moves by where the most debt, not the price, has decided: then the price is far off."""


class Pacer:
    """Decides the prompts of a stream one by one, so that the rollouts spent follow those allowed.

    debt = rollouts spent - prompts decided x mean. A debt raises the price, credit lowers it (proportional and integral
    feedback on log price), and no decision takes the debt beyond +-most_debt where the prompt's bounds, low <= mean <=
    high, leave it the choice. So over any stretch the budget is met within 2 x most_debt, whatever the prompts.
    """

    def __init__(self, mean: float, price: float, most_debt: float = 80.0, debt: float = 0.0) -> None:
        """Start at a price: any > 0 will do, that of the first prompts' solution (`solve`) loses no time.

        Args:
            mean: rollouts allowed for each prompt.
            price: the value of one more rollout, at first.
            most_debt: rollouts; at this much the price is e times higher. 80 keeps any 10,000 rollouts within 1.6 %.
            debt: rollouts, that an earlier stream has left.

        Raises:
            ValueError: a mean below 2, a price or most_debt that is not positive, or not finite.

        """
        for name, number, least in (("mean", mean, 2.0), ("price", price, 0.0), ("most_debt", most_debt, 0.0)):
            if not math.isfinite(number) or number < least or number == 0:
                raise ValueError(f"{name} is {number}; want a finite number {'>=' if least else '>'} {least:g}")
        self.mean = mean
        self.debt = debt
        self._most_debt = most_debt
        self._log_base = math.log(price)

    @property
    def price(self) -> float:
        """What an increment must be worth now."""
        return math.exp(min(max(self._log_base + self.debt / self._most_debt, -700.0), 700.0))

    @property
    def base(self) -> float:
        """The price where there is neither debt nor credit: with `debt`, all that a pacer remembers."""
        return math.exp(self._log_base)

    def decide(self, marginal: Marginal, prompt: int, low: int, high: int) -> int:
        """Rollouts of the next prompt of the stream.

        Raises:
            ValueError: bounds that cannot be, or a marginal that is not a number.

        """
        check_bounds(np.array([low]), np.array([high]))
        room = self._most_debt - self.debt
        most = min(high, max(low, math.floor(self.mean + room)))
        least = min(most, max(low, math.ceil(self.mean + room - 2 * self._most_debt)))
        rollouts = np.arange(least, most)
        worth = marginal(np.full(rollouts.size, prompt), rollouts)
        if np.isnan(worth).any():
            raise ValueError(f"the value of prompt {prompt} is not a number")
        decided = least + int(np.count_nonzero(worth >= self.price))
        self._log_base += FORCED * ((decided == most < high) - (decided == least > low))
        self.note(decided)
        return decided

    def note(self, num_rollouts: int) -> None:
        """A prompt of the stream gets as many, by this pacer's decision or another's."""
        self.debt += num_rollouts - self.mean
        step = LEARNING * min(max(self.debt / self._most_debt, -1.0), 1.0)
        self._log_base = min(max(self._log_base + step, -700.0), 700.0)


class Split:
    """One shard's part in splitting a budget: `quote` what it would buy, `take` all quotes, until it has its `share`.

    A search for the budget's price over all double-precision numbers, NUM_PRICES-fold a step. It ends where the demands
    meet the budget, or at the exact price of a tie, which goes to the shards in order. So the shares sum up to the budget
    exactly, and shards that solve theirs reach the optimum of all prompts together. Every shard must use the same mode.
    """

    def __init__(self, marginal: Marginal, budget: int, low: Ints, high: Ints, shard: int) -> None:
        """Take part as shard number `shard` (from 0), with prompts of these bounds [M].

        Raises:
            ValueError: bounds that cannot be.

        """
        check_bounds(low, high)
        self._marginal = marginal
        self._budget = budget
        self._shard = shard
        self._left, self._right = low.astype(np.int64), high.astype(np.int64)
        self._range = (-_ORDER_OF_INF, _ORDER_OF_INF)
        self._ends = (int(high.sum()), int(low.sum()))
        self.step = 0
        self.share: int | None = None
        """Rollouts of this shard's prompts together, once it is known."""

    def quote(self) -> tuple[int, ...]:
        """Rollouts that this shard would buy at each price of this step, falling. [P]"""
        amounts = []
        left = self._left
        for order in reversed(self._orders()[1:-1]):  # the dearest first: it bounds what is bought at the next
            left = demand(self._marginal, _number(order), left, self._right)
            amounts.append(int(left.sum()))
        most, least = self._ends
        return (most, *(min(max(amount, least), most) for amount in reversed(amounts)), least)

    def take(self, quotes: Sequence[Sequence[int]]) -> None:
        """The quotes of all shards at this step, in order of the shards.

        Raises:
            ValueError: a budget outside the bounds' sums, or a quote of another length.

        """
        orders = self._orders()
        for number, quote in enumerate(quotes):
            if len(quote) != len(orders):
                raise ValueError(f"shard {number} quotes {len(quote)} prices at step {self.step}; want {len(orders)}")
        totals = [sum(amounts) for amounts in zip(*quotes, strict=True)]
        if not totals[-1] <= self._budget <= totals[0]:
            raise ValueError(
                f"the budget is {self._budget} rollouts; want {totals[-1]} to {totals[0]}, the sums of the bounds of "
                f"all {len(quotes)} shards: change the budget, or the bounds"
            )
        at = max(number for number, total in enumerate(totals) if total >= self._budget)
        mine = quotes[self._shard]
        if totals[at] == self._budget:
            self.share = mine[at]
        elif orders[at + 1] - orders[at] == 1:
            rest = self._budget - totals[at + 1]
            for number, quote in enumerate(quotes):
                tied = min(rest, quote[at] - quote[at + 1])
                if number == self._shard:
                    self.share = quote[at + 1] + tied
                rest -= tied
        else:
            self._narrow(orders[at], orders[at + 1], (mine[at], mine[at + 1]))

    def _narrow(self, low_order: int, high_order: int, ends: tuple[int, int]) -> None:
        left = demand(self._marginal, _number(high_order), self._left, self._right)
        self._right = demand(self._marginal, _number(low_order), left, self._right)
        self._left, self._range, self._ends = left, (low_order, high_order), ends
        self.step += 1

    def _orders(self) -> list[int]:
        """The prices of this step, as places in the order of all numbers, both ends with them. [P]"""
        low, high = self._range
        parts = min(NUM_PRICES, high - low)
        return [low + (high - low) * part // parts for part in range(parts + 1)]


def _order(number: float) -> int:
    """Place of a double in the order of all of them; 0 for 0."""
    bits: int = struct.unpack("<q", struct.pack("<d", abs(number)))[0]
    return -bits if number < 0 else bits


def _number(order: int) -> float:
    number: float = struct.unpack("<d", struct.pack("<q", abs(order)))[0]
    return -number if order < 0 else number


_ORDER_OF_INF = _order(math.inf)
