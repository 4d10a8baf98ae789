"""Blows to a run: how they are planned and what they are taken to cost, and a small run with all kinds of them."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import chaos
from benchmarks.chaos_plan import WEIGHTS, Blow, Span, attribute, plan, shares
from benchmarks.chaos_report import costs, slow_spans
from benchmarks.chaos_strikes import Struck
from benchmarks.chaos_world import Step, seen_at

TARGETS = {key: ["learner-0", "producer-0"] if key[1] == "worker" else ["node-1"] for key in WEIGHTS}


def test_the_same_seed_gives_the_same_blows_and_another_one_another_order():
    one, again, other = (plan(100, seed, TARGETS) for seed in (1, 1, 2))
    assert one == again != other
    assert Counter(b.kind for b in one) == Counter(b.kind for b in other)


def test_blows_are_of_the_kinds_that_can_be_dealt_by_their_weights():
    blows = plan(1000, 0, TARGETS)
    assert Counter((b.kind, "node" if b.on_node else "worker") for b in blows) == {
        k: 10 * w for k, w in WEIGHTS.items()
    }
    without = plan(90, 0, {key: targets for key, targets in TARGETS.items() if key[0] != "cut"})
    assert len(without) == 90
    assert "cut" not in {b.kind for b in without}


@given(st.integers(0, 5000), st.dictionaries(st.sampled_from(list(WEIGHTS)), st.floats(0.01, 1e6), min_size=1))
def test_shares_add_up_and_none_is_off_by_one(total, weights):
    counts = shares(total, weights)
    assert sum(counts.values()) == total
    whole = sum(weights.values())
    assert all(abs(count - total * weights[key] / whole) < 1 + 1e-6 for key, count in counts.items())


def test_a_loss_is_shared_among_the_blows_under_way_by_their_time():
    lost, of_none = attribute([Span(0, 4, 8.0), Span(10, 11, 5.0)], [(0, 1), (1, 4), (7, 9)])
    assert lost == [2.0, 6.0, 0.0]
    assert of_none == 5.0


def steps_of(*pairs: tuple[float, int]) -> list[Step]:
    return [Step(at_s, step, version, 0) for version, (at_s, step) in enumerate(pairs)]


def test_time_is_lost_where_updates_are_late_and_what_is_made_again_does_not_count():
    spans = slow_spans(steps_of((0, 1), (1, 2), (2, 3), (5, 2), (6, 3), (7, 4), (8, 5)), rate=1.0, start_s=2, end_s=99)
    assert spans == [Span(2, 7, 4.0), Span(7, 8, 0.0)]


def test_costs_are_by_kind_and_role_and_add_up():
    kill = Blow(kind="kill", target="learner-0", seconds=0)
    stop = Blow(kind="stop", target="node-2", seconds=3)
    dealt = [Struck(kill, 1, 1, 10.0, 10.0, 14.0), Struck(stop, 2, None, 40.0, 43.0, 45.0)]
    steps = steps_of(*((float(t), t + 1) for t in range(11)), (16.0, 12), *((float(t), t - 4) for t in range(17, 60)))
    found = costs(dealt, steps, calm_s=10, wasted=[Span(12, 13, 1.0)])
    assert found.calm_updates_per_s == 1.0
    assert [(r.kind, r.role, r.num_blows, r.back_median_s, r.lost_s, r.wasted) for r in found.rows] == [
        ("kill", "learner", 1, 4.0, 5.0, 1.0),
        ("stop", "node", 1, 2.0, 0.0, 0.0),
    ]
    assert found.lost_s == 5.0
    assert found.lost_to_none_s == 0.0


def test_a_record_came_between_the_looks_before_and_behind_it():
    ends = [(1.0, {0: 5}), (2.0, {0: 7}), (3.0, {0: 9})]
    assert seen_at(ends, ("t", 0), 7) == Span(2.0, 3.0, 1.0)


@pytest.mark.kafka
@pytest.mark.slow
def test_a_run_that_gets_eight_blows_loses_nothing_and_ends_by_itself(tmp_path: Path) -> None:
    out = tmp_path / "chaos.json"
    options = ["--kills=8", "--seed=0", "--every=1", "--calm=2", "--updates=40", "--tokens-per-s=800"]
    files = [f"--out={out}", f"--dir={tmp_path}"]
    small = ["--prompts.num_prompts=256", "--prompts.num_heldout=32", "--run.rollouts_per_update=64"]
    code = chaos.main([*options, *files, *small, "--broker.nodes=1", "--up.hang_s=8"])
    found = json.loads(out.read_text())
    assert found["faults"] == []
    assert code == 0
    audit = found["audit"]
    assert (audit["updates"], audit["rollouts"], audit["restarts_of_the_job"]) == (40, 40 * 64, 0)
    assert set(audit["groups_ended"]) <= {"trained", "stale"}
    assert sum(audit["groups_ended"].values()) == audit["groups_admitted"]
    assert audit["wasted_share"] < 0.2  # eight in half a minute; docs/endurance.md has what a long run shows
    assert sum(row["num_blows"] for row in found["rows"]) == 8
