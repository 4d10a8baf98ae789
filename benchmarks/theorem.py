"""Says how many rollouts a group needs for a gradient, that is, for both a success and a failure: success rates in, numbers
out. Theorem 1 of Li et al. (arXiv 2509.25849) bounds it from below (`allocator.values.rollouts_needed`).
"""

import numpy as np

from allocator.budget import Floats, Ints
from allocator.values import p_nonzero, rollouts_needed


def expected_rollouts(p: Floats) -> Floats:
    """Rollouts, one after another, until both outcomes have shown, on average: 1/p + 1/q - 1; inf at p = 0 and 1. [M]"""
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / p + 1.0 / (1.0 - p) - 1.0)


def rollouts_enough(p: Floats, confidence: float = 0.9) -> Floats:
    """Rollouts that suffice for both outcomes: ln((1-confidence)/2) / ln(max(p, q)), as p^N + q^N <= 2 max^N. [M]"""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log((1.0 - confidence) / 2.0) / np.log(np.maximum(p, 1.0 - p)))


def least_rollouts(p: Floats, confidence: float = 0.9) -> Ints:
    """The fewest rollouts that hold both outcomes with probability >= `confidence`. [M]

    It lies between Theorem 1's bound and the sufficient one, and P(both outcomes) rises with N: bisection.

    Raises:
        ValueError: p of 0, 1 or outside, for which no number is enough; confidence outside (0, 1).

    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; want a number between 0 and 1, neither of them")
    bad = ~((p > 0.0) & (p < 1.0))
    if bad.any():
        raise ValueError(f"the success rate is {p[bad][0]}; want one between 0 and 1: at 0 and 1 no number is enough")
    below = np.floor(rollouts_needed(p, confidence)).astype(np.int64) - 1
    enough = np.ceil(rollouts_enough(p, confidence)).astype(np.int64) + 1
    while (enough - below > 1).any():
        middle = (below + enough) // 2
        holds = p_nonzero(p, np.maximum(middle, 1)) >= confidence
        below, enough = np.where(holds, below, middle), np.where(holds, middle, enough)
    return enough
