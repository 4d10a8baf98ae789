"""The rules that turn beliefs into budgets. Every one spends the budget exactly, within the bounds (law 4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allocator.budget import Floats, Ints, check_budget, solve, spread_evenly
from allocator.values import paper_marginal, paper_value, rollouts_needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """A round's decision for M prompts."""

    num_rollouts: Ints  # [M], sums to the budget
    value: Floats  # [M], V_i(N_i); 0 where the mode knows no value
    price: float
    """Least increment bought; 0 where the mode knows no price."""


def uniform(p: Floats, budget: int, low: int, high: int) -> Allocation:
    """The same for all; a remainder goes to the first prompts. `p` [M] only gives the number of prompts."""
    lows, highs = _bounds(p, budget, low, high)
    rollouts = lows.copy()
    spread_evenly(rollouts, np.ones(p.size, dtype=bool), budget - int(lows.sum()), highs)
    return Allocation(num_rollouts=rollouts, value=_value(p, rollouts), price=0.0)


def paper(p: Floats, budget: int, low: int, high: int) -> Allocation:
    """The published rule with its fallback, and its code's defects mended (algorithms.md A1, A2).

    Unseen prompts (p is nan) get the mean budget. Those never or always solved (p = 0, p = 1) get the lower bound. The
    rest is spent by the knapsack on the others, up to what Theorem 1 says they need; a surplus (the fallback) goes
    evenly to the prompts never solved, then to all others that have room.
    """
    lows, highs = _bounds(p, budget, low, high)
    unseen = np.isnan(p)
    effective = ~unseen & (p > 0) & (p < 1)
    rollouts = np.where(unseen, min(max(budget // p.size, low), high), lows)
    price = 0.0
    if effective.any():
        share = _share_of_effective(p[effective], budget - int(rollouts[~effective].sum()), low, high)
        rollouts[effective], price = solve(
            lambda n: paper_marginal(p[effective], n), share, lows[effective], highs[effective]
        )
    left = budget - int(rollouts.sum())
    for among in (p == 0, effective, unseen | (p == 1)):
        left = spread_evenly(rollouts, among, left, highs)
    return Allocation(num_rollouts=rollouts, value=_value(p, rollouts), price=price if np.isfinite(price) else 0.0)


MODES = {"uniform": uniform, "paper": paper}


def _share_of_effective(p: Floats, available: int, low: int, high: int) -> int:
    """Rollouts for the knapsack: what is available, but no more than Theorem 1 asks for."""
    needed = int(np.clip(np.floor(rollouts_needed(p)), low, high).sum())
    return max(min(available, needed), low * p.size)


def _bounds(p: Floats, budget: int, low: int, high: int) -> tuple[Ints, Ints]:
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"success rate {p[(p < 0) | (p > 1)][0]} is outside [0, 1]")
    lows, highs = np.full(p.size, low, dtype=np.int64), np.full(p.size, high, dtype=np.int64)
    check_budget(budget, lows, highs)
    return lows, highs


def _value(p: Floats, rollouts: NDArray[np.int64]) -> Floats:
    return np.where(np.isnan(p), 0.0, paper_value(np.nan_to_num(p), rollouts))
