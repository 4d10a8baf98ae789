"""Spends a budget in parts of rollouts, by Neyman's allocation with bounds, and makes whole rollouts of it at random.

N_i rollouts of prompt i leave a variance of w_i / N_i in its mean gradient, w_i = E[p q] being the expected variance of its
rewards. The sum of these over the pool is least where N_i is proportional to sqrt(w_i) (Neyman, Journal of the Royal
Statistical Society 97, 1934), as far as the bounds let it: a knapsack of convex values, solved by its price. Most N_i are
below 1: they are what a prompt gets in the mean. A draw keeps every update a fresh mixture of the pool; the deterministic
solutions that were tried came in blocks of like prompts, and taught less (docs/allocation-study.md). M prompts.
"""

import numpy as np

from allocator.budget import Floats, Ints

ROUNDS = 200
"""Bisections of the logarithm of the price: to the last digit."""


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
    for _ in range(ROUNDS):
        scale = np.sqrt(below * above)
        below, above = (below, scale) if np.clip(scale * root, low, high).sum() > budget else (scale, above)
    found = np.clip(below * root, low, high)
    free = (found > low) & (found < high)
    found[free] *= (budget - found[~free].sum()) / found[free].sum() if free.any() else 1.0
    return found, float(1.0 / below**2)


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
