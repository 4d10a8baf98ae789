"""Says how a group of mode `sequential` goes on: two rollouts first, then slices as long as one more is worth its price.

A group teaches once two of its rewards differ. Until then the next rollout is worth what the posterior expects of it: the
value of Li et al. (arXiv 2509.25849), P(the group has a gradient) x p q^2, after n graded rollouts of which k were right.
Everything that decides is in the job (the belief and the price when the group was admitted, the most rollouts) and in the
rewards, so allocator and learner find the same end from the same verdicts, and replay finds it again. Pure; nothing but
products and quotients, which come out the same on every machine.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stream.messages import Budgeting

SEQUENTIAL = "sequential"
FIRST = 2
"""Rollouts that a group begins with."""
GROWTH = 2
"""A slice is of one rollout for so many that came before: one by one, a group of 32 would wait for 31 answers in turn."""

Real = TypeVar("Real", float, NDArray[np.float64])
"""A number, or one for each of many prompts."""


def worth_of_success(a: Real, b: Real) -> Real:
    """Expected value of one more rollout where a success is lacking, p ~ Beta(a, b) by now: E[p pq^2] = B(a+2, b+2) / B(a, b)."""
    return _rising(a, 2) * _rising(b, 2) / _rising(a + b, 4)


def worth_of_failure(a: Real, b: Real) -> Real:
    """Expected value of one more rollout where a failure is lacking, p ~ Beta(a, b) by now: E[q pq^2] = B(a+1, b+3) / B(a, b)."""
    return a * _rising(b, 3) / _rising(a + b, 4)


def _rising(x: Real, num: int) -> Real:
    return math.prod((x + k for k in range(1, num)), start=x)


def next_size(size: int, cap: int) -> int:
    """Rollouts that a group of `size` has after its next slice."""
    return min(cap, size + max(1, size // GROWTH) if size else FIRST)


def next_rollouts(reason: Budgeting, cap: int, asked: int, rewards: Sequence[float]) -> int:
    """Rollouts that a group is asked for next, when all `asked` have a verdict; 0 if it is over.

    Args:
        reason: why the group has its budget: the belief and the price when it was admitted.
        cap: most rollouts of the group.
        rewards: of the graded rollouts. All the same and neither 0 nor 1, they count as the nearer of the two; without
            any there is nothing to go by, and the group is over.

    """
    if asked:
        is_mixed = len(set(rewards)) > 1
        if is_mixed or not rewards:
            return 0
        right, graded = sum(rewards), len(rewards)
        worth = worth_of_success if 2 * right < graded else worth_of_failure
        if worth(reason.a + right, reason.b + graded - right) < reason.price:
            return 0
    return next_size(asked, cap) - asked


def progress_of(reason: Budgeting | None, cap: int, rewards: Mapping[int, float | None]) -> tuple[int, bool]:
    """How many rollouts a group of any mode is asked for so far, and whether that is all and each has a verdict.

    Args:
        cap: the job's num_rollouts: all of them, but in mode `sequential` the most.
        rewards: by rollout index; None for a verdict without a grade.

    """
    if reason is None or reason.mode != SEQUENTIAL:
        return cap, len(rewards) >= cap
    asked = 0
    while True:
        if any(index not in rewards for index in range(asked)):
            return asked, False
        graded = [reward for index in range(asked) if (reward := rewards[index]) is not None]
        more = next_rollouts(reason, cap, asked, graded)
        if more == 0:
            return asked, True
        asked += more
