"""Forgets old rollouts, as the policy has changed since: several rules side by side, and which of them forecasts best.

How fast a success rate moves depends on the learning rate, on how often a prompt comes back, and on how much its level
tells: no one factor is right everywhere (docs/allocation-study.md). So each prompt's counts are kept under every rule, the
rewards that come are scored against what each rule had forecast, and the rule with the least log loss of late is believed.
"""

from collections.abc import Sequence
from functools import lru_cache
from operator import mul

import numpy as np

from allocator.budget import Floats
from stream.forecasts import group_losses

PER_VISIT = 0.5
"""Factor on a prompt's counts with every new group of it, unless allocator.discount says otherwise."""
PER_VERSION = (0.5, 0.7, 0.85, 0.95, 1.0)
"""Factors on all counts with every new version of the policy."""
MEMORY = 0.9
"""What a new version leaves of the weight of older scores."""


def faded(counts: Sequence[float], versions: int) -> tuple[float, ...]:
    """One prompt's counts under each of PER_VERSION, so many versions later. Trials come first, then successes."""
    return tuple(map(mul, counts, _factors(max(versions, 0))))


@lru_cache(maxsize=1024)
def _factors(versions: int) -> tuple[float, ...]:
    """What so many versions leave of each count: of the trials, then of the successes."""
    return tuple(factor**versions for factor in PER_VERSION * 2)


def with_group(counts: Sequence[float], versions: int, num_graded: float, num_correct: float) -> tuple[float, ...]:
    """The same counts so many versions later, with a group added; () are the counts of a prompt never seen."""
    size = len(PER_VERSION)
    old = faded(counts or (0.0,) * (2 * size), versions)
    return (*(count + num_graded for count in old[:size]), *(count + num_correct for count in old[size:]))


class Scores:
    """Log loss of K rules of late, in nats: `losses` [K] are sums, discounted by MEMORY with every version."""

    def __init__(self, num_rules: int) -> None:
        self.losses = np.zeros(num_rules)
        self._version = 0

    @property
    def best(self) -> int:
        """Number of the rule to believe; of equals the first."""
        return int(np.argmin(self.losses))

    def note(self, forecasts: Floats, num_correct: float, num_graded: float, version: int) -> None:
        """Score the rules' forecasts [K] of a group that was graded while the policy had this version."""
        self.losses *= MEMORY ** max(version - self._version, 0)
        self._version = max(version, self._version)
        self.losses += group_losses(forecasts, num_correct, num_graded)

    def restore(self, losses: Sequence[float], version: int) -> None:
        """Go on from the sums of an earlier life."""
        if len(losses) == self.losses.size:
            self.losses, self._version = np.array(losses), version
