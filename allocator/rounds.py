"""One round, or a stretch of a stream: which prompts take part, and how many rollouts each gets. Pure and deterministic,
so that what is planned again after a crash is the same, with the same group ids.
"""

import hashlib
import heapq
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from allocator.budget import Floats
from allocator.modes import MODES, VALUES, Beliefs
from allocator.price import Pacer
from stream.messages import TRAINING, Belief, Budgeting, Job, OpenGroup, Pace


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
    pace: Pace | None = None
    """How a stream goes on after it."""


class Turns:
    """Whose turn it is: the prompts without an open group, those that were admitted least often first, in an order drawn
    by the seed. Epochs, without an epoch counter.
    """

    def __init__(self, beliefs: Mapping[str, Belief], seed: int) -> None:
        self._beliefs = beliefs
        self._seed = seed
        self._heap = [self._turn(belief) for belief in beliefs.values() if belief.open_group is None]
        heapq.heapify(self._heap)

    def put(self, belief: Belief) -> None:
        """A prompt's group is over."""
        heapq.heappush(self._heap, self._turn(belief))

    def take(self, num: int, without: Container[str] = ()) -> list[str]:
        """The next `num` prompts but those in `without`; none at all if there are not as many."""
        taken: list[tuple[int, bytes, str]] = []
        while self._heap and len(taken) < num:
            turn = heapq.heappop(self._heap)
            belief = self._beliefs[turn[2]]
            still_free = belief.open_group is None and belief.num_groups == turn[0]
            if still_free and turn[2] not in without:
                taken.append(turn)
        if len(taken) < num:
            for turn in taken:
                heapq.heappush(self._heap, turn)
            return []
        return [prompt_id for _, _, prompt_id in taken]

    def _turn(self, belief: Belief) -> tuple[int, bytes, str]:
        drawn = f"{self._seed}/{belief.num_groups}/{belief.prompt_id}".encode()
        return belief.num_groups, hashlib.blake2b(drawn, digest_size=8).digest(), belief.prompt_id


def group_id_of(belief: Belief) -> str:
    """Id of a prompt's next group: it follows from the belief alone, so a group planned twice is the same group."""
    return f"{belief.prompt_id}.{belief.num_groups:04d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TornGroup:
    """A group whose jobs are in the log, though no belief tells of it."""

    group: OpenGroup
    issued: frozenset[int]
    """Rollouts that its jobs ask for."""


def find_torn(jobs: Iterable[Job], beliefs: Mapping[str, Belief]) -> dict[str, TornGroup]:
    """The groups, by prompt, of the first round that a torn transaction has left behind: to be taken on, not planned anew.

    A broker is to write a round's jobs and beliefs together or not at all, and was found not to always (Jepsen, on the
    protocol before KIP-890).
    """
    found: dict[str, TornGroup] = {}
    for job in jobs:
        belief = beliefs.get(job.prompt.prompt_id)
        if job.purpose != TRAINING or belief is None or job.budgeting is None or job.group_id != group_id_of(belief):
            continue
        group = OpenGroup(
            group_id=job.group_id, num_rollouts=job.num_rollouts, round=job.round, budgeting=job.budgeting
        )
        before = found[belief.prompt_id].issued if belief.prompt_id in found else frozenset()
        found[belief.prompt_id] = TornGroup(group=group, issued=before | set(range(job.start, job.stop)))
    first = min((left.group.round for left in found.values()), default=0)
    return {prompt_id: left for prompt_id, left in found.items() if left.group.round == first}


def plan_round(
    chosen: Sequence[str],
    beliefs: Mapping[str, Belief],
    believed: Beliefs,
    *,
    mode: str,
    budget: float,
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
            group_id=group_id_of(beliefs[prompt_id]),
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


def plan_stream(
    chosen: Sequence[str],
    beliefs: Mapping[str, Belief],
    believed: Beliefs,
    *,
    mode: str,
    mean: float,
    low: int,
    high: int,
    rounds: Sequence[int],
    pace: Pace | None,
) -> RoundPlan:
    """Decide the chosen prompts one by one, `mean` rollouts each being allowed.

    Args:
        chosen, beliefs, believed: as for `plan_round`.
        rounds: the round that each group counts in.
        pace: how the stream went so far; None at its beginning.

    """
    value, everyone = VALUES[mode](believed, low, high), np.arange(len(chosen))
    if pace is None:
        worth = value.marginal(everyone, np.full(everyone.size, int(mean)))
        pace = Pace(base=float(worth.mean()), debt=0.0)
    pacer = Pacer(mean, pace.base, debt=pace.debt)
    prices, rollouts = [], []
    for i in range(len(chosen)):
        prices.append(pacer.price)
        rollouts.append(pacer.decide(value.marginal, i, low, high))
    values = value.value(everyone, np.array(rollouts, dtype=np.int64))
    groups = tuple(
        OpenGroup(
            group_id=group_id_of(beliefs[prompt_id]),
            num_rollouts=rollouts[i],
            round=rounds[i],
            budgeting=Budgeting(
                mode=mode,
                success_rate=float(believed.a[i] / (believed.a[i] + believed.b[i])),
                num_observed=beliefs[prompt_id].num_trials,
                value=float(values[i]),
                price=prices[i],
            ),
        )
        for i, prompt_id in enumerate(chosen)
    )
    return RoundPlan(
        prompt_ids=tuple(chosen),
        groups=groups,
        value=float(values.sum()),
        spent=float(sum(rollouts)),
        pace=Pace(base=pacer.base, debt=pacer.debt),
    )


def note_groups(pace: Pace | None, mean: float, groups: Sequence[OpenGroup]) -> Pace | None:
    """How a stream goes on after groups whose number of rollouts stands already."""
    if not groups:
        return pace
    pacer = Pacer(mean, groups[0].budgeting.price) if pace is None else Pacer(mean, pace.base, debt=pace.debt)
    for group in groups:
        pacer.note(group.num_rollouts)
    return Pace(base=pacer.base, debt=pacer.debt)
