import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.budget import Floats, Ints, solve
from allocator.values import (
    NO_GAIN,
    Expected,
    Learnability,
    PlugIn,
    Shared,
    VarianceRemoved,
    p_nonzero,
    paper_value,
)

ZERO = np.array([0])
shapes = st.floats(0.01, 2000)


def paper_marginal(p: Floats, num_rollouts: Ints) -> Floats:
    """V(N+1) - V(N) of the paper, as it is written there."""
    q = 1.0 - p
    return (p**num_rollouts * q + q**num_rollouts * p) * p * q**2


@given(st.floats(0, 1), st.integers(1, 200))
def test_marginal_is_the_difference_of_values_and_never_rises(p: float, n: int) -> None:
    rate, now = np.array([p]), np.array([n])
    difference = paper_value(rate, now + 1) - paper_value(rate, now)
    assert paper_marginal(rate, now)[0] == pytest.approx(difference[0], abs=1e-15)
    assert paper_marginal(rate, now + 1)[0] <= paper_marginal(rate, now)[0]
    assert PlugIn(rate).marginal(ZERO, now)[0] == pytest.approx(paper_marginal(rate, now)[0], rel=1e-12, abs=1e-300)
    assert PlugIn(rate).value(ZERO, now)[0] == pytest.approx(paper_value(rate, now)[0], rel=1e-13)


def test_value_against_hand_computed_numbers() -> None:
    # (1 - .5^2 - .5^2) .5 .5^2 = .0625; (1 - .25^3 - .75^3) .25 .75^2 = .5625 * .140625
    assert paper_value(np.array([0.5, 0.25]), np.array([2, 3])).tolist() == [0.0625, 0.0791015625]
    assert paper_value(np.array([0.0, 1.0]), np.array([50, 50])).tolist() == [0.0, 0.0]


# -- in expectation ---------------------------------------------------------------------------------------------------


def in_expectation(a: float, b: float, of: np.ndarray, nodes: np.ndarray, weights: np.ndarray) -> float:
    """E[of(p)] for p ~ Beta(a, b), by Gauss-Legendre quadrature (exact here: a, b whole numbers, polynomials)."""
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return float(weights @ (of * nodes ** (a - 1) * (1 - nodes) ** (b - 1)) / math.exp(log_beta))


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 9), (30, 4), (17, 60)])
def test_expected_values_agree_with_quadrature(a: int, b: int) -> None:
    x, weights = np.polynomial.legendre.leggauss(200)
    p, weights = (x + 1) / 2, weights / 2
    belief = np.array([float(a)]), np.array([float(b)])
    for n in (2, 3, 8, 40, 128):
        many = np.full(p.size, n)
        paper, nonzero = Expected(*belief), Expected(*belief, NO_GAIN)
        for value, of in ((paper, paper_value(p, many)), (nonzero, p_nonzero(p, many))):
            assert value.value(ZERO, np.array([n]))[0] == pytest.approx(in_expectation(a, b, of, p, weights), rel=1e-9)
        slope = in_expectation(a, b, paper_marginal(p, many), p, weights)
        assert paper.marginal(ZERO, np.array([n]))[0] == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (0.5, 0.5, 0.053226470947265625),
        (1, 1, 0.07424242424242423),
        (0.5, 16.5, 0.01026144021576639),
        (16.5, 0.5, 0.0012713554193931422),
        (2, 9, 0.08231551730003743),
    ],
)
def test_expected_value_of_eight_rollouts(a: float, b: float, expected: float) -> None:
    value = Expected(np.array([a], float), np.array([b], float))
    assert value.value(ZERO, np.array([8]))[0] == pytest.approx(expected, rel=1e-13)


@given(shapes, shapes, st.integers(2, 400), st.sampled_from([(1, 2), (0, 0), (0, 1), (2, 1)]))
def test_expected_marginals_are_differences_of_values_and_fall(
    a: float, b: float, n: int, gain: tuple[int, int]
) -> None:
    value = Expected(np.array([a]), np.array([b]), gain)
    here, there = np.array([n]), np.array([n + 1])
    difference = value.value(ZERO, there)[0] - value.value(ZERO, here)[0]
    # Values near 1, whose difference cancels, come from lgamma of hundreds: right to 1e-12, as the difference is.
    assert value.marginal(ZERO, here)[0] == pytest.approx(difference, rel=1e-9, abs=1e-12)
    assert value.marginal(ZERO, there)[0] < value.marginal(ZERO, here)[0]


@given(shapes, shapes, st.integers(2, 9), st.integers(1, 300))
def test_table_by_recurrence_agrees_with_the_closed_form(a: float, b: float, low: int, rows: int) -> None:
    value = Expected(np.array([a]), np.array([b]))
    n = np.arange(low, low + rows)
    closed = value.marginal(np.zeros(rows, dtype=np.int64), n)
    np.testing.assert_allclose(value.table(low, low + rows)[:, 0], closed, rtol=1e-11)
    assert (np.diff(value.table(low, low + rows)[:, 0]) < 0).all()


def test_sure_beliefs_are_worth_what_the_plug_in_says() -> None:
    p, n = np.array([0.02, 0.3, 0.9]), np.array([40, 8, 20])
    sure = Expected(1e9 * p, 1e9 * (1 - p))
    np.testing.assert_allclose(sure.value(np.arange(3), n), paper_value(p, n), rtol=1e-6)
    np.testing.assert_allclose(sure.marginal(np.arange(3), n), paper_marginal(p, n), rtol=1e-6)


