"""When a curve reaches an accuracy, and by how much one is ahead."""

import math

import pytest

from benchmarks.time_to import ratio, reached

CURVE = [(0, 0.0, 0.40), (10, 5.0, 0.50), (20, 9.0, 0.48), (30, 14.0, 0.60)]


@pytest.mark.parametrize(
    ("accuracy", "at"),
    [(0.45, (5, 2.5)), (0.50, (10, 5)), (0.54, (25, 11.5)), (0.60, (30, 14)), (0.61, None), (0.40, None), (0.39, None)],
)
def test_an_accuracy_is_reached_between_two_evaluations(accuracy: float, at: tuple[float, float] | None) -> None:
    assert reached(CURVE, accuracy) == (None if at is None else pytest.approx(at))


def test_a_ratio_is_the_geometric_mean_with_the_interval_of_its_logarithms() -> None:
    assert ratio([2.0], [3.0]) == "1.50"
    # Logarithms 0 and log 4: mean log 2, deviation log 4 / sqrt 2, so the half is 12.71 * log 4 / 2.
    half = 12.71 * math.log(4) / 2
    assert ratio([1.0, 1.0], [1.0, 4.0]) == f"2.00 ({2 * math.exp(-half):.2f} to {2 * math.exp(half):.2f})"
