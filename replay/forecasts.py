"""Puts a run's beliefs beside what came: for every graded rollout the success rate believed before it, and its reward.

What enters is a `RunData`, what leaves are columns in the order of the surviving updates. Rollouts whose jobs hold no
belief, that were not graded (law 6), or whose group has not ended in a surviving update are left out.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from replay.load import RunData
from replay.series import Floats, update_of_groups
from stream.forecasts import log_loss


@dataclass(frozen=True, slots=True)
class Forecasts:
    """N rollouts, in the order of the updates that their groups ended in. U updates."""

    believed: Floats
    """[N] E[p] under the belief in the job."""
    rewards: Floats
    """[N]"""
    update: NDArray[np.int64]
    """[N] position in `Lineage.steps`, never falling."""
    num_updates: int
    """U."""

    def last_quarter(self) -> tuple[Floats, Floats]:
        """Believed and rewards of the last quarter of the updates, at least one."""
        late = self.update >= self.num_updates - max(1, self.num_updates // 4)
        return self.believed[late], self.rewards[late]

    def losses(self) -> tuple[Floats, Floats]:
        """Log loss of each update's beliefs, and of its mean reward as the forecast of each; NaN without any. [U] twice"""
        of_beliefs, of_mean = np.full((2, self.num_updates), np.nan)
        edges = np.searchsorted(self.update, np.arange(self.num_updates + 1))
        for i, (start, stop) in enumerate(pairwise(edges)):
            rewards = self.rewards[start:stop]
            if rewards.size:
                of_beliefs[i] = log_loss(self.believed[start:stop], rewards)
                of_mean[i] = log_loss(np.full(rewards.size, rewards.mean()), rewards)
        return of_beliefs, of_mean


def forecasts_of(data: RunData) -> Forecasts:
    """What the run's jobs believed, and the rewards that came."""
    rows, edges = graded_by_update(data)
    believed = np.full(len(data.groups), np.nan)
    for group in data.groups.values():
        believed[group.index] = group.forecast
    update = np.repeat(np.arange(edges.size - 1), np.diff(edges))
    of_rows = believed[rows["group"]] if len(rows) else np.zeros(0)
    known = ~np.isnan(of_rows)
    return Forecasts(of_rows[known], rows["reward"][known].astype(np.float64), update[known], edges.size - 1)


def graded_by_update(data: RunData) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """Graded rollouts by the surviving update that their group ended in; those of update i are edges[i] to edges[i+1].

    Returns:
        [N] rows of ROLLOUT and [U + 1] edges. Rollouts of groups that have not ended there are left out.

    """
    rows = data.training[data.training["graded"]]
    update = update_of_groups(data)[rows["group"]] if len(rows) else np.zeros(0, np.int64)
    order = np.argsort(update, kind="stable")
    order = order[update[order] >= 0]
    return rows[order], np.searchsorted(update[order], np.arange(len(data.lineage.steps) + 1))
