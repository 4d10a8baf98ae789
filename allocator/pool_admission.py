"""Admits single rollouts as there is room for them, of any prompts of the pool: for advantages that need no group.

In mode `learnability` prompts are drawn: in the mean they get what makes the variance of the pool's gradient least
(`allocator.neyman`), but none less than LEAST_SHARE of an equal share, so that none is forgotten: what is solved keeps
coming, and teaches when it fails. With budget_tokens an update's rollouts are expected to take no more tokens than that, as
far as these bounds let it. In mode `uniform` prompts come by turns.
"""

from collections.abc import Container

import numpy as np

from allocator.budget import Floats, Ints
from allocator.neyman import drawn, expected_rollouts, within_cost
from allocator.plan import Plan, are_free, fill_rounds, new_groups, partial_groups
from allocator.state import State
from stream.config import Config
from stream.messages import Budgeting

LEAST_SHARE = 1 / 4
"""Of an equal share of the rollouts, what every prompt gets in the mean, whatever is believed."""
MOST_SHARES = 2
"""Equal shares, or one rollout, that no prompt gets more than: more prompts teach more than more rollouts of one."""


def draw(
    variance: Floats,
    room: int,
    most: int,
    rng: np.random.Generator,
    costs: Floats | None = None,
    most_tokens: float = np.inf,
) -> tuple[Ints, float]:
    """Rollouts of prompts, `room` in all, and the price.

    Args:
        variance: E[p q] of each prompt. [M]
        room: rollouts to draw.
        most: rollouts of a prompt.
        rng: the draw follows from it.
        costs: tokens that a rollout of each is expected to take [M], if they are bounded.
        most_tokens: that all are expected to take, as far as the bounds of each let it.

    """
    equal = room / variance.size
    low = np.full(variance.size, LEAST_SHARE * equal)
    high = np.full(variance.size, min(max(1.0, MOST_SHARES * equal), most))
    if costs is None:
        expected, price = expected_rollouts(variance, room, low, high)
    else:
        expected, price = within_cost(variance, room, low, high, costs, most_tokens)
    return drawn(expected, rng), price


class PoolAdmission:
    """Keeps open what (rounds_ahead + 1) updates take. A prompt has one open group, mostly of one rollout.

    A round is what an update takes, in the order of admission. No group is in two, so the learner can tell when all that was
    admitted before is there.
    """

    def __init__(self, config: Config) -> None:
        self._run, self._mode = config.run, config.mode
        self._per_update = config.run.budget
        self._most = min(config.allocator.max_rollouts, self._per_update)
        self._tokens = config.allocator.budget_tokens

    def ready(self, state: State) -> bool:
        """Whether there is room for a rollout, and a prompt without an open group."""
        if state.partial_groups:
            return are_free(state, state.partial_groups)
        return not state.awaits_base and self._room(state) > 0 and state.evidence.num_free > 0

    def plan(self, state: State) -> Plan:
        """As many rollouts as there is room for."""
        partial = partial_groups(state)
        first = state.num_admitted_rollouts + sum(group.num_rollouts for group in partial.values())
        free = state.evidence.free(without=partial)
        room = min(self._room(state) + state.num_admitted_rollouts - first, free.size * self._most)
        if room <= 0:
            return Plan(groups=partial)
        a, b = state.evidence.posterior(free)
        variance = a * b / ((a + b) * (a + b + 1.0))  # E[p q]
        costs = state.evidence.costs([state.evidence.prompt_ids[i] for i in free]) if self._tokens else None
        if self._mode == "uniform":
            each, price = self._by_turns(state, free, room, partial), 0.0
        else:
            # Follows from the seed and the rollouts before.
            rng = np.random.default_rng([self._run.seed, first])
            each, price = draw(variance, room, self._most, rng, costs, self._tokens * room / self._per_update)
        taken = np.flatnonzero(each)
        rollouts, rounds = fill_rounds(
            each[taken].tolist(),
            state.num_admitted_rollouts,
            self._per_update,
            [(group.round, group.num_rollouts) for group in partial.values()],
        )
        worth = np.array(rollouts) * variance[taken]
        chosen = [state.evidence.prompt_ids[i] for i in free[taken]]
        each_cost = np.zeros(taken.size) if costs is None else costs[taken]
        reasons = [
            Budgeting(
                mode=self._mode,
                success_rate=float(a[i] / (a[i] + b[i])),
                num_observed=state.beliefs[prompt_id].num_trials,
                value=float(value),
                price=price,
                cost=float(cost),
                a=float(a[i]),
                b=float(b[i]),
            )
            for i, prompt_id, value, cost in zip(taken, chosen, worth, each_cost, strict=True)
        ]
        new = new_groups(state, chosen, rollouts, rounds, reasons)
        spent = float(sum(rollouts) if costs is None else rollouts @ each_cost)
        return Plan(groups=partial | new, value=float(worth.sum()), spent=spent)

    def _room(self, state: State) -> int:
        """Rollouts that may be admitted now."""
        num_ended = state.num_admitted_rollouts - state.ledger.num_open_rollouts
        # In whole rounds: what an update took too many, as its last group reached over, lets no round in early.
        num_rounds = min(num_ended // self._per_update + self._run.rounds_ahead + 1, self._run.num_updates)
        return num_rounds * self._per_update - state.num_admitted_rollouts

    @staticmethod
    def _by_turns(state: State, free: Ints, room: int, without: Container[str]) -> Ints:
        """Rollouts of each free prompt [M]: the same for all, and one more for those whose turn it is."""
        each, rest = divmod(room, free.size)
        chosen = state.queue.take_up_to(rest, without=without)
        return each + np.isin(free, state.evidence.indices(chosen))
