"""Decides when groups are admitted, which prompts they are of, and how many rollouts each gets.

The state in, a plan out. `RoundAdmission` admits the groups of one update together and spends their budget exactly;
`StreamAdmission` admits prompts one by one, by a price; `SequentialAdmission` admits groups that grow by their verdicts;
`PoolAdmission` admits single rollouts, of any prompts of the pool.
All are deterministic, so that what is planned again after a crash is the same, with the same group ids. Nothing outside
these modules depends on mode, pacing or a budget of tokens.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from allocator.modes import MODES, VALUES
from allocator.plan import Plan, are_free, fill_rounds, new_groups, partial_groups
from allocator.pool_admission import PoolAdmission
from allocator.price import Pacer
from allocator.sequential_admission import SequentialAdmission
from allocator.state import State
from allocator.values import Value
from stream.config import Config
from stream.messages import Budgeting, OpenGroup, Pace
from stream.sequential import SEQUENTIAL


class Admission(Protocol):
    """A way to admit groups."""

    def ready(self, state: State) -> bool:
        """Whether groups may be admitted now: staleness is bounded by admitting late, not by dropping."""

    def plan(self, state: State) -> Plan:
        """The partial groups of the state as they are, then new ones; none at all if too few prompts are free."""


def admission_of(config: Config) -> Admission:
    """The way that a recipe asks for."""
    if not config.by_groups:
        return PoolAdmission(config)
    if config.mode == SEQUENTIAL:
        return SequentialAdmission(config)
    return StreamAdmission(config) if config.allocator.pacing == "stream" else RoundAdmission(config)


class RoundAdmission:
    """Admits the groups of one update together: their rollouts, or expected tokens, meet the budget."""

    def __init__(self, config: Config) -> None:
        self._run, self._table, self._mode = config.run, config.allocator, config.mode
        self._budget_tokens = config.allocator.budget_tokens
        self._max_tokens = config.sampling.max_tokens

    def ready(self, state: State) -> bool:
        """Open groups stay within (rounds_ahead + 1) x one update's."""
        if state.partial_groups:
            return are_free(state, self._first_partial_groups(state))
        if state.awaits_base or state.next_round >= self._run.num_updates:
            return False
        return state.ledger.num_open_groups <= self._run.rounds_ahead * self._run.prompts_per_update

    def plan(self, state: State) -> Plan:
        """The rest of the round that is under way."""
        size, partial = self._run.prompts_per_update, self._first_partial_groups(state)
        chosen = state.queue.take(size - state.num_admitted % size - len(partial), without=state.partial_groups)
        if not chosen:
            return Plan(groups=partial)
        table, num = self._table, len(chosen)
        believed = state.evidence.beliefs(chosen, state.beliefs)
        cost = state.evidence.costs(chosen) if self._budget_tokens else np.zeros(num)
        allocation = MODES[self._mode](
            believed,
            self._budget(num, partial.values()),
            np.full(num, table.min_rollouts),
            np.full(num, table.max_rollouts),
            cost if self._budget_tokens else None,
        )
        reasons = [
            Budgeting(
                mode=self._mode,
                success_rate=-1.0 if np.isnan(allocation.success_rate[i]) else float(allocation.success_rate[i]),
                num_observed=state.beliefs[prompt_id].num_trials,
                value=float(allocation.value[i]),
                price=allocation.price,
                cost=float(cost[i]),
                a=float(believed.a[i]),
                b=float(believed.b[i]),
            )
            for i, prompt_id in enumerate(chosen)
        ]
        rollouts, rounds = allocation.num_rollouts.tolist(), [state.next_round] * num
        return Plan(
            groups=partial | new_groups(state, chosen, rollouts, rounds, reasons),
            value=float(allocation.value.sum()),
            spent=allocation.spent,
            gap=allocation.gap,
        )

    @staticmethod
    def _first_partial_groups(state: State) -> dict[str, OpenGroup]:
        """Those of the first round that has any: they are a part of its budget."""
        groups = partial_groups(state)
        first = min((group.round for group in groups.values()), default=0)
        return {prompt_id: group for prompt_id, group in groups.items() if group.round == first}

    def _budget(self, num_chosen: int, partial: Collection[OpenGroup]) -> float:
        """What the partial groups leave of the round's budget, as far as the bounds of the chosen prompts can meet it."""
        size, tokens = self._run.prompts_per_update, self._budget_tokens
        full = tokens or self._run.budget
        spent = sum(group.num_rollouts * (group.budgeting.cost if tokens else 1) for group in partial)
        budget = full * (num_chosen + len(partial)) // size - spent
        least = num_chosen * self._table.min_rollouts * (self._max_tokens if tokens else 1)
        most = full if tokens else num_chosen * self._table.max_rollouts
        return max(least, min(most, budget))


