"""Scores beliefs as forecasts: one definition for the learner's metrics and every report. Pure.

Enters: the success rate that was believed before each rollout, and the reward that came. Leaves: log loss, skill and
calibration. Only graded rollouts belong here (law 6). Legend: N rollouts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.messages import Verdict

Floats = NDArray[np.float64]

BINS = 10
"""Of equal width, for calibration."""
LEAST = 1e-6
"""Forecasts are scored as if they were at least this far from 0 and 1."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Rollouts whose forecasts are alike."""

    number: int
    """From 0: forecasts in [number, number + 1) / bins; 1 is in the last."""
    forecast: float
    """Mean."""
    reward: float
    """Mean of what came: the same as the forecast where beliefs are right."""
    num: int


def beliefs_and_rewards(verdicts: list[Verdict]) -> tuple[Floats, Floats]:
    """E[p] of the jobs that hold a belief, and the rewards of these, graded rollouts alone. [N] twice"""
    pairs = []
    for verdict in verdicts:
        reason = verdict.trajectory.job.budgeting
        if verdict.graded and reason is not None and reason.a > 0:
            pairs.append((reason.a / (reason.a + reason.b), verdict.reward))
    both = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def group_losses(forecasts: Floats, num_correct: Floats | float, num_graded: Floats | float) -> Floats:
    """Log loss of each group's rewards, in nats, summed over its rollouts: -(k log p + (n-k) log(1-p)).

    Args:
        forecasts: p of each group, by any number of forecasters. [..., G]
        num_correct, num_graded: sum k of its rewards, and how many they are, n. [G], or one number for all

    """
    p = np.clip(forecasts, LEAST, 1.0 - LEAST)
    return np.asarray(-(num_correct * np.log(p) + (num_graded - num_correct) * np.log1p(-p)))


def log_loss(forecasts: Floats, rewards: Floats) -> float:
    """Mean of -(r log p + (1-r) log(1-p)), in nats: least, and the entropy of the rewards, where p is right. [N], [N]"""
    return float(group_losses(forecasts, rewards, 1.0).mean())


def brier(forecasts: Floats, rewards: Floats) -> float:
    """Mean of (p - r)^2: Brier's score for two outcomes. Least where p is right: the variance of the rewards."""
    return float(((forecasts - rewards) ** 2).mean())


def skill(forecasts: Floats, rewards: Floats) -> float | None:
    """1 - log loss over that of the rewards' mean as the forecast of each: 0 knows no prompt from another. None if all agree."""
    of_mean = log_loss(np.full(rewards.size, rewards.mean()), rewards)
    return 1.0 - log_loss(forecasts, rewards) / of_mean if of_mean > 10 * LEAST else None


def reliability(forecasts: Floats, rewards: Floats, bins: int = BINS) -> list[Bin]:
    """Forecasts against what came, in bins of equal width; empty ones are left out."""
    number = np.minimum((forecasts * bins).astype(np.int64), bins - 1)
    return [
        Bin(int(i), float(forecasts[number == i].mean()), float(rewards[number == i].mean()), int((number == i).sum()))
        for i in np.unique(number)
    ]


def calibration_error(forecasts: Floats, rewards: Floats, bins: int = BINS) -> float:
    """Expected calibration error: mean over the rollouts of the distance of forecast and reward in their bin."""
    each = reliability(forecasts, rewards, bins)
    return sum(abs(b.forecast - b.reward) * b.num for b in each) / max(forecasts.size, 1)
