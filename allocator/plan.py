"""Holds what every way of admitting groups shares: the plan, and the groups that a crash has left half admitted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from allocator.beliefs import next_group_id
from allocator.state import State
from stream.messages import Budgeting, OpenGroup, Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Groups to admit."""

    groups: dict[str, OpenGroup]
    """By prompt id, in the order of admission."""
    value: float = 0.0
    """Sum of V_i(N_i), without the partial groups."""
    spent: float = 0.0
    """Rollouts, or the tokens they are expected to take, without the partial groups."""
    gap: float = 0.0
    """The best value for the budget is at most this higher (0 where rollouts are budgeted: it is the best)."""
    pace: Pace | None = None
    """How a stream goes on after it."""


def are_free(state: State, prompt_ids: Iterable[str]) -> bool:
    """Whether the prompts of partial groups have no open group. What ends those is in the log, to be read again."""
    return all(state.beliefs[prompt_id].open_group is None for prompt_id in prompt_ids)


def partial_groups(state: State) -> dict[str, OpenGroup]:
    """The groups that a torn transaction has left without beliefs, by prompt id."""
    return {prompt_id: partial.group for prompt_id, partial in state.partial_groups.items()}


def fill_rounds(
    sizes: Sequence[int], first: int, per_round: int, partial: Iterable[tuple[int, int]]
) -> tuple[list[int], list[int]]:
    """Sizes and rounds of new groups, in their order, so that each round holds exactly so much: staleness is counted in rounds.

    A group that reaches over the end of a round is cut off there.

    Args:
        sizes: rollouts of each group; 1 each where rounds are of so many groups. [M]
        first: how much is admitted.
        per_round: what a round holds.
        partial: round and size of each group that is admitted beside them.

    """
    left: dict[int, int] = {first // per_round: per_round - first % per_round}
    for number, size in partial:
        left[number] = left.get(number, per_round) - size
    number, cut, rounds = first // per_round, [], []
    for size in sizes:
        while left.setdefault(number, per_round) <= 0:
            number += 1
        cut.append(min(size, left[number]))
        rounds.append(number)
        left[number] -= cut[-1]
    return cut, rounds


def new_groups(
    state: State, chosen: Sequence[str], rollouts: Sequence[int], rounds: Sequence[int], reasons: Sequence[Budgeting]
) -> dict[str, OpenGroup]:
    """The next group of each chosen prompt, by prompt id."""
    return {
        prompt_id: OpenGroup(
            group_id=next_group_id(state.beliefs[prompt_id]), num_rollouts=num, round=round_number, budgeting=reason
        )
        for prompt_id, num, round_number, reason in zip(chosen, rollouts, rounds, reasons, strict=True)
    }
