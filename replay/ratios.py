"""Both effective-gradient ratios, from the rewards themselves (algorithms.md A1, "Metrics").

The share of samples is what the knapsack paper calls the ratio, the share of prompts is what a learner gets to see of
different problems; parking rollouts in groups that have a gradient anyway raises the first and not the second.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class GroupTable:
    """Rewards by group: G groups, indexed as in `RunData.groups`."""

    num_graded: NDArray[np.int64]  # [G]
    reward_sum: NDArray[np.float64]  # [G]
    mixed: NDArray[np.bool_]  # [G] whether the rewards of the graded rollouts differ


@dataclass(frozen=True, slots=True)
class Ratios:
    """Effective-gradient ratios of some groups; None where nothing was graded."""

    samples: float | None
    """Share of graded rollouts that are in groups with non-zero reward variance."""
    prompts: float | None
    """Share of groups that are such."""


def group_table(rollouts: NDArray[np.void], num_groups: int) -> GroupTable:
    """Fold rollouts (first records) into groups; ungraded ones say nothing of the completion and are left out."""
    graded = rollouts[rollouts["graded"]]
    group, reward = graded["group"], graded["reward"].astype(np.float64)
    lowest, highest = np.full(num_groups, np.inf), np.full(num_groups, -np.inf)
    np.minimum.at(lowest, group, reward)
    np.maximum.at(highest, group, reward)
    return GroupTable(
        num_graded=np.bincount(group, minlength=num_groups),
        reward_sum=np.bincount(group, weights=reward, minlength=num_groups).astype(np.float64),
        mixed=highest > lowest,
    )


def ratios_of(table: GroupTable, groups: NDArray[np.int64]) -> Ratios:
    """The ratios over these groups (indices)."""
    graded, mixed = table.num_graded[groups], table.mixed[groups]
    return Ratios(
        samples=float(graded[mixed].sum() / graded.sum()) if graded.sum() else None,
        prompts=float(mixed.mean()) if graded.sum() else None,
    )
