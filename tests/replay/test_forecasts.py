"""A run's beliefs beside its rewards, and the plots of them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from replay import believing
from replay.forecasts import Forecasts, forecasts_of
from replay.load import read_run
from replay.report import render


def made(believed, rewards, update, num_updates):
    return Forecasts(np.array(believed), np.array(rewards), np.array(update, np.int64), num_updates)


def view_of(found, name="r", colour="@blue"):
    updates = SimpleNamespace(step=np.arange(1.0, found.num_updates + 1))
    return SimpleNamespace(name=name, colour=colour, forecasts=found, updates=updates)


def test_the_last_quarter_is_that_of_the_updates_whatever_the_order_of_the_log(broker, make_run):
    make_run(broker, run="made", num_updates=8, crash_at=3)  # two partitions, one behind the other
    data = read_run(broker, "made")
    found = forecasts_of(data)
    assert found.num_updates == 8 and (np.diff(found.update) >= 0).all()
    last = {end.group_id for update in data.lineage.steps[-2:] for end in update.groups}
    indices = [group.index for group_id, group in data.groups.items() if group_id in last]
    rows = data.training[np.isin(data.training["group"], indices) & data.training["graded"]]
    believed, rewards = found.last_quarter()
    assert rewards.sum() == rows["reward"].sum()
    assert believed.size == len(rows) > 0


def test_every_graded_rollout_of_a_surviving_update_counts_once(broker, make_run):
    expected = make_run(broker, run="made", crash_at=3)
    assert forecasts_of(read_run(broker, "made")).rewards.size == expected.samples[1]


def test_a_run_without_rollouts_has_no_forecasts(broker):
    found = forecasts_of(read_run(broker, "nothing"))
    assert found.rewards.size == found.num_updates == 0
    assert [column.size for column in found.losses()] == [0, 0]


def test_losses_are_those_of_each_update_and_of_its_mean():
    found = made([0.5, 0.25, 0.25, 0.9], [1, 1, 0, 1], [0, 2, 2, 3], 4)
    of_beliefs, of_mean = found.losses()
    assert of_beliefs == pytest.approx([math.log(2), math.nan, -math.log(3 / 16) / 2, -math.log(0.9)], nan_ok=True)
    assert of_mean == pytest.approx([0, math.nan, math.log(2), 0], nan_ok=True, abs=1e-4)


def test_bands_show_rollouts_signal_and_mean_reward():
    found = made([0.12, 0.18, 0.55, 0.55, 0.55, 0.55], [0, 1, 1, 1, 1, 0], [0] * 6, 1)
    rollouts, signal, reward = believing.signal([view_of(found)]).data  # type: ignore[list-item]
    assert rollouts["x"] == signal["x"] == reward["x"] == ["0.1-0.2", "0.5-0.6"]
    assert rollouts["y"] == pytest.approx([2 / 6, 4 / 6], rel=1e-5)
    assert signal["customdata"] == pytest.approx([2 / 4, 4 * 3 / 16])
    assert signal["y"] == pytest.approx([0.4, 0.6])
    assert reward["y"] == [0.5, 0.75]


def test_the_reliability_plot_has_the_whole_run_and_its_last_quarter():
    found = made([0.25, 0.25, 0.25, 0.85], [0, 0, 1, 1], [0, 1, 2, 3], 4)
    diagonal, whole, late = believing.calibration([view_of(found)]).data  # type: ignore[list-item]
    assert diagonal["x"] == diagonal["y"] == [0, 1]
    assert (whole["x"], whole["customdata"]) == ([0.25, 0.85], [3, 1])
    assert whole["y"] == pytest.approx([1 / 3, 1], rel=1e-5)
    assert (late["x"], late["y"], late["customdata"]) == ([0.85], [1.0], [1])


def test_runs_side_by_side_share_their_bands():
    views = [view_of(made([p], [1.0], [0], 1), name) for p, name in ((0.11, "a"), (0.19, "b"))]
    figure = believing.signal(views)  # type: ignore[arg-type]
    assert {x for trace in figure.data for x in trace["x"]} == {"0.1-0.2"}
    assert figure.layout["xaxis"]["categoryarray"] == list(believing.LABELS)


def test_beliefs_that_no_job_holds_are_not_drawn():
    nothing = [view_of(made([], [], [], 3))]
    for plot in (believing.signal, believing.calibration, believing.loss):
        assert plot(nothing).data == []  # type: ignore[arg-type]


def test_a_run_of_single_rollouts_shows_its_bands_in_place_of_budgets(broker, make_run):
    for run, size in (("single", 1), ("groups", 8)):
        make_run(broker, run=run, num_rollouts=size, abandon=False)
    single, groups = read_run(broker, "single"), read_run(broker, "groups")
    titles = ("Budget per success-rate bin", "Rollouts and signal per band")
    shown = [
        [f"<h3>{title}</h3>" in render(runs) for title in titles] for runs in ([single], [groups], [single, groups])
    ]
    assert shown == [[False, True], [True, True], [True, True]]
