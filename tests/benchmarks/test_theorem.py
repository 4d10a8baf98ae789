"""Theorem 1: its bound is necessary and not sufficient, what suffices, and the exact numbers between."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.values import p_nonzero, rollouts_needed
from benchmarks.theorem import expected_rollouts, least_rollouts, rollouts_enough

RATES = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])


def test_three_numbers_at_90_percent():
    assert np.ceil(rollouts_needed(RATES)).tolist() == [230, 45, 22, 9, 4, 9, 22, 45, 230]
    assert least_rollouts(RATES).tolist() == [230, 45, 22, 9, 5, 9, 22, 45, 230]
    assert np.ceil(rollouts_enough(RATES)).tolist() == [299, 59, 29, 11, 5, 11, 29, 59, 299]


def test_theorem_1_is_necessary_and_not_sufficient() -> None:
    p = np.array([0.5, 0.25, 0.1, 0.05, 0.01])
    assert np.ceil(rollouts_needed(p)).tolist() == [4, 9, 22, 45, 230]
    assert p_nonzero(np.array([0.5]), np.array([4]))[0] == 0.875
    assert np.isinf(rollouts_needed(np.array([0.0, 1.0]))).all()
    enough = np.ceil(rollouts_enough(p)).astype(np.int64)
    assert enough.tolist() == [5, 11, 29, 59, 299]
    assert (p_nonzero(p, enough) >= 0.9).all()


def test_theorems_bound_is_not_sufficient_at_one_half():
    assert p_nonzero(np.array([0.5]), np.array([4])) == pytest.approx(0.875)
    assert p_nonzero(np.array([0.5]), np.array([5])) == pytest.approx(0.9375)


def test_expected_rollouts_closed_form():
    expected = [100.010101, 20.052632, 10.111111, 4.333333, 3.0, 4.333333, 10.111111, 20.052632, 100.010101]
    assert expected_rollouts(RATES) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
def test_expected_rollouts_are_those_of_simulated_groups(p):
    rng = np.random.default_rng(1)
    outcomes = rng.random((20_000, 400)) < p
    first_other = np.argmax(outcomes != outcomes[:, :1], axis=1)  # place of the first that differs from the first
    assert (first_other > 0).all()
    error = first_other.std() / np.sqrt(len(first_other))
    assert first_other.mean() + 1 == pytest.approx(expected_rollouts(np.array([p]))[0], abs=5 * error)


@given(p=st.floats(1e-4, 1 - 1e-4), confidence=st.floats(0.01, 0.999))
def test_least_is_enough_and_one_fewer_is_not(p, confidence):
    rate = np.array([p])
    least = least_rollouts(rate, confidence)
    assert p_nonzero(rate, least) >= confidence
    assert least[0] >= 2
    assert p_nonzero(rate, least - 1) < confidence


@given(p=st.floats(1e-4, 1 - 1e-4), confidence=st.floats(0.01, 0.999))
def test_least_lies_between_the_bounds(p, confidence):
    rate = np.array([p])
    least = least_rollouts(rate, confidence)[0]
    assert rollouts_needed(rate, confidence)[0] - 1e-6 <= least <= np.ceil(rollouts_enough(rate, confidence)[0] + 1e-6)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, np.nan])
def test_no_number_is_enough_for_a_sure_prompt(p):
    with pytest.raises(ValueError, match="success rate is"):
        least_rollouts(np.array([0.5, p]))


def test_confidence_must_be_a_probability_below_one():
    with pytest.raises(ValueError, match=r"confidence is 1\.0"):
        least_rollouts(np.array([0.5]), 1.0)
