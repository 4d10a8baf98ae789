"""One round: which prompts take part, and how many rollouts each gets. Pure and deterministic, so that a round that is
planned again after a crash is the same round, with the same group ids.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from allocator.budget import Floats
from allocator.modes import MODES, Beliefs
from stream.messages import Belief, Budgeting, OpenGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """Groups to admit, in order of the prompts."""

    prompt_ids: tuple[str, ...] = ()
    groups: tuple[OpenGroup, ...] = ()
    value: float = 0.0
    """Sum of V_i(N_i)."""
    spent: float = 0.0
    """Rollouts, or the tokens they are expected to take."""
    gap: float = 0.0
    """The best value for the budget is at most this higher (0 where rollouts are budgeted: it is the best)."""


def choose_prompts(prompt_ids: Sequence[str], beliefs: Mapping[str, Belief], num: int, seed: int) -> list[str]:
    """The prompts that were admitted least often, in an order drawn by the seed: epochs, without an epoch counter.

    Prompts with an open group are passed over.
    """
    free = [prompt_id for prompt_id in prompt_ids if beliefs[prompt_id].open_group is None]
    return sorted(free, key=_turn(beliefs, seed))[:num]


def plan_round(
    chosen: Sequence[str],
    beliefs: Mapping[str, Belief],
    believed: Beliefs,
    *,
    mode: str,
    budget: int,
    low: int,
    high: int,
    round_number: int,
    cost: Floats | None = None,
) -> RoundPlan:
    """Spend the budget on the chosen prompts; `believed` is what is believed of them, in their order, `cost` as well."""
    size = len(chosen)
    allocation = MODES[mode](believed, budget, np.full(size, low), np.full(size, high), cost)
    groups = tuple(
        OpenGroup(
            group_id=f"{prompt_id}.{beliefs[prompt_id].num_groups:04d}",
            num_rollouts=int(allocation.num_rollouts[i]),
            round=round_number,
            budgeting=Budgeting(
                mode=mode,
                success_rate=-1.0 if np.isnan(allocation.success_rate[i]) else float(allocation.success_rate[i]),
                num_observed=beliefs[prompt_id].num_trials,
                value=float(allocation.value[i]),
                price=allocation.price,
                cost=0.0 if cost is None else float(cost[i]),
            ),
        )
        for i, prompt_id in enumerate(chosen)
    )
    return RoundPlan(
        prompt_ids=tuple(chosen),
        groups=groups,
        value=float(allocation.value.sum()),
        spent=allocation.spent,
        gap=allocation.gap,
    )


def _turn(beliefs: Mapping[str, Belief], seed: int) -> Callable[[str], tuple[int, bytes]]:
    def key(prompt_id: str) -> tuple[int, bytes]:
        epoch = beliefs[prompt_id].num_groups
        return epoch, hashlib.blake2b(f"{seed}/{epoch}/{prompt_id}".encode(), digest_size=8).digest()

    return key
