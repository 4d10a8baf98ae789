"""Forecasters scored on a recorded run."""

import json
import math

import numpy as np
import pytest

from replay.beliefs import Step, as_json, compare, score_of, steps_of
from replay.examples import advantages
from replay.forecasts import forecasts_of
from replay.load import read_run
from replay.summary import figures, summarize


def test_a_run_that_knew_the_true_rates_forecasts_best(broker, make_run):
    make_run(broker, run="made", num_updates=12, num_prompts=30)
    data = read_run(broker, "made")
    scores = compare(data)
    assert scores[0].forecaster == "the run's own"
    assert len({score.forecaster for score in scores}) == len(scores) >= 10
    by_name = {score.forecaster: score for score in scores}
    assert by_name["the mean so far"].log_loss > by_name["discount per visit, 0.8"].log_loss
    found = forecasts_of(data)
    forecasts, rewards = found.believed, found.rewards
    expected = -np.mean(rewards * np.log(forecasts) + (1 - rewards) * np.log(1 - forecasts))
    assert scores[0].log_loss == pytest.approx(expected, rel=1e-4)
    assert [row["forecaster"] for row in json.loads(as_json(scores))] == [score.forecaster for score in scores]


def test_scores_of_two_steps():
    steps = [
        Step(np.array([0]), np.array([2.0]), np.array([1.0]), np.array([1.0]), np.array([0.5]), 0.0),
        Step(np.array([1]), np.array([1.0]), np.array([1.0]), np.array([1.0]), np.array([0.8]), 0.0),
    ]
    score = score_of("x", steps, [np.array([0.5]), np.array([0.8])])
    assert score is not None
    assert score.first_quarter == pytest.approx(math.log(2))
    assert score.last_quarter == pytest.approx(-math.log(0.8))
    assert score.log_loss == pytest.approx((2 * math.log(2) - math.log(0.8)) / 3)
    assert score.brier == pytest.approx((2 * 0.25 + 0.04) / 3)
    assert score_of("x", steps, [np.array([np.nan]), np.array([0.8])]) is None


def test_only_steps_that_survive_and_graded_rollouts_count(broker, make_run):
    expected = make_run(broker, run="made")
    steps, _ = steps_of(read_run(broker, "made"))
    assert sum(int(step.graded.sum()) for step in steps) == expected.samples[1]


def test_a_run_without_updates_has_nothing_to_score(broker):
    assert compare(read_run(broker, "nothing")) == []


def test_the_summary_tells_how_good_the_beliefs_were(broker, make_run):
    make_run(broker, run="made")
    data = read_run(broker, "made")
    text = dict(figures(summarize(data)))["beliefs as forecasts"]
    assert text.startswith("log loss 0.")
    assert "nats, calibration error 0." in text


def test_examples_of_single_rollouts_are_measured_against_the_belief(broker, make_run):
    make_run(broker, run="made", mode="learnability", abandon=False)
    data = read_run(broker, "made")
    verdicts = next(iter(data.examples.values()))
    reason = verdicts[0].trajectory.job.budgeting
    total = sum(v.reward for v in verdicts)
    assert advantages(verdicts) == pytest.approx(
        [v.reward - (reason.a + total - v.reward) / (reason.a + reason.b + len(verdicts) - 1) for v in verdicts]
    )
