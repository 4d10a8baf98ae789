"""The numbers behind the figures of docs/allocation-study.md, and that the committed data makes them."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import allocation_figures as figures

ROOT = Path(__file__).parents[2]


def test_a_level_is_reached_between_two_measurements():
    curve = [(0, 0.4), (100, 0.5), (200, 0.7)]
    assert figures.rollouts_to_reach(curve, 0.45) == pytest.approx(50)
    assert figures.rollouts_to_reach(curve, 0.6) == pytest.approx(150)
    assert figures.rollouts_to_reach(curve, 0.7) == 200


def test_a_level_may_be_reached_at_once_or_never():
    curve = [(0, 0.4), (100, 0.5), (200, 0.45)]
    assert figures.rollouts_to_reach(curve, 0.3) == 0
    assert figures.rollouts_to_reach(curve, 0.5) == 100
    assert figures.rollouts_to_reach(curve, 0.51) is None


def test_shares_by_size_of_groups_and_of_rollouts():
    groups, rollouts = figures.size_shares({"2": 6, "8": 3, "70": 1})
    assert groups == pytest.approx([0.6, 0, 0.3, 0, 0, 0.1])
    assert rollouts == pytest.approx([12 / 106, 0, 24 / 106, 0, 0, 70 / 106])


def test_bins_of_several_runs_are_weighted_by_their_groups():
    bins = [{"0": [1, 2.0], "0.1-0.2": [3, 10.0], "unseen": [9, 8.0]}, {"0.1-0.2": [1, 2.0]}]
    assert figures.by_belief(bins) == [pytest.approx((0.0, 2.0)), pytest.approx((0.15, 8.0))]


@pytest.mark.parametrize(("p", "num_rollouts", "expected"), [(0.5, 4, 0.875), (0.1, 22, 0.9015), (0.5, 2, 0.5)])
def test_simulated_groups_agree_with_the_formula(p, num_rollouts, expected):
    found = figures.simulated_p_nonzero(p, num_rollouts, 20_000, np.random.default_rng(3))
    assert found == pytest.approx(expected, abs=0.015)  # five standard errors


def test_committed_runs_spent_the_same_rollouts():
    runs = json.loads((ROOT / "docs" / "figures" / "allocation_runs.json").read_text())
    for prefix, rollouts in (("", 48_000), ("scarce-", 7_680)):
        for mode in figures.MODES:
            found = figures.seeds_of(runs, f"{prefix}{mode}")
            assert [run["modes"] for run in found] == [[mode]] * 3
            assert [run["rollouts"] for run in found] == [rollouts] * 3
            for run in found:
                counted = sum(int(size) * n for quarter in run["sizes"] for size, n in quarter.items())
                assert counted == rollouts
