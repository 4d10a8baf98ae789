"""Admits groups that begin with a few rollouts and grow as long as one more is worth its price (`stream.sequential`).

Prompts come in turns. What a group will take is not known when it is admitted, so room is counted by the mean, and of the
run's rollouts each open group reserves the most that it may take, so the last groups may take less. The price follows what
groups have taken: a debt raises it, credit lowers it, so that they take about run.rollouts_per_prompt in the mean.
"""

import math

import numpy as np

from allocator.modes import Beliefs
from allocator.plan import Plan, are_free, new_groups, partial_groups
from allocator.state import State
from allocator.values import Expected
from stream.config import Config
from stream.messages import Budgeting, Pace
from stream.sequential import FIRST, SEQUENTIAL, worth_of_next

MOST_DEBT = 80.0
"""Rollouts of debt at which the price is e times higher."""
MOST_MEANS = 4
"""Means that no group takes more than: reserves are held for so many."""


class SequentialAdmission:
    """Keeps open what (max_staleness + 1) updates take, as far as that can be known."""

    def __init__(self, config: Config) -> None:
        self._run = config.run
        self._mean = config.run.rollouts_per_prompt
        most = math.ceil(MOST_MEANS * self._mean)
        self._cap = min(config.allocator.max_rollouts, most, config.run.budget)  # no group is more than an update

    def ready(self, state: State) -> bool:
        """Whether there is room for a group, and a prompt without one."""
        if state.partial_groups:
            return are_free(state, state.partial_groups)
        is_waiting = bool(state.awaited_evaluations) or state.evidence.num_free == 0
        return not is_waiting and self._room(state) > 0 and self._num_left(state) > 0

    def plan(self, state: State) -> Plan:
        """As many groups as there is room for."""
        partial = partial_groups(state)
        num_left = self._num_left(state) - sum(group.num_rollouts for group in partial.values())
        wanted = math.ceil(max(0.0, self._room(state) / self._mean - len(partial)))
        caps: list[int] = []
        while len(caps) < wanted and num_left > 0:
            caps.append(max(FIRST, min(self._cap, num_left)))  # one rollout more than there are, at most
            num_left -= caps[-1]
        chosen = state.queue.take_up_to(len(caps), without=partial)
        if not chosen:
            return Plan(groups=partial, pace=state.pace)
        believed = state.evidence.beliefs(chosen, state.beliefs)
        base = state.pace.base if state.pace else self._first_price(believed)
        debt = state.num_completed_rollouts - self._mean * state.num_completed
        price = base * math.exp(min(max(debt / MOST_DEBT, -100.0), 100.0))
        value = Expected(believed.a, believed.b).value(np.arange(len(chosen)), np.full(len(chosen), FIRST))
        reasons = [
            Budgeting(
                mode=SEQUENTIAL,
                success_rate=float(believed.a[i] / (believed.a[i] + believed.b[i])),
                num_observed=state.beliefs[prompt_id].num_trials,
                value=float(value[i]),
                price=price,
                a=float(believed.a[i]),
                b=float(believed.b[i]),
            )
            for i, prompt_id in enumerate(chosen)
        ]
        rounds = [min(state.next_round, self._run.num_updates - 1)] * len(chosen)
        new = new_groups(state, chosen, caps[: len(chosen)], rounds, reasons)
        pace = Pace(base=base, debt=debt)
        return Plan(groups=partial | new, value=float(value.sum()), spent=float(FIRST * len(chosen)), pace=pace)

    def _room(self, state: State) -> float:
        """Rollouts that may be admitted now, where a group that may grow takes the mean."""
        return (self._run.max_staleness + 1) * self._run.budget - state.ledger.num_expected(self._mean)

    def _num_left(self, state: State) -> int:
        """Rollouts of the run that no group has taken or reserved."""
        return self._run.num_updates * self._run.budget - state.num_admitted_rollouts

    def _first_price(self, believed: Beliefs) -> float:
        """What the rollout is worth that groups without a success take last, if they take the mean."""
        worth = [worth_of_next(a, b, 0.0, self._mean - 1) for a, b in zip(believed.a, believed.b, strict=True)]
        return float(np.mean(worth))