@pytest.mark.parametrize("high", [60, 2_000_000])
def test_prompts_of_one_belief_share_one_column(high: int) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(1, 4, (2, 200)) / 2
    prompts, n = np.arange(200), rng.integers(2, 60, 200)
    shared, each = Shared(a, b, 2, high), Expected(a, b)
    np.testing.assert_allclose(shared.value(prompts, n), each.value(prompts, n), rtol=1e-11)
    np.testing.assert_allclose(shared.marginal(prompts[::-1], n), each.marginal(prompts[::-1], n), rtol=1e-11)


def test_variance_removed_is_that_of_the_leave_one_out_gradient() -> None:
    # Rewards minus the mean of the others, times scores that do not depend on them: enumerated for N = 2, 3, 4.
    p, removed = 0.3, VarianceRemoved(np.array([3e8]), np.array([7e8]))
    variances = []
    for n in (2, 3, 4):
        outcomes = np.array(np.meshgrid(*[[0, 1]] * n)).reshape(n, -1)
        chance = np.prod(np.where(outcomes == 1, p, 1 - p), axis=0)
        advantage = outcomes - (outcomes.sum(axis=0) - outcomes) / (n - 1)
        variances.append(float(chance @ (advantage**2).sum(axis=0)) / n**2)
    for n, variance in zip((2, 3, 4), variances, strict=True):
        assert removed.value(ZERO, np.array([n]))[0] == pytest.approx(variances[0] - variance, abs=1e-8)
    assert removed.marginal(ZERO, np.array([3]))[0] == pytest.approx(variances[1] - variances[2], abs=1e-8)


@pytest.mark.parametrize("p", [1e-300, 1e-12, 1 - 2.0**-40])
@pytest.mark.parametrize("n", [2, 3, 128])
def test_small_probabilities_keep_their_digits(p: float, n: int) -> None:
    rate = Fraction(p)
    exact = float(1 - rate**n - (1 - rate) ** n)
    assert p_nonzero(np.array([p]), np.array([n]))[0] == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize(("a", "b"), [(1e-3, 1e3), (1e3, 1e-3), (1.0, 1e12), (1e-12, 1.0)])
def test_values_under_extreme_beliefs_keep_their_digits(a: float, b: float) -> None:
    """Against sums of exact moments: the closed form alone loses digits where the moments nearly cancel."""

    def moment(i: int, j: int) -> Fraction:
        top = [Fraction(a) + k for k in range(i)] + [Fraction(b) + k for k in range(j)]
        return math.prod(top, start=Fraction(1)) / math.prod(Fraction(a) + Fraction(b) + k for k in range(i + j))

    shared = Shared(np.array([a]), np.array([b]), 2, 40)
    for n in (2, 3, 40):
        exact = float(moment(1, 2) - moment(n + 1, 2) - moment(1, n + 2))
        assert shared.value(ZERO, np.array([n]))[0] == pytest.approx(exact, rel=1e-12)


def test_rates_and_beliefs_that_cannot_be_are_named() -> None:
    for rate in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=f"the success rate of prompt 1 is {rate:g}; want a number from 0 to 1"):
            PlugIn(np.array([0.5, rate]))
    for a, b, name in ((0.0, 1.0, "a"), (1.0, float("inf"), "b")):
        with pytest.raises(ValueError, match=f"the belief's {name} of prompt 0 is .*; want a positive, finite number"):
            Expected(np.array([a]), np.array([b]))


# -- without groups ---------------------------------------------------------------------------------------------------


@given(shapes, shapes, st.integers(0, 500))
def test_learnability_is_concave_from_no_rollouts_on(a: float, b: float, n: int) -> None:
    value = Learnability(np.array([a]), np.array([b]))
    now, after = np.array([n]), np.array([n + 1])
    difference = value.value(ZERO, after) - value.value(ZERO, now)
    assert value.marginal(ZERO, now)[0] == pytest.approx(difference[0], rel=1e-6, abs=1e-12)
    assert 0 <= value.marginal(ZERO, after)[0] <= value.marginal(ZERO, now)[0]
    assert value.value(ZERO, ZERO)[0] == 0.0


def test_a_first_rollout_is_worth_the_expected_variance_of_its_reward() -> None:
    a, b = np.array([1.0, 2.0]), np.array([1.0, 6.0])  # E[p q] = ab / ((a+b)(a+b+1)): 1/6, 12/72
    value = Learnability(a, b)
    assert value.value(np.arange(2), np.ones(2, dtype=np.int64)) == pytest.approx([1 / 6, 1 / 6])
    # Two with a correlation of 1/2 are worth 2 / (1 + 1/2) = 4/3 independent ones.
    assert value.value(ZERO, np.array([2]))[0] == pytest.approx(4 / 3 / 6)


def test_over_many_rollouts_budgets_go_with_the_root_of_the_variance() -> None:
    p = np.array([0.5, 0.1, 0.02])
    value = Learnability(1e6 * p, 1e6 * (1 - p))
    solution = solve(value.marginal, 30_000, np.zeros(3, dtype=np.int64), np.full(3, 30_000), least=0)
    root = np.sqrt(p * (1 - p))
    assert solution.num_rollouts / 30_000 == pytest.approx(root / root.sum(), abs=1e-3)
