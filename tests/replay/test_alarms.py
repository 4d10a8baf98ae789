"""Alarms: what raises each, what does not, and that screen, page and report say the same."""

import pytest

from infra.board import Board
from replay.alarms import LAG_OVER_S, SILENT_S, Signs, alarms_of
from replay.load import read_run
from replay.sections import signs_of, warnings
from stream.logprob_gap import LOGPROB_GAP_NATS
from stream.messages import Heartbeat


def kinds(**signs):
    return [alarm.kind for alarm in alarms_of(Signs(**signs))]


def test_nothing_known_raises_nothing():
    assert kinds() == []


@pytest.mark.parametrize("outcome", ["timeout", "error", "unparsable"])
def test_ungraded_answers_over_a_twentieth_are_loud(outcome):
    assert kinds(outcomes={"correct": 95, outcome: 5}) == []
    assert kinds(outcomes={"correct": 94, outcome: 6}) == ["ungraded"]


def test_abandoned_and_wrong_answers_are_no_alarm():
    assert kinds(outcomes={"wrong": 50, "abandoned": 50}) == []


def test_an_alarm_of_a_verifier_is_loud_whatever_the_share():
    (alarm,) = alarms_of(Signs(outcomes={"correct": 999, "timeout": 1}, alarmed_tasks=2))
    assert alarm.text == "1 of 1,000 answers got no grade (1 timeout), most in 2 tasks"


def test_five_updates_without_a_reward_are_silent_zeros():
    assert kinds(rewards=[0.5, 0, 0, 0, 0]) == []
    assert kinds(rewards=[0.5, 0, 0, 0, 0, 0]) == ["zeros"]
    assert kinds(rewards=[0, 0, 0, 0, 0, 0.01]) == []


@pytest.mark.parametrize(("gap", "loud"), [(None, False), (0.0, False), (LOGPROB_GAP_NATS, False), (0.2, True)])
def test_a_gap_between_engine_and_learner(gap, loud):
    assert bool(kinds(logprob_gap=gap)) == loud
    assert kinds(logprob_gap=float("nan")) == []
    assert kinds(logprob_distance=2.0) == ["logprob_gap"]


def test_a_silent_worker_is_named_and_if_all_are_silent_the_run_is_down():
    (alarm,) = alarms_of(Signs(silent_s={"producer-0": SILENT_S + 1, "learner-0": 1.0}))
    assert (alarm.kind, alarm.text) == ("silent", "producer-0 has sent no sign of life for 121 s")
    assert kinds(silent_s={"producer-0": SILENT_S + 1, "learner-0": SILENT_S + 2}) == ["down"]


def lag(*counts):
    """Samples over a little more than two minutes."""
    return [(i * (LAG_OVER_S + 1) / (len(counts) - 1), {"trajectories": count}) for i, count in enumerate(counts)]


def test_lag_that_grows_is_loud_and_lag_that_stays_or_is_small_is_not():
    assert kinds(lag=lag(100, 250, 400, 500)) == ["lag"]
    assert kinds(lag=lag(400, 400, 400, 400)) == []
    assert kinds(lag=lag(10, 50, 100, 150)) == []
    assert kinds(lag=lag(480, 5, 400, 490)) == []  # rounds of work that are done, one after another
    assert kinds(lag=lag(100, 250, 400, 500)[:-1]) == []  # not watched for long enough
    (alarm,) = alarms_of(Signs(lag=lag(100, 250, 400, 500)))
    assert alarm.text == "verifiers fall behind: 500 records of trajectories wait, at most 250 did a minute or two ago"


def test_screen_and_report_say_the_same(broker, make_run):
    make_run(broker)
    data = read_run(broker, "made")
    assert alarms_of(signs_of(data)) == []
    board = Board(run="made", num_updates=9)
    counts = {f"verifier/outcome/{name}": float(count) for name, count in (("timeout", 30), ("wrong", 70))}
    board.note(Heartbeat(worker="verifier-0", pid=1, host="h", state="running", metrics=counts, created_s=1.0))
    assert board.alarms() == alarms_of(Signs(outcomes={"timeout": 30, "wrong": 70}))
    assert board.status()["alarms"] == ["30 of 100 answers got no grade (30 timeout)"]
    data.rollouts["outcome"] = 3  # timeouts, all of them
    assert "<b>288 of 288 answers got no grade (288 timeout)</b>" in warnings(data)
