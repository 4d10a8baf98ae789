"""Admits single rollouts as there is room for them, of any prompts of the pool: for advantages that need no group.

TURNS_SHARE of the rollouts go to the prompts that were admitted least often, one each, so that none is ever forgotten: no
prompt waits for more than pool / (TURNS_SHARE x run.rollouts_per_update) updates, and one. The others are the solution of
a knapsack over the whole pool, with N from 0, for the greatest sum of `values.Learnability`, which counts what a prompt
has had of late. In mode `uniform` all rollouts go by turns.
"""

import math
from collections.abc import Container

import numpy as np

from allocator.budget import Ints, solve
from allocator.plan import Plan, are_free, new_groups, partial_groups
from allocator.state import State
from allocator.values import Learnability
from stream.config import Config
from stream.messages import Budgeting

TURNS_SHARE = 1 / 8
"""Share of the rollouts that go by turns, whatever is believed."""


class PoolAdmission:
    """Keeps open what (max_staleness + 1) updates take. A prompt has one open group, mostly of one rollout."""

    def __init__(self, config: Config) -> None:
        self._run, self._mode = config.run, config.mode
        self._per_update = config.run.budget
        self._most = min(config.allocator.max_rollouts, self._per_update)
        self._turns_share = 1.0 if self._mode == "uniform" else TURNS_SHARE

    def ready(self, state: State) -> bool:
        """Whether there is room for a rollout, and a prompt without an open group."""
        if state.partial_groups:
            return are_free(state, state.partial_groups)
        return not state.awaited_evaluations and self._room(state) > 0 and state.evidence.num_free > 0

    def plan(self, state: State) -> Plan:
        """As many rollouts as there is room for."""
        partial = partial_groups(state)
        first = state.num_admitted_rollouts + sum(group.num_rollouts for group in partial.values())
        free = state.evidence.free(without=partial)
        room = min(self._room(state) + state.num_admitted_rollouts - first, free.size * self._most)
        if room <= 0:
            return Plan(groups=partial)
        a, b = state.evidence.posterior(free)
        value = Learnability(a, b, state.evidence.load(free, first))
        high = np.full(free.size, self._most)
        solution = solve(value.marginal, room, self._turns(state, free, room, partial), high, least=0)
        taken = np.flatnonzero(solution.num_rollouts)
        rollouts, chosen = solution.num_rollouts[taken], [state.evidence.prompt_ids[i] for i in free[taken]]
        worth = value.value(taken, rollouts)
        rounds = (first + np.cumsum(rollouts) - rollouts) // self._per_update
        reasons = [
            Budgeting(
                mode=self._mode,
                success_rate=float(a[i] / (a[i] + b[i])),
                num_observed=state.beliefs[prompt_id].num_trials,
                value=float(worth[k]),
                price=solution.price if math.isfinite(solution.price) else 0.0,
                a=float(a[i]),
                b=float(b[i]),
            )
            for k, (i, prompt_id) in enumerate(zip(taken, chosen, strict=True))
        ]
        new = new_groups(state, chosen, rollouts.tolist(), rounds.tolist(), reasons)
        return Plan(groups=partial | new, value=float(worth.sum()), spent=float(room))

    def _room(self, state: State) -> int:
        """Rollouts that may be admitted now."""
        most_open = (self._run.max_staleness + 1) * self._per_update
        num_left = self._run.num_updates * self._per_update - state.num_admitted_rollouts
        return min(most_open - state.ledger.num_open_rollouts, num_left)

    def _turns(self, state: State, free: Ints, room: int, without: Container[str]) -> Ints:
        """The rollouts of each free prompt that it gets because it is its turn. [K]"""
        num = math.ceil(self._turns_share * room)
        each, rest = divmod(num, free.size)
        turns = np.full(free.size, each)
        chosen = state.queue.take_up_to(rest, without=without)
        turns[np.isin(free, state.evidence.indices(chosen))] += 1
        return turns
