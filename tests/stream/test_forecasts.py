"""Beliefs as forecasts."""

import math

import numpy as np
import pytest
from factories import make_job, make_verdict
from hypothesis import given
from hypothesis import strategies as st

from stream.forecasts import beliefs_and_rewards, brier, calibration_error, group_losses, log_loss, reliability, skill
from stream.messages import Budgeting, Verdict

pairs = st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0, 1)), min_size=1, max_size=40)


@given(pairs)
def test_log_loss_and_calibration_are_what_a_few_lines_say(both: list[tuple[float, float]]) -> None:
    p, r = np.array(both).T
    expected = sum(-(y * math.log(x) + (1 - y) * math.log(1 - x)) for x, y in both) / len(both)
    assert log_loss(p, r) == pytest.approx(expected)
    error = 0.0
    for i in range(10):
        inside = [(x, y) for x, y in both if min(int(x * 10), 9) == i]
        error += abs(sum(x for x, _ in inside) - sum(y for _, y in inside))
    assert calibration_error(p, r) == pytest.approx(error / len(both))
    assert sum(b.num for b in reliability(p, r)) == len(both)


@given(pairs, st.integers(1, 20))
def test_each_bin_has_the_means_of_what_is_in_it(both: list[tuple[float, float]], bins: int) -> None:
    p, r = np.array(both).T
    inside: dict[int, list[tuple[float, float]]] = {}
    for x, y in both:
        inside.setdefault(min(int(x * bins), bins - 1), []).append((x, y))
    found = reliability(p, r, bins)
    assert [b.number for b in found] == sorted(inside)
    for b in found:
        xs, ys = zip(*inside[b.number], strict=True)
        assert (b.forecast, b.reward, b.num) == pytest.approx((sum(xs) / len(xs), sum(ys) / len(ys), len(xs)))


@given(pairs)
def test_brier_is_what_a_few_lines_say_and_least_at_the_mean(both: list[tuple[float, float]]) -> None:
    p, r = np.array(both).T
    assert brier(p, r) == pytest.approx(sum((x - y) ** 2 for x, y in both) / len(both))
    assert brier(np.full(r.size, r.mean()), r) == pytest.approx(r.var(), abs=1e-12)
    assert brier(np.full(r.size, p[0]), r) >= r.var() - 1e-12


@given(st.floats(0.01, 0.99), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_of_constant_forecasts_the_mean_has_the_least_log_loss(p: float, rewards: list[float]) -> None:
    r = np.array(rewards)
    assert log_loss(np.full(r.size, r.mean()), r) <= log_loss(np.full(r.size, p), r) + 1e-9


def test_skill_is_0_for_the_mean_1_for_the_sure_and_nothing_where_all_agree() -> None:
    r = np.array([1.0, 0.0, 0.0, 1.0])
    assert skill(np.full(4, 0.5), r) == pytest.approx(0.0)
    assert skill(r, r) == pytest.approx(1.0, abs=1e-4)
    assert skill(np.full(4, 0.3), r) < 0  # type: ignore[operator]
    assert skill(np.full(2, 0.9), np.ones(2)) is None


def verdict(a: float, b: float, reward: float, outcome: str = "correct") -> Verdict:
    reason = Budgeting(mode="", success_rate=0.5, num_observed=0, value=0.0, price=0.0, a=a, b=b)
    return make_verdict(reward=reward, outcome=outcome, job=make_job("g", 1, budgeting=reason))


def test_only_graded_rollouts_with_a_belief_are_scored() -> None:
    verdicts = [verdict(1, 3, 1.0), verdict(3, 1, 0.0), verdict(1, 1, 0.0, "timeout"), verdict(0, 0, 1.0)]
    forecasts, rewards = beliefs_and_rewards(verdicts)
    assert (forecasts.tolist(), rewards.tolist()) == ([0.25, 0.75], [1.0, 0.0])


def test_log_loss_of_a_group() -> None:
    # 2 of 3 right: -(2 ln p + ln(1 - p)) at p = .5 and p = .8
    assert group_losses(np.array([0.5, 0.8]), 2, 3) == pytest.approx([3 * 0.693147, 2 * 0.223144 + 1.609438], abs=1e-5)
    assert np.isfinite(group_losses(np.array([0.0, 1.0]), 1, 2)).all()
