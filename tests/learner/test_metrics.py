"""Figures of an update's groups."""

import math

import numpy as np
import pytest
from factories import make_job, make_verdict

from learner.groups import Group, group_end
from learner.metrics import batch_metrics, belief_metrics
from stream.messages import Budgeting


def test_beliefs_are_scored_as_forecasts() -> None:
    found = belief_metrics(np.array([0.25, 0.75]), np.array([1.0, 0.0]))
    assert found == pytest.approx(
        {
            "learner/belief/log_loss": math.log(4),
            "learner/belief/calibration_error": 0.75,
            "learner/belief/skill": 1 - math.log(4) / math.log(2),
        }
    )


def test_where_all_rewards_agree_there_is_no_skill_and_without_beliefs_nothing() -> None:
    assert set(belief_metrics(np.array([0.9]), np.array([1.0]))) == {
        "learner/belief/log_loss",
        "learner/belief/calibration_error",
    }
    assert belief_metrics(np.zeros(0), np.zeros(0)) == {}


def single(group_id: str, reward: float, a: float = 0.0, b: float = 0.0, outcome: str = "") -> Group:
    """A group of one rollout; its job holds a belief if `a` is positive."""
    reason = Budgeting(mode="uniform", success_rate=0.5, num_observed=0, value=0.0, price=0.0, a=a, b=b)
    job = make_job(group_id, 1, budgeting=reason)
    verdict = make_verdict(reward=reward, outcome=outcome or ("correct" if reward else "wrong"), job=job)
    return Group(group_id, 1, {0: verdict})


def metrics_of(*groups: Group) -> dict[str, float]:
    return batch_metrics(groups, [group_end(group, version=0, stale_after=4, group_mean=False) for group in groups])


def test_an_update_scores_the_beliefs_of_its_graded_rollouts() -> None:
    found = metrics_of(
        single("p0.0000", 1.0, 1, 3), single("p1.0000", 0.0, 3, 1), single("p2.0000", 0.0, 9, 1, outcome="timeout")
    )
    assert found["learner/belief/log_loss"] == pytest.approx(math.log(4))
    assert found["learner/belief/calibration_error"] == pytest.approx(0.75)
    assert found["learner/belief/skill"] == pytest.approx(1 - math.log(4) / math.log(2))
    assert found["learner/effective_gradient_ratio/samples"] == 1.0


def test_an_update_whose_jobs_hold_no_belief_scores_none() -> None:
    found = metrics_of(single("p0.0000", 1.0), single("p1.0000", 0.0))
    assert found["learner/reward/mean"] == 0.5
    assert not [name for name in found if "belief" in name]
