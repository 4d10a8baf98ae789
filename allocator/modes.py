"""Turns beliefs into budgets: beliefs, a budget and bounds in, rollouts out.

Every mode spends the budget exactly, within the bounds (law 4); with costs it spends at most the budget. `allocate` is the
whole of it as one function, numpy in and out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from allocator.budget import MAX_BUDGET, Floats, Ints, check_budget, level, solve, spread, total_cost
from allocator.prior import learn_prior, numbered
from allocator.values import (
    NO_GAIN,
    PAPER_GAIN,
    Gain,
    Learnability,
    PlugIn,
    Shared,
    Value,
    VarianceRemoved,
    rollouts_needed,
)

MIN_TRIALS = 8
"""Fewer trials than this and the paper's rule counts a prompt as unseen (min_buffer_length of its code)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """What is believed of the success rates of M prompts."""

    rate: Floats  # [M]
    """The paper's plug-in estimate; nan for a prompt that counts as unseen."""
    a: Floats  # [M]
    b: Floats  # [M]
    """The posterior Beta(a, b)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """A decision for M prompts."""

    num_rollouts: Ints  # [M]
    """Sums to the budget (with costs: costs at most the budget)."""
    value: Floats  # [M]
    """V_i(N_i) under the mode's value function; 0 where it knows none (`uniform` and `paper`, prompts unseen)."""
    success_rate: Floats  # [M]
    """What was believed; nan for unseen."""
    price: float
    """Value (per cost) of the least increment bought; 0 where the mode knows no price."""
    spent: float
    """Rollouts, or what they cost."""
    gap: float
    """The best total value under the budget is at most this above `value.sum()`; 0 without costs: it is the best.

    Also 0 where nothing is maximised (`uniform` and `paper`), and then it certifies nothing.
    """


Mode = Callable[[Beliefs, float, Ints, Ints, Floats | None], Allocation]
"""(beliefs, budget, low [M], high [M], cost [M] or None) -> allocation."""


