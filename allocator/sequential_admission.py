"""Admits groups that begin with two rollouts and grow as long as one more is worth its price (`stream.sequential`).

Prompts come in turns. What a group will take is not known when it is admitted, but what it is expected to take is: the
price is the one at which the pool's groups take run.rollouts_per_prompt in the mean, by what is believed of them now, and
slowly makes good where they took more or less. (A price that follows only what completed groups took swings by powers of
ten: the groups that complete first are the small ones, and the others follow updates later.)

Of the run's rollouts each open group reserves the most that it may take, so the last groups may take less.
"""

import math

import numpy as np

from allocator.budget import Floats
from allocator.plan import Plan, are_free, new_groups, partial_groups
from allocator.state import State
from allocator.values import Expected
from stream.config import Config
from stream.messages import Budgeting
from stream.sequential import FIRST, SEQUENTIAL, next_size, worth_of_failure, worth_of_success

MOST_MEANS = 4
"""Times run.rollouts_per_prompt: no group takes more."""
PATIENCE = 4
"""Times what is open at once, within which a debt is made good: less would swing, as a debt shows late."""
MOST_PRICED = 1024
"""Prompts of the pool, evenly spread, that a price is made from."""


def price_of(a: Floats, b: Floats, mean: float, cap: int) -> float:
    """The price at which groups of prompts believed to be Beta(a, b) are expected to take `mean` rollouts. [M] twice

    A slice is asked for if it, and all before it, are worth the price, and if all rewards were alike until then. So the
    sum over groups of what they take is a sum over slices, each by how likely it is; at the price it meets the budget.

    Returns:
        0 if they take less than the mean at any price, as nearly all of them are mixed early.

    """
    prices, rollouts = [], []
    for is_right in (False, True):
        size, worth = min(FIRST, cap), np.full(a.size, np.inf)
        while size < cap:
            worth = np.minimum(worth, worth_of_failure(a + size, b) if is_right else worth_of_success(a, b + size))
            prices.append(worth)
            following = next_size(size, cap)
            rollouts.append((following - size) * _alike(*((a, b) if is_right else (b, a)), size))
            size = following
    if not prices:
        return 0.0
    worth, expected = np.concatenate(prices), np.concatenate(rollouts)
    order = np.argsort(-worth, kind="stable")
    spent = np.cumsum(expected[order])
    last = int(np.searchsorted(spent, (mean - FIRST) * a.size))
    return float(worth[order[last]]) if last < spent.size else 0.0


def in_debt(mean: float, debt: float, most_open: float) -> float:
    """The mean to aim at while groups have taken so many rollouts too many, or (below 0) too few."""
    return mean * min(max(1.0 - debt / (PATIENCE * most_open), 0.5), 2.0)


def _alike(a: Floats, b: Floats, size: int) -> Floats:
    """Probability that so many rollouts succeed, p ~ Beta(a, b): E[p^size]. [M]"""
    steps = np.arange(size)[:, None]
    return np.asarray(np.prod((a + steps) / (a + b + steps), axis=0))


class SequentialAdmission:
    """Keeps open what (rounds_ahead + 1) updates take, as far as that can be known."""

    def __init__(self, config: Config) -> None:
        self._run = config.run
        self._mean = config.run.rollouts_per_prompt
        self._total = config.run.num_updates * config.run.budget
        self._most_open = (config.run.rounds_ahead + 1) * config.run.budget
        most = math.ceil(MOST_MEANS * self._mean)
        self._cap = min(config.allocator.max_rollouts, most, config.run.budget)  # no group is more than an update

    def ready(self, state: State) -> bool:
        """Whether there is room for a group, and a prompt without one."""
        if state.partial_groups:
            return are_free(state, state.partial_groups)
        is_waiting = state.awaits_base or state.evidence.num_free == 0
        return not is_waiting and self._room(state) > 0 and state.num_admitted_rollouts < self._total

    def plan(self, state: State) -> Plan:
        """As many groups as there is room for."""
        partial = partial_groups(state)
        cap = self._cap_now(state)
        wanted = math.ceil(max(0.0, self._room(state) / self._mean - len(partial)))
        caps = self._caps(wanted, cap, state.num_admitted_rollouts + sum(g.num_rollouts for g in partial.values()))
        chosen = state.queue.take_up_to(len(caps), without=partial)
        if not chosen:
            return Plan(groups=partial)
        price = self._price(state, cap)
        a, b = state.evidence.posterior(state.evidence.indices(chosen))
        value = Expected(a, b).value(np.arange(len(chosen)), np.full(len(chosen), FIRST))
        reasons = [
            Budgeting(
                mode=SEQUENTIAL,
                success_rate=float(a[i] / (a[i] + b[i])),
                num_observed=state.beliefs[prompt_id].num_trials,
                value=float(value[i]),
                price=price,
                a=float(a[i]),
                b=float(b[i]),
            )
            for i, prompt_id in enumerate(chosen)
        ]
        rounds = [min(state.next_round, self._run.num_updates - 1)] * len(chosen)
        new = new_groups(state, chosen, caps[: len(chosen)], rounds, reasons)
        return Plan(groups=partial | new, value=float(value.sum()), spent=self._mean * len(chosen))

    def _room(self, state: State) -> float:
        """Rollouts that may be admitted now, where a group that may grow takes the mean."""
        return self._most_open - state.ledger.num_expected(self._mean)

    def _cap_now(self, state: State) -> int:
        """Most rollouts of a new group.

        Before the first update nothing is known, and the groups that are complete are those that were mixed at once: no
        more than the mean then. Towards the run's end as many as leave enough for as many groups as before side by side.
        """
        if state.policy_version == 0:
            return math.ceil(self._mean)
        num_unasked = self._total - state.num_admitted_rollouts + state.ledger.num_reserved
        num_open = self._most_open / self._mean
        return max(FIRST, min(self._cap, math.ceil(max(self._mean, num_unasked / num_open))))

    def _caps(self, wanted: int, cap: int, num_taken: int) -> list[int]:
        """Most rollouts of each new group: all of them could be taken, and the run had one rollout too many at most."""
        caps: list[int] = []
        while len(caps) < wanted and num_taken < self._total:
            caps.append(max(FIRST, min(cap, self._total - num_taken)))
            num_taken += caps[-1]
        return caps

    def _price(self, state: State, cap: int) -> float:
        pool = np.arange(len(state.beliefs))
        a, b = state.evidence.posterior(pool[:: -(-pool.size // MOST_PRICED)])
        debt = state.num_completed_rollouts - self._mean * state.num_completed
        return price_of(a, b, in_debt(self._mean, debt, self._most_open), cap)
