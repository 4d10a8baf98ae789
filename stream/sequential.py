"""Says how a group of mode `sequential` goes on: a few rollouts first, then one more as long as one is worth its price.

A group teaches once two of its rewards differ. Until then the next rollout is worth what the posterior expects of it: the
value of Li et al. (arXiv 2509.25849), P(the group has a gradient) x p q^2, after n graded rollouts of which k were right.
Everything that decides is in the job (the belief and the price when the group was admitted, the most rollouts) and in the
rewards, so allocator and learner find the same end from the same verdicts, and replay finds it again. Pure.
"""

import math
from collections.abc import Mapping, Sequence

from stream.messages import Budgeting

SEQUENTIAL = "sequential"
FIRST = 2
"""Rollouts that a group begins with."""


def worth_of_next(a: float, b: float, num_right: float, num_graded: float) -> float:
    """Expected value of one more rollout of a group whose rewards are all alike, its prompt believed to be Beta(a, b) before.

    All wrong: a success makes it mixed, E[p pq^2] = B(a+2, b+n+2) / B(a, b+n). All right: a failure does, E[q pq^2] =
    B(a+n+1, b+3) / B(a+n, b). (Rewards that are all the same and neither 0 nor 1 count as the nearer of the two.)
    """
    a, b = a + num_right, b + num_graded - num_right
    i, j = (2, 2) if 2 * num_right < num_graded else (1, 3)
    return math.exp(_log_rising(a, i) + _log_rising(b, j) - _log_rising(a + b, i + j))


def _log_rising(x: float, num: int) -> float:
    return sum(math.log(x + k) for k in range(num))


def next_rollouts(reason: Budgeting, cap: int, asked: int, rewards: Sequence[float]) -> int:
    """Rollouts that a group is asked for next, when all `asked` have a verdict; 0 if it is over.

    Args:
        reason: why the group has its budget: the belief and the price when it was admitted.
        cap: most rollouts of the group.
        rewards: of the graded rollouts.

    """
    if asked == 0:
        return min(FIRST, cap)
    is_mixed = len(set(rewards)) > 1
    if asked >= cap or is_mixed or not rewards:
        return 0
    return int(worth_of_next(reason.a, reason.b, sum(rewards), len(rewards)) >= reason.price)


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
