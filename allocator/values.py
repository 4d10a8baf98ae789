"""Gives the value of rollouts on a prompt: concave functions of N, so that `allocator.budget` solves them exactly.

That of Li et al. (Knapsack RL, arXiv 2509.25849): V(N) = P(the group has both outcomes) x information gain
= (1 - p^N - q^N) p q^2, q = 1 - p. Its increments (p^n q + q^n p) p q^2 are sums of falling geometric sequences, so they fall
in n, and so does their mean over any belief in p. Legend: M prompts, K of them.
"""

from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from allocator.budget import Floats, Ints

Gain = tuple[int, int]
"""Exponents (g, h) of the information gain p^g q^h of a group that has both outcomes."""
PAPER_GAIN: Gain = (1, 2)
NO_GAIN: Gain = (0, 0)
MAX_TABLE, MAX_ROWS = 1 << 22, 1 << 12
"""Entries (32 MiB) and rows of the largest table of increments that is written down."""
CORRELATION = 0.5
"""Of the gradients of two rollouts of one prompt, in `Learnability`."""
FEW_ROWS = 64
"""Increments below the lower bound that are summed up, as no digit is lost in a sum."""


class Value(Protocol):
    """The value function of M prompts."""

    def value(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """V_i(n) of the prompts i given. [K], [K] -> [K]"""

    def marginal(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """V_i(n+1) - V_i(n), which never rises in n >= 2. [K], [K] -> [K]"""


# -- for a known success rate -----------------------------------------------------------------------------------------


def p_nonzero(p: Floats, num_rollouts: Ints) -> Floats:
    """Probability that N rollouts hold both a success and a failure: 1 - p^N - q^N. [M]

    The larger power is taken from 1 through logarithms, so that small probabilities keep all their digits.
    """
    q = 1.0 - p
    log = np.where(p < 0.5, np.log1p(-np.minimum(p, 0.5)), np.log1p(-np.minimum(q, 0.5)))
    return np.asarray(-np.expm1(num_rollouts * log) - np.minimum(p, q) ** num_rollouts)


def paper_value(p: Floats, num_rollouts: Ints) -> Floats:
    """V(N) of the paper. [M]"""
    return p_nonzero(p, num_rollouts) * p * (1.0 - p) ** 2


def rollouts_needed(p: Floats, confidence: float = 0.9) -> Floats:
    """Rollouts that Theorem 1 of arXiv 2509.25849 asks for: ln(1-confidence) / ln(max(p, q)); inf at p = 0 and 1. [M]

    A necessary bound, not a sufficient one, as max(p, q)^N <= p^N + q^N: at p = .5 it gives 4, with which both outcomes show in
    87.5 % of groups.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(1.0 - confidence) / np.log(np.maximum(p, 1.0 - p)))


class PlugIn:
    """P(both outcomes) p^g q^h at success rates p [M] that are taken for true.

    Raises:
        ValueError: a success rate that is not in [0, 1].

    """

    def __init__(self, p: Floats, gain: Gain = PAPER_GAIN) -> None:
        _check("success rate", p, (p >= 0) & (p <= 1), "a number from 0 to 1")
        self._p = p
        with np.errstate(divide="ignore"):
            self._log_p, self._log_q = np.log(p), np.log1p(-p)
        self._gain = p ** gain[0] * (1.0 - p) ** gain[1]
        self._gain_p, self._gain_q = self._gain * (1.0 - p), self._gain * p

    def value(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """V(N). [K]"""
        return p_nonzero(self._p[prompts], num_rollouts) * self._gain[prompts]

    def marginal(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """V(n+1) - V(n) = (p^n q + q^n p) p^g q^h. [K]"""
        successes = np.exp(self._log_p[prompts] * num_rollouts) * self._gain_p[prompts]
        failures = np.exp(self._log_q[prompts] * num_rollouts) * self._gain_q[prompts]
        return np.asarray(successes + failures)


def _check(name: str, values: Floats, good: NDArray[np.bool_], wanted: str) -> None:
    if not good.all():
        raise ValueError(f"the {name} of prompt {np.argmin(good)} is {values[np.argmin(good)]:g}; want {wanted}")


# -- in expectation over a belief -------------------------------------------------------------------------------------


class Expected:
    """E[P(both outcomes) p^g q^h] over beliefs p ~ Beta(a, b) [M]: in expectation, the paper's value with g, h = 1, 2.

    No special case for 0, 1 or unseen. With moments m(i, j) = E[p^i q^j] = (a)_i (b)_j / (a+b)_(i+j), rising
    factorials: V(N) = m(g, h) - m(N+g, h) - m(g, N+h), and V(n+1) - V(n) = m(n+g, h+1) + m(g+1, n+h).

    Raises:
        ValueError: an a or b that is not positive and finite.

    """

    def __init__(self, a: Floats, b: Floats, gain: Gain = PAPER_GAIN) -> None:
        for name, numbers in (("a", a), ("b", b)):
            _check(f"belief's {name}", numbers, (numbers > 0) & np.isfinite(numbers), "a positive, finite number")
        self._a, self._b, self._s = a, b, a + b
        self._gain = gain
        self._rising = _Rising(a), _Rising(b), _Rising(a + b)

    def value(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """E[V(N)]. [K]"""
        g, h = self._gain
        a, b, s = self._a[prompts], self._b[prompts], self._s[prompts]
        most = _times(_times(np.ones_like(s), a, s, g), b, s + g, h)
        lost_p, lost_q = self._moments(prompts, num_rollouts, h, g)
        return np.maximum(most - lost_p - lost_q, 0.0)

    def marginal(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """E[V(n+1) - V(n)]. [K]"""
        g, h = self._gain
        successes, failures = self._moments(prompts, num_rollouts, h + 1, g + 1)
        return successes + failures

    def table(self, low: int, high: int) -> Floats:
        """The increments at n = low to high - 1, by a recurrence that needs no special function. [high - low, M]"""
        g, h = self._gain
        prompts = np.arange(self._s.size)
        successes, failures = self._moments(prompts, np.full(prompts.size, low), h + 1, g + 1)
        table = np.empty((high - low, prompts.size))
        for row, n in enumerate(range(low, high)):
            np.add(successes, failures, out=table[row])
            rest = self._s + (n + g + h + 1)
            successes *= (self._a + (n + g)) / rest
            failures *= (self._b + (n + h)) / rest
        return table

    def _moments(self, prompts: Ints, n: Ints, i: int, j: int) -> tuple[Floats, Floats]:
        """E[p^(n+g) q^i] and E[p^j q^(n+h)]. [K] each"""
        g, h = self._gain
        a, b, s = self._a[prompts], self._b[prompts], self._s[prompts]
        least = min(g, h)
        p_m, q_m = self._powers(prompts, n + least)
        p_m = _times(p_m, a + (n + least), s + (n + least), g - least)
        q_m = _times(q_m, b + (n + least), s + (n + least), h - least)
        return _times(p_m, b, s + (n + g), i), _times(q_m, a, s + (n + h), j)

    def _powers(self, prompts: Ints, m: Ints) -> tuple[Floats, Floats]:
        """E[p^m] = (a)_m / (a+b)_m, and E[q^m] = (b)_m / (a+b)_m. [K] each"""
        rising_a, rising_b, rising_s = self._rising
        log_s, ten_s = rising_s.at(prompts, m)

        def ratio(rising: _Rising) -> Floats:
            log_x, ten_x = rising.at(prompts, m)
            exponent = log_x - log_s + m * (rising.log_y[prompts] - rising_s.log_y[prompts])
            return np.asarray(np.exp(exponent) * (ten_s / ten_x))

        return ratio(rising_a), ratio(rising_b)


def _times(product: Floats, x: Floats, s: Floats, num: int) -> Floats:
    """The product times (x)_num / (s)_num."""
    for k in range(num):
        product = product * ((x + k) / (s + k))
    return product


class _Rising:
    """Rising factorials (x)_m = x (x+1) ... (x+m-1) = G(x+m) / G(x) at any m, with relative errors of about m 1e-16.

    Stirling's series at y = x + 10 gives log G(y+m)/G(y) = (y+m-1/2) log1p(m/y) + m log y - m + s(y+m) - s(y); the ten
    factors that were added are divided out again. No two large numbers are subtracted, however large x is.
    """

    def __init__(self, x: Floats) -> None:
        self._x = x
        self._y = x + 10.0
        self.log_y = np.log(self._y)
        self._stirling = _stirling(self._y)
        self._ten = _ten_factors(x)

    def at(self, prompts: Ints, m: Ints) -> tuple[Floats, Floats]:
        """(l, t) with (x)_m = exp(l + m log_y - m) / t."""
        y = self._y[prompts]
        log = (y + (m - 0.5)) * np.log1p(m / y) + (_stirling(y + m) - self._stirling[prompts])
        return log, _ten_factors(self._x[prompts] + m) / self._ten[prompts]


def _stirling(y: Floats) -> Floats:
    """Stirling's series: log G(y) - (y - 1/2) log y + y - log(2 pi) / 2, within 2e-14 for y >= 10."""
    r = 1.0 / y
    rr = r * r
    return r * (1 / 12 - rr * (1 / 360 - rr * (1 / 1260 - rr * (1 / 1680 - rr / 1188))))


def _ten_factors(x: Floats) -> Floats:
    """The product x (x+1) ... (x+9), in pairs from both ends."""
    w = x * (x + 9.0)
    return w * (w + 8.0) * (w + 14.0) * (w + 18.0) * (w + 20.0)


class Shared:
    """`Expected` for n from low to high, computed once for all prompts of one belief, as a table where it is small."""

    def __init__(self, a: Floats, b: Floats, low: int, high: int, gain: Gain = PAPER_GAIN) -> None:
        kinds, self._kind = _kinds(a, b)
        self._expected = Expected(a[kinds], b[kinds], gain)
        self._low = low
        small = high - low <= MAX_ROWS and kinds.size * (high - low) <= MAX_TABLE
        self._table = self._expected.table(low, high) if small else None

    @cached_property
    def _values(self) -> Floats:
        """V(low) to V(high), the increments summed up: from V(1) = 0 where there are few. [high - low + 1, kinds]"""
        assert self._table is not None
        kinds = np.arange(self._table.shape[1])
        if self._low <= FEW_ROWS:
            first = self._expected.table(1, self._low).sum(axis=0)
        else:
            first = self._expected.value(kinds, np.full(kinds.size, self._low))
        return np.cumsum(np.vstack([first, self._table]), axis=0)

    def value(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """E[V(N)]. [K]"""
        if self._table is None:
            return self._expected.value(self._kind[prompts], num_rollouts)
        return np.asarray(self._values[num_rollouts - self._low, self._kind[prompts]])

    def marginal(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """E[V(n+1) - V(n)]. [K]"""
        if self._table is None:
            return self._expected.marginal(self._kind[prompts], num_rollouts)
        return np.asarray(self._table[num_rollouts - self._low, self._kind[prompts]])


class Learnability:
    """E[p q] times what N rollouts are worth: p q is the variance of a reward, so of its gradient about a baseline of p.

    It is the prompt's learnability (Rutherford et al., arXiv 2408.15099). Rollouts of one prompt repeat one another: their
    gradients have a correlation, CORRELATION, so n of them are worth n / (1 + (n-1) CORRELATION) independent ones (Kish,
    Survey Sampling, 1965: the design effect). V(0) = 0, V is concave, and where all have many the optimum is Neyman's
    allocation (`allocator.neyman`): N_i proportional to sqrt(E[p q]).
    """

    def __init__(self, a: Floats, b: Floats) -> None:
        s = a + b
        self._weight = a * b / (s * (s + 1.0))

    def value(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """V(N). [K]"""
        return np.asarray(self._weight[prompts] * _independent(num_rollouts))

    def marginal(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """V(n+1) - V(n). [K]"""
        return np.asarray(self._weight[prompts] * (_independent(num_rollouts + 1) - _independent(num_rollouts)))


def _independent(n: Ints) -> Floats:
    """Independent rollouts that n of one prompt are worth."""
    return np.asarray(n / (1.0 + (n - 1.0) * CORRELATION))


def _kinds(a: Floats, b: Floats) -> tuple[Ints, Ints]:
    """One prompt of each kind of belief, and the kind of every prompt. [kinds], [M]"""
    _, kind_a = np.unique(a, return_inverse=True)
    _, kind_b = np.unique(b, return_inverse=True)
    _, kinds, kind = np.unique(kind_a * (int(kind_b.max()) + 1) + kind_b, return_index=True, return_inverse=True)
    return kinds, kind


class VarianceRemoved:
    """How much lower the expected gradient variance is than with two rollouts (VIP, arXiv 2602.01601).

    A group's gradient with the leave-one-out baseline has a variance proportional to p q / (N-1); the least sum over
    the prompts is the greatest sum of E[p q] (1 - 1/(N-1)).
    """

    def __init__(self, a: Floats, b: Floats) -> None:
        s = a + b
        self._weight = a * b / (s * (s + 1.0))  # E[p q]

    def value(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """E[p q] (1 - 1/(N-1)), N >= 2. [K]"""
        return self._weight[prompts] * (1.0 - 1.0 / (num_rollouts - 1.0))

    def marginal(self, prompts: Ints, num_rollouts: Ints) -> Floats:
        """E[p q] / (n (n-1)). [K]"""
        return np.asarray(self._weight[prompts] / (num_rollouts * (num_rollouts - 1.0)))
