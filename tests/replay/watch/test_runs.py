"""Runs beside each other, and a run of which nothing is known yet."""

import json

import pytest

from replay.compare import compare
from replay.load import read_run
from replay.watch.follow import Following
from replay.watch.plots import VIEWS, as_json, figures_of, standings_of
from replay.watch.rollouts import find_prompts
from replay.watch.state import state_of
from stream.topics import TOPICS


def test_runs_beside_each_other_stand_as_in_the_report(broker, make_run, fill):
    make_run(broker, run="a", final=False, num_updates=4, abandon=False)
    make_run(broker, run="b", mode="paper")
    found = standings_of([fill("a"), fill("b")])
    expected = compare([read_run(broker, run) for run in "ab"])
    assert found["rollouts"] == expected[0].rollouts
    for row, standing in zip(found["runs"], expected, strict=True):
        assert (row["run"], row["updates"], tuple(row["modes"])) == (standing.run, standing.num_updates, standing.modes)
        assert (row["ratio_samples"], row["ratio_prompts"]) == (standing.ratios.samples, standing.ratios.prompts)
        assert (row["heldout_before"], row["heldout"]) == (standing.heldout_before, standing.heldout)
    assert found["runs"][0]["ratio_samples_times"] == 1.0


def test_the_plots_hold_all_runs(broker, make_run, fill):
    make_run(broker, run="a")
    make_run(broker, run="b", mode="paper")
    accuracy = figures_of("learning", [fill("a"), fill("b")])[0]
    assert {trace["name"].partition(":")[0] for trace in accuracy["data"]} == {"a", "b"}


@pytest.mark.parametrize("view", VIEWS)
def test_of_an_empty_run_every_view_is_empty(broker, fill, view):
    broker.create_topics("made", TOPICS, 2)
    for figure in json.loads(as_json(figures_of(view, [fill()]))):
        assert figure["title"]
        assert figure["data"] == []


def test_of_an_empty_run_nothing_is_known_and_nothing_is_wrong(broker, fill):
    broker.create_topics("made", TOPICS, 2)
    index = fill()
    state = json.loads(as_json(state_of(index, Following(state="live"))))
    assert (state["tiles"]["accuracy"], state["tiles"]["num_rollouts"], state["alarms"]) == (None, 0, [])
    assert find_prompts(index, "", "", "newest", 0)["total"] == 0


def test_a_run_that_is_over_has_no_alarm_about_its_workers(broker, make_run, fill):
    make_run(broker)
    assert state_of(fill(), Following(state="live", live_s=-1e6))["alarms"] == []
