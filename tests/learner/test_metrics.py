"""Figures of an update's groups."""

import math

import numpy as np
import pytest

from learner.metrics import belief_metrics


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
