"""Decides prompts one by one, by a price that follows what is spent.

At a price a prompt buys every increment worth it: N_i(price) = low_i + #{n: V_i(n+1) - V_i(n) >= price}. At the right
price that is the solution of the knapsack, as the increments fall in n, and no prompt has to know of the others.
"""

import math

import numpy as np

from allocator.budget import Marginal, check_bounds

LEARNING = 1 / 128
"""How fast the price's base learns: the share of the debt (in units of the most) that it moves by a prompt."""
FORCED = 1 / 8
"""What the log of the base moves by where the bound on the debt, not the price, has decided: then the price is far off."""


class Pacer:
    """Decides the prompts of a stream one by one, so that the rollouts spent follow those allowed.

    debt = rollouts spent - prompts decided x mean. A debt raises the price, credit lowers it (proportional and integral
    feedback on log price), and no decision takes the debt beyond +-most_debt where the prompt's bounds, low <= mean <=
    high, leave it the choice. So over any stretch the budget is met within 2 x most_debt, whatever the prompts.
    """

    def __init__(self, mean: float, price: float, most_debt: float = 80.0, debt: float = 0.0) -> None:
        """Start at a price; any > 0 will do, but one near the right price needs no time to get there.

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
        """Count the rollouts that a prompt of the stream gets."""
        self.debt += num_rollouts - self.mean
        step = LEARNING * min(max(self.debt / self._most_debt, -1.0), 1.0)
        self._log_base = min(max(self._log_base + step, -700.0), 700.0)