class StreamAdmission:
    """Admits prompts one by one as groups end, each by a price that follows what has been spent (`price.Pacer`)."""

    def __init__(self, config: Config) -> None:
        self._run, self._table, self._mode = config.run, config.allocator, config.mode

    def ready(self, state: State) -> bool:
        """Open groups stay within (rounds_ahead + 1) x one update's."""
        if state.partial_groups:
            return are_free(state, state.partial_groups)
        return not state.awaits_base and self._room(state) > 0

    def plan(self, state: State) -> Plan:
        """As many prompts as there is room for."""
        partial, mode = partial_groups(state), self._mode
        pace = self._pace_after(list(partial.values()), state.pace)
        chosen = state.queue.take_up_to(self._room(state) - len(partial), without=partial)
        if not chosen:
            return Plan(groups=partial, pace=pace)
        believed = state.evidence.beliefs(chosen, state.beliefs)
        value = VALUES[mode](believed, self._table.min_rollouts, self._table.max_rollouts)
        pacer = self._pacer(pace or self._first_pace(value, len(chosen)))
        prices, rollouts = self._decide(value, pacer, len(chosen))
        values = value.value(np.arange(len(chosen)), np.array(rollouts, dtype=np.int64))
        reasons = [
            Budgeting(
                mode=mode,
                success_rate=float(believed.a[i] / (believed.a[i] + believed.b[i])),
                num_observed=state.beliefs[prompt_id].num_trials,
                value=float(values[i]),
                price=prices[i],
                a=float(believed.a[i]),
                b=float(believed.b[i]),
            )
            for i, prompt_id in enumerate(chosen)
        ]
        _, rounds = fill_rounds(
            [1] * len(chosen),
            state.num_admitted,
            self._run.prompts_per_update,
            [(group.round, 1) for group in partial.values()],
        )
        return Plan(
            groups=partial | new_groups(state, chosen, rollouts, rounds, reasons),
            value=float(values.sum()),
            spent=float(sum(rollouts)),
            pace=Pace(base=pacer.base, debt=pacer.debt),
        )

    def _room(self, state: State) -> int:
        """Groups that may be admitted now."""
        most_open = (self._run.rounds_ahead + 1) * self._run.prompts_per_update
        num_left = self._run.num_updates * self._run.prompts_per_update - state.num_admitted
        return min(most_open - state.ledger.num_open_groups, num_left)

    def _pacer(self, pace: Pace) -> Pacer:
        return Pacer(self._run.rollouts_per_prompt, pace.base, debt=pace.debt)

    def _first_pace(self, value: Value, num: int) -> Pace:
        """Begins a stream at the price of the mean number of rollouts for its first prompts."""
        worth = value.marginal(np.arange(num), np.full(num, int(self._run.rollouts_per_prompt)))
        return Pace(base=float(worth.mean()), debt=0.0)

    def _pace_after(self, groups: Sequence[OpenGroup], pace: Pace | None) -> Pace | None:
        """How the stream goes on after groups whose number of rollouts is fixed."""
        if not groups:
            return pace
        pacer = self._pacer(pace or Pace(base=groups[0].budgeting.price, debt=0.0))
        for group in groups:
            pacer.note(group.num_rollouts)
        return Pace(base=pacer.base, debt=pacer.debt)

    def _decide(self, value: Value, pacer: Pacer, num: int) -> tuple[list[float], list[int]]:
        """The price that each prompt met, and the rollouts that it got."""
        prices, rollouts = [], []
        for i in range(num):
            prices.append(pacer.price)
            rollouts.append(pacer.decide(value.marginal, i, self._table.min_rollouts, self._table.max_rollouts))
        return prices, rollouts
