"""Forecasters scored on a recorded run."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.forgetting import Scores
from replay.beliefs import (
    Step,
    as_json,
    by_drift,
    chosen,
    compare,
    drifts_of,
    forecast,
    forecasters,
    per_update,
    per_visit,
    score_of,
    steps_of,
)
from replay.examples import advantages
from replay.forecasts import forecasts_of
from replay.load import read_run
from replay.summary import figures, summarize
from stream.messages import Update

ONE = np.zeros(8, dtype=np.int64)


def step(groups, believed=(), drift=0.0):
    """`groups`: (number of the prompt, rewards) of each."""
    return Step(
        prompts=np.array([prompt for prompt, _ in groups], np.int64),
        group=np.array([i for i, (_, rewards) in enumerate(groups) for _ in rewards], np.int64),
        rewards=np.array([reward for _, rewards in groups for reward in rewards], np.float64),
        believed=np.array(believed, np.float64),
        drift=drift,
    )


def world(rates, rng, num_prompts=8, each=20):
    """Steps in which every prompt has the same success rate, one rate a step."""
    return [step([(i, (rng.random(each) < p).astype(float)) for i in range(num_prompts)]) for p in rates]


def loss_of(steps, factor, **more):
    score = score_of("x", steps, list(forecast(steps, factor, ONE, ONE, **more)))
    assert score is not None
    return score.log_loss


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
    steps = [step([(0, [1, 0])], [0.5]), step([(1, [1])], [0.8])]
    score = score_of("x", steps, [np.array([0.5]), np.array([0.8])])
    assert score is not None
    assert score.first_quarter == pytest.approx(math.log(2))
    assert score.last_quarter == pytest.approx(-math.log(0.8))
    assert score.log_loss == pytest.approx((2 * math.log(2) - math.log(0.8)) / 3)
    assert score.brier == pytest.approx((2 * 0.25 + 0.04) / 3)
    assert score_of("x", steps, [np.array([np.nan]), np.array([0.8])]) is None


def test_the_brier_score_is_of_rollouts_and_not_of_the_means_of_groups():
    score = score_of("x", [step([(0, [1, 1, 0, 0])])], [np.array([0.5])])
    assert score is not None
    assert score.brier == 0.25


def test_forecasts_by_hand_under_a_prior_that_is_not_shared():
    steps = [step([(0, [1, 1])]), step([(0, [0])]), step([(0, [1]), (1, [1])]), step([(0, [1]), (1, [0])])]
    visit = [f.tolist() for f in forecast(steps, per_visit(0.5), ONE, ONE, learned=False)]
    # Prompt 0: (2 of 2), (1 of 2), then (.5 + 1 of 1 + 1); prompt 1: 1 of 1.
    assert visit == [[0.5], [3 / 4], [pytest.approx(2 / 4), 0.5], [pytest.approx(2.5 / 4), pytest.approx(2 / 3)]]
    update = [f.tolist() for f in forecast(steps, per_update(0.5), ONE, ONE, learned=False)]
    # Prompt 0: 2 of 2, then 1 of 2, then 1.5 of 2; each halved by the update that adds to it.
    assert update == [[0.5], [3 / 4], [pytest.approx(2 / 4), 0.5], [pytest.approx(2.5 / 4), pytest.approx(2 / 3)]]
    later = [
        f.tolist() for f in forecast([steps[0], step([(1, [1])]), steps[0]], per_update(0.5), ONE, ONE, learned=False)
    ]
    assert later[2] == [pytest.approx(2 / 3)]  # halved by the update that prompt 0 was not in: 1 of 1


def test_two_groups_of_a_prompt_in_an_update_are_one_visit():
    steps = [step([(0, [1, 1])]), step([(0, [0]), (0, [0])]), step([(0, [1])])]
    assert [*forecast(steps, per_visit(0.5), ONE, ONE, learned=False)][2].tolist() == [2 / 5]


@given(st.integers(0, 3), st.lists(st.floats(0, 1), min_size=4, max_size=4), st.sampled_from(sorted(forecasters())))
def test_no_forecast_knows_its_own_update_or_a_later_one(changed, rewards, name):
    prompts = [[0, 1], [1, 2], [0, 2], [1, 1]]
    steps = [step([(p, [0.0, 1.0]) for p in of_step], drift=0.01) for of_step in prompts]
    others = [*steps]
    others[changed] = step([(p, rewards) for p in prompts[changed]], drift=0.01)
    before, after = (list(forecast(s, forecasters()[name], ONE, ONE)) for s in (steps, others))
    for i in range(changed + 1):
        assert before[i].tolist() == after[i].tolist()


def test_where_nothing_changes_forgetting_costs_and_where_rates_climb_it_pays():
    rng = np.random.default_rng(0)
    still, climbing = world([0.8] * 30, rng), world(np.linspace(0.05, 0.95, 30), rng)
    assert loss_of(still, per_update(1.0)) < loss_of(still, per_update(0.5))
    assert loss_of(climbing, per_update(0.5)) < loss_of(climbing, per_update(1.0)) - 0.1
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert loss_of(still, per_update(1.0)) == pytest.approx(entropy, abs=0.02)


def test_a_shared_prior_forecasts_prompts_that_were_never_seen():
    rng = np.random.default_rng(0)
    steps = [step([(i, (rng.random(20) < 0.9).astype(float))]) for i in range(8)]
    assert [*forecast(steps, per_update(1.0), ONE, ONE)][-1][0] > 0.8
    assert [*forecast(steps, per_update(1.0), ONE, ONE, learned=False)][-1][0] == 0.5


def test_counts_are_halved_by_so_much_drift_and_never_more():
    assert by_drift(0.06)(step([], drift=0.06)) == (0.5, 1.0)
    assert by_drift(0.06)(step([], drift=0.03)) == (pytest.approx(2**-0.5), 1.0)
    assert by_drift(0.06)(step([], drift=1.0)) == (0.5, 1.0)
    assert by_drift(0.06)(step([], drift=0.0)) == (1.0, 1.0)


def test_drift_is_per_version_and_the_last_that_was_measured():
    measured = [(0.0, 0.0), (0.02, 2.0), (1e-9, 0.0), (0.03, 1.0)]
    updates = [
        Update(
            step=i + 1,
            version=i + 1,
            parent_version=i,
            groups=(),
            metrics={"learner/mismatch_k3": k3, "learner/staleness/mean": staleness},
        )
        for i, (k3, staleness) in enumerate(measured)
    ]
    assert drifts_of(updates) == [0.0, 0.01, 0.01, 0.03]


def test_the_rule_chosen_is_the_allocators():
    rng = np.random.default_rng(0)
    steps = world(rng.random(12), rng)
    rules = [list(forecast(steps, per_update(d), ONE, ONE)) for d in (1.0, 0.5, 0.1)]
    scores, used = Scores(3), set()
    for version, (of_step, found) in enumerate(zip(steps, chosen(steps, rules), strict=True)):
        assert found.tolist() == rules[scores.best][version].tolist()
        used.add(scores.best)
        for i in range(of_step.prompts.size):
            forecasts = np.array([rule[version][i] for rule in rules])
            scores.note(forecasts, of_step.correct[i], of_step.graded[i], version)
    assert len(used) > 1


def test_a_run_that_measured_no_kl_has_no_forecaster_by_it(broker, make_run):
    make_run(broker, run="made")
    names = {score.forecaster for score in compare(read_run(broker, "made"))}
    assert not any("KL" in name for name in names)
    assert {"least log loss of late", "no forgetting, prior Beta(1, 1)", "discount per visit, 0.95"} <= names


def test_only_steps_that_survive_and_graded_rollouts_count(broker, make_run):
    expected = make_run(broker, run="made")
    steps, _ = steps_of(read_run(broker, "made"))
    assert sum(int(of_update.graded.sum()) for of_update in steps) == expected.samples[1]


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
