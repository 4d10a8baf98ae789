import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.values import p_nonzero, paper_marginal, paper_value, rollouts_needed


@given(st.floats(0, 1), st.integers(1, 200))
def test_marginal_is_the_difference_of_values_and_never_rises(p: float, n: int) -> None:
    rate, now = np.array([p]), np.array([n])
    difference = paper_value(rate, now + 1) - paper_value(rate, now)
    assert paper_marginal(rate, now)[0] == pytest.approx(difference[0], abs=1e-15)
    assert paper_marginal(rate, now + 1)[0] <= paper_marginal(rate, now)[0]


def test_value_against_hand_computed_numbers() -> None:
    # (1 - .5^2 - .5^2) .5 .5^2 = .0625; (1 - .25^3 - .75^3) .25 .75^2 = .5625 * .140625
    assert paper_value(np.array([0.5, 0.25]), np.array([2, 3])).tolist() == [0.0625, 0.0791015625]
    assert paper_value(np.array([0.0, 1.0]), np.array([50, 50])).tolist() == [0.0, 0.0]


def test_theorem_1_is_necessary_and_not_sufficient() -> None:
    needed = np.ceil(rollouts_needed(np.array([0.5, 0.25, 0.1, 0.05, 0.01])))
    assert needed.tolist() == [4, 9, 22, 45, 230]
    assert p_nonzero(np.array([0.5]), np.array([4]))[0] == 0.875
    assert np.isinf(rollouts_needed(np.array([0.0, 1.0]))).all()
