"""Chooses the groups that the report shows as examples, and what it shows of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream.messages import GroupEnd, Update, Verdict

_READABLE = range(3, 17)
"""Group sizes that a person reads through."""


def choose_examples(surviving: Sequence[Update]) -> set[str]:
    """At most four groups: an early and a late one with a gradient, the largest, and one with ungraded rollouts."""
    ends = [end for update in surviving for end in update.groups]
    trained = [end for end in ends if end.ending == "trained"]
    quarter = max(1, len(trained) // 4)
    chosen: list[GroupEnd] = []
    if trained:
        chosen = [min(trained[:quarter], key=_preference), min(trained[-quarter:], key=_preference)]
        chosen.append(max(trained, key=lambda end: end.num_rollouts))
    chosen += [end for end in ends if end.num_graded < end.num_rollouts][:1] or ([] if trained else ends[:1])
    return {end.group_id for end in chosen}


def _preference(end: GroupEnd) -> tuple[bool, float]:
    """Smallest for a group of readable size that is right about half of the time."""
    return end.num_rollouts not in _READABLE, abs(end.reward_sum / max(1, end.num_graded) - 0.5)


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """One rollout of an example group."""

    verdict: Verdict
    advantage: float | None
    """None for rollouts that were not graded: they carry no reward (law 6)."""
    versions: str
    """Policy versions of its tokens, e.g. `12` or `12 (40 tokens), 13 (8)`."""


def example_rows(verdicts: Sequence[Verdict]) -> list[ExampleRow]:
    """The rollouts of a group with the advantage that it gives them."""
    return [
        ExampleRow(verdict, advantage, _versions(verdict))
        for verdict, advantage in zip(verdicts, advantages(verdicts), strict=True)
    ]


def advantages(verdicts: Sequence[Verdict]) -> list[float | None]:
    """What the rollouts of a group are worth against each other, or against the belief in their job."""
    job = verdicts[0].trajectory.job
    why = job.budgeting
    belief = (why.a, why.b) if why and why.a and (why.mode == "learnability" or job.num_rollouts == 1) else None
    return advantages_of([verdict.reward if verdict.graded else None for verdict in verdicts], belief)


def advantages_of(rewards: Sequence[float | None], belief: tuple[float, float] | None) -> list[float | None]:
    """(reward - mean) / (std + 1e-6) over the graded rollouts, std with N - 1 as GRPO's code has it; None without a grade.

    Where rollouts are measured against a belief Beta(a, b): reward - (a + others' rewards) / (a + b + others).
    """
    graded = np.array([reward for reward in rewards if reward is not None])
    if belief is not None:
        (a, b), total = belief, float(graded.sum())
        return [r if r is None else r - (a + total - r) / (a + b + graded.size - 1) for r in rewards]
    if graded.size < 2 or np.ptp(graded) == 0:
        return [None if reward is None else 0.0 for reward in rewards]
    scale = graded.std(ddof=1) + 1e-6
    return [None if reward is None else float((reward - graded.mean()) / scale) for reward in rewards]


def _versions(verdict: Verdict) -> str:
    tokens: dict[int, int] = {}
    for span in verdict.trajectory.spans:
        tokens[span.policy_version] = tokens.get(span.policy_version, 0) + span.stop - span.start
    if len(tokens) <= 1:
        return "".join(map(str, tokens))
    return ", ".join(f"{version} ({count} tokens)" for version, count in tokens.items())