def allocate(
    successes: ArrayLike,
    trials: ArrayLike,
    budget: float,
    *,
    mode: str = "bayes",
    min_rollouts: ArrayLike | None = None,
    max_rollouts: ArrayLike = 128,
    cost: ArrayLike | None = None,
    task: Sequence[Any] | ArrayLike | None = None,
    level: Sequence[Any] | ArrayLike | None = None,
    prior: tuple[float, float] | None = None,
) -> Allocation:
    """How many rollouts each of M prompts gets.

    Args:
        successes: [M] past successes; rewards between 0 and 1 count as fractions of a success.
        trials: [M] past rollouts; 0 for a prompt never seen. Counts may be discounted.
        budget: rollouts to spend, all of them; with `cost` the most that the rollouts may cost together.
        mode: `bayes` (expected value under the posterior), `paper` (the rule of arXiv 2509.25849), `uniform`,
            `p_nonzero` (most groups with a gradient), `variance` (least gradient variance, as VIP), `learnability` (most
            E[p(1-p)], where a rollout needs no group).
        min_rollouts, max_rollouts: bounds, one for all or [M]. The lower one is at least 2, and 2 if left out; with
            `learnability` at least 0, and 0.
        cost: [M] cost of one rollout of each prompt, e.g. its expected tokens.
        task, level: [M] any labels; what is learned of a prompt is shared most within its level of its task.
        prior: (A, B) of a fixed Beta prior; without it one is learned from the counts.

    Raises:
        ValueError: counts, costs or bounds that cannot be, an unknown mode, or a budget that no allocation meets.

    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; want one of {', '.join(MODES)}")
    wins, counts = _numbers("successes", successes), _numbers("trials", trials)
    check_counts(wins, counts)
    least = 0 if mode == "learnability" else 2
    low = _bounds("min", least if min_rollouts is None else min_rollouts, counts.size)
    high = _bounds("max", max_rollouts, counts.size)
    costs = None if cost is None else _numbers("cost", cost, counts.size)
    check_budget(budget, low, high, costs, least)
    a, b = _prior(wins, counts, _labels("task", task, counts.size), _labels("level", level, counts.size), prior)
    rate = np.divide(wins, counts, out=np.full(counts.size, np.nan), where=counts >= MIN_TRIALS)
    return MODES[mode](Beliefs(rate=rate, a=a + wins, b=b + counts - wins), budget, low, high, costs)


# -- the modes --------------------------------------------------------------------------------------------------------


def uniform(beliefs: Beliefs, budget: float, low: Ints, high: Ints, cost: Floats | None = None) -> Allocation:
    """The same for all, as far as the bounds let it; what is left goes to the first prompts, one each."""
    check_budget(budget, low, high, cost)
    rollouts = level(low, high, budget - total_cost(low, cost), cost)
    spread(rollouts, np.ones(low.size, dtype=bool), budget - total_cost(rollouts, cost), high, cost)
    return _plug_in(beliefs, rollouts, cost)


def paper(beliefs: Beliefs, budget: float, low: Ints, high: Ints, cost: Floats | None = None) -> Allocation:
    """The rule of Li et al. (arXiv 2509.25849) with its fallback, without the defects of their code.

    (The code, KnapsackRL at ca5d5f5, scores the lower bound as worth nothing, lets unseen prompts take fallback, does not keep
    max_rollouts there, and fails where all prompts are effective and need less than the budget.)

    Unseen prompts get what `uniform` would give them. Those never or always solved (p = 0, p = 1) get the lower bound.
    The rest is spent by the knapsack on the others, up to what Theorem 1 says they need; a surplus (the fallback) goes
    evenly to the prompts never solved; what these have no room for to the other two kinds, then to all.
    """
    check_budget(budget, low, high, cost)
    rate = beliefs.rate
    effective, never = (rate > 0) & (rate < 1), rate == 0
    if not (effective | never).any():
        return uniform(beliefs, budget, low, high, cost)
    even = level(low, high, budget - total_cost(low, cost), cost)
    rollouts, price = np.where(np.isnan(rate), even, low), 0.0
    if effective.any():
        p, least, most = rate[effective], low[effective], high[effective]
        costs = None if cost is None else cost[effective]
        needed = np.clip(np.floor(rollouts_needed(p)), least, most).astype(np.int64)
        available = budget - total_cost(np.where(effective, 0, rollouts), cost)
        solution = solve(PlugIn(p).marginal, min(available, total_cost(needed, costs)), least, most, costs)
        rollouts[effective], price = solution.num_rollouts, solution.price
    surplus = budget - total_cost(rollouts, cost)
    for among in (never, ~effective, effective):
        surplus = spread(rollouts, among, surplus, high, cost)
    return _plug_in(beliefs, rollouts, cost, price if np.isfinite(price) else 0.0)


def _plug_in(beliefs: Beliefs, rollouts: Ints, cost: Floats | None, price: float = 0.0) -> Allocation:
    known = np.nan_to_num(beliefs.rate)
    value = PlugIn(known).value(np.arange(known.size), rollouts)
    return Allocation(
        num_rollouts=rollouts,
        value=np.where(np.isnan(beliefs.rate), 0.0, value),
        success_rate=beliefs.rate,
        price=price,
        spent=total_cost(rollouts, cost),
        gap=0.0,
    )


ValueOf = Callable[[Beliefs, int, int], Value]
"""(beliefs, least of all N, most of all N) -> the value function of the prompts."""


def _expected(gain: Gain) -> ValueOf:
    return lambda beliefs, low, high: Shared(beliefs.a, beliefs.b, low, high, gain)


VALUES: dict[str, ValueOf] = {
    "bayes": _expected(PAPER_GAIN),
    "p_nonzero": _expected(NO_GAIN),
    "variance": lambda beliefs, low, high: VarianceRemoved(beliefs.a, beliefs.b),
}
"""The value functions of the modes that maximise one: they have a price."""


def _optimal(value_of: ValueOf, least: int = 2) -> Mode:
    """The mode that maximises a value function, given the beliefs and the bounds of all N, which are `least` or more."""

    def mode(beliefs: Beliefs, budget: float, low: Ints, high: Ints, cost: Floats | None = None) -> Allocation:
        check_budget(budget, low, high, cost, least)
        most = high if cost is not None else np.minimum(high, low + (int(budget) - int(low.sum())))
        value = value_of(beliefs, int(low.min()), int(most.max()))
        solution = solve(value.marginal, budget, low, high, cost, least)
        return Allocation(
            num_rollouts=solution.num_rollouts,
            value=value.value(np.arange(low.size), solution.num_rollouts),
            success_rate=beliefs.a / (beliefs.a + beliefs.b),
            price=solution.price if np.isfinite(solution.price) else 0.0,
            spent=solution.spent,
            gap=solution.gap,
        )

    return mode


MODES: dict[str, Mode] = {
    "uniform": uniform,
    "paper": paper,
    **{name: _optimal(value_of) for name, value_of in VALUES.items()},
    "learnability": _optimal(lambda beliefs, low, high: Learnability(beliefs.a, beliefs.b), least=0),
}


# -- input ------------------------------------------------------------------------------------------------------------


def check_counts(successes: Floats, trials: Floats) -> None:
    """Refuse counts that cannot be.

    Raises:
        ValueError: the first prompt (from 0) whose counts are not finite, negative, or successes > trials.

    """
    for name, values in (("successes", successes), ("trials", trials)):
        bad = ~np.isfinite(values) | (values < 0)
        if bad.any():
            raise ValueError(f"prompt {np.argmax(bad)} has {name} {values[bad][0]:g}; want a finite number >= 0")
    if successes.size != trials.size:
        raise ValueError(f"there are {successes.size} successes and {trials.size} trials; want one each per prompt")
    over = successes > trials
    if over.any():
        raise ValueError(
            f"prompt {np.argmax(over)} has {successes[over][0]:g} successes in {trials[over][0]:g} trials; "
            "want successes <= trials"
        )


def _numbers(name: str, values: ArrayLike, size: int | None = None) -> Floats:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} are not numbers ({error})") from None
    if numbers.ndim != 1 or (size is not None and numbers.size != size):
        raise ValueError(f"{name} has the shape {numbers.shape}; want one number per prompt")
    return numbers


def _bounds(name: str, bounds: ArrayLike, size: int) -> Ints:
    try:
        numbers = np.asarray(bounds, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}_rollouts is not a number ({error})") from None
    if numbers.ndim > 1 or (numbers.ndim == 1 and numbers.size != size):
        raise ValueError(f"{name}_rollouts has the shape {numbers.shape}; want one number, or one per prompt")
    each = np.broadcast_to(numbers, size)
    bad = ~((each == np.floor(each)) & (np.abs(each) <= MAX_BUDGET))
    if bad.any():
        raise ValueError(f"{name}_rollouts is {each[bad][0]:g}; want a whole number up to {MAX_BUDGET}")
    return each.astype(np.int64)


def _labels(name: str, values: Sequence[Any] | ArrayLike | None, size: int) -> Ints:
    if values is None:
        return np.zeros(size, dtype=np.int64)
    labels: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)  # type: ignore[arg-type]
    if len(labels) != size:
        raise ValueError(f"{name} has {len(labels)} labels; want one per prompt, {size}")
    try:
        return numbered(labels)
    except TypeError as error:
        raise ValueError(f"{name} has labels that cannot be told apart ({error}); want strings or numbers") from None


def _prior(
    successes: Floats, trials: Floats, task: Ints, level: Ints, fixed: tuple[float, float] | None
) -> tuple[Floats, Floats]:
    if fixed is not None:
        pair = _numbers("the prior's numbers", fixed)
        if pair.size != 2 or not (np.isfinite(pair) & (pair > 0)).all():
            raise ValueError(
                f"the prior is Beta({', '.join(f'{x:g}' for x in pair)}); want two positive, finite numbers"
            )
        return np.full(trials.size, pair[0]), np.full(trials.size, pair[1])
    if trials.size == 0:
        return trials, trials
    _, level_of_task = np.unique(task * (int(level.max()) + 1) + level, return_inverse=True)
    prior = learn_prior(successes, trials, task, level_of_task)
    return prior.a, prior.b
