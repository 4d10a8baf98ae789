"""Spends a budget in parts of rollouts, by Neyman's allocation with bounds, and makes whole rollouts of it at random.

N_i rollouts of prompt i leave a variance of w_i / N_i in its mean gradient, w_i = E[p q] being the expected variance of its
rewards. The sum of these over the pool is least where N_i is proportional to sqrt(w_i) (Neyman, Journal of the Royal
Statistical Society 97, 1934), as far as the bounds let it: a knapsack of convex values, solved by its price. Most N_i are
below 1: they are what a prompt gets in the mean. A draw keeps every update a fresh mixture of the pool; the deterministic
solutions that were tried came in blocks of like prompts, and taught less (docs/allocation-study.md). M prompts.

Where rollouts cost unlike many tokens c_i, and their sum is bounded too, N_i is proportional to sqrt(w_i / (c_i - s)): each
bound has its price, and s is the ratio of the two, negated.
"""

import numpy as np

from allocator.budget import Floats, Ints

PRICE_ROUNDS = 64
"""Bisections of the logarithm of the price: to the last digit."""
RATIO_ROUNDS = 24
"""Bisections of the ratio of two prices; what is left is mixed from both sides, so the sums are met exactly."""


def expected_rollouts(weight: Floats, budget: float, low: Floats, high: Floats) -> tuple[Floats, float]:
    """The N_i [M] in [low_i, high_i] that sum to the budget and make sum(w_i / N_i) least; and the price, w_i / N_i^2.

    Args:
        weight: [M] w_i >= 0.
        budget: between the sums of the bounds.
        low, high: [M] bounds, 0 <= low <= high.

    Raises:
        ValueError: a budget outside the bounds' sums, or a weight that is not finite and >= 0.

    """
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError(f"weight {np.argmin(np.isfinite(weight) & (weight >= 0))} is not a finite number >= 0")
    if not low.sum() - 1e-9 <= budget <= high.sum() + 1e-9:
        raise ValueError(f"the budget is {budget:g}; want {low.sum():g} to {high.sum():g}, the sums of the bounds")
    root = np.sqrt(np.maximum(weight, 1e-24))  # where nothing varies, all are alike
    below, above = 1e-12, 1e15  # N_i = scale root_i
    for _ in range(PRICE_ROUNDS):
        scale = np.sqrt(below * above)
        below, above = (below, scale) if np.clip(scale * root, low, high).sum() > budget else (scale, above)
    found = np.clip(below * root, low, high)
    free = (found > low) & (found < high)
    found[free] *= (budget - found[~free].sum()) / found[free].sum() if free.any() else 1.0
    return found, float(1.0 / below**2)


def within_cost(
    weight: Floats, budget: float, low: Floats, high: Floats, cost: Floats, most_cost: float
) -> tuple[Floats, float]:
    """As `expected_rollouts`, but with sum(cost_i N_i) at most `most_cost`, or as small as the bounds let it be.

    Args:
        cost: [M] of a rollout, > 0.
        most_cost: of all rollouts, in the same unit.
        weight, budget, low, high: as of `expected_rollouts`.

    Raises:
        ValueError: as `expected_rollouts`.

    """
    found, price = expected_rollouts(weight, budget, low, high)
    if cost @ found <= most_cost * (1 + 1e-9):
        return found, price
    least, span = float(cost.min()), float(np.ptp(cost))
    dear, cheap = found, _cheapest(budget, low, high, cost)
    below, above = 0.0, 2.0  # s goes from minus infinity at 0 to the least cost at 1, and to the greatest at 2
    for _ in range(RATIO_ROUNDS):
        middle = (below + above) / 2
        s = least + span * (middle - 1.0 if middle > 1.0 else 1.0 - 1.0 / middle)
        tried = _with_ratio(weight, budget, low, high, cost - s)
        if tried is None or cost @ tried <= most_cost:
            above, cheap = middle, cheap if tried is None else tried
        else:
            below, dear = middle, tried
    # Of prompts that weigh nothing all rollouts come at once, so the two may be far apart.
    excess, saved = float(cost @ dear - most_cost), float(cost @ dear - cost @ cheap)
    share = min(excess / saved, 1.0) if saved > 1e-9 * most_cost else 0.0
    return dear + share * (cheap - dear), price


def _with_ratio(weight: Floats, budget: float, low: Floats, high: Floats, margin: Floats) -> Floats | None:
    """The N_i [M] proportional to sqrt(w_i / margin_i), at their most where that is not above 0; None if those are too many."""
    rest = margin > 0
    left = budget - high[~rest].sum()
    if left < low[rest].sum():
        return None
    found = high.copy()
    if rest.any():
        left = min(left, high[rest].sum())
        found[rest] = expected_rollouts(weight[rest] / margin[rest], left, low[rest], high[rest])[0]
    return found


def _cheapest(budget: float, low: Floats, high: Floats, cost: Floats) -> Floats:
    """The N_i [M] in their bounds that sum to the budget at the least cost: the cheapest get their most first."""
    order = np.argsort(cost, kind="stable")
    room = (high - low)[order]
    before = np.cumsum(room) - room
    found = low.copy()
    found[order] += np.clip(budget - low.sum() - before, 0.0, room)
    return found


def drawn(expected: Floats, rng: np.random.Generator) -> Ints:
    """Whole numbers [M] with these expectations and their sum, each rounded down or up: systematic sampling.

    The prompts are laid end to end in a random order, and counted at equal distances from a random start.
    """
    order = rng.permutation(expected.size)
    edges = np.concatenate([[0.0], np.cumsum(expected[order])])
    edges[-1] = round(edges[-1])  # the sum is whole but for rounding errors
    counts = np.diff(np.floor(edges + rng.random()).astype(np.int64))
    rollouts = np.empty(expected.size, dtype=np.int64)
    rollouts[order] = counts
    return rollouts
