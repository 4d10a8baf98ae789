"""Where a worker's time went: shares of each stretch, empty where it was away."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.watch.lanes import NUM_STRETCHES, Beat, Training, figure, lanes_of, shares_of


def beat(worker, at, state="running", pid=1, **metrics):
    role = worker.rpartition("-")[0]
    return Beat(worker, at, pid, state, {f"{role}/{name}": value for name, value in metrics.items()})


def test_a_producer_waits_swaps_and_samples():
    before = beat("producer-0", 100.0, idle_share=0.2, swaps=3, swap_s=1.0)
    after = beat("producer-0", 110.0, idle_share=0.2, swaps=5, swap_s=1.0)
    assert shares_of(before, after, 10.0) == {"waiting": 0.2, "swapping weights": 0.2, "sampling": 0.6000000000000001}


def test_a_verifier_waits_or_grades_and_a_learner_may_be_saving():
    assert shares_of(None, beat("verifier-0", 1.0, idle_share=0.75), 1.0) == {"waiting": 0.75, "grading": 0.25}
    assert shares_of(None, beat("learner-0", 1.0, state="saving"), 1.0) == {"saving": 1.0}


def test_a_learner_is_told_by_its_updates():
    trainings = [Training(100.0, 5.0, 0.5), Training(110.0, 4.0, 0.5)]
    (lane,) = lanes_of([beat("learner-0", at) for at in (100.0, 110.0)], trainings).lanes
    last = {kind: column[-1] for kind, column in lane.shares.items()}
    assert {kind: round(share, 6) for kind, share in last.items()} == {
        "training": 0.4,
        "waiting": 0.5,
        "not measured": 0.1,
    }


def test_a_worker_that_was_away_leaves_a_gap():
    (lane,) = lanes_of([beat("verifier-0", at, idle_share=0.0) for at in (10.0, 20.0, 1000.0)], []).lanes
    graded = lane.shares["grading"]
    assert graded[0] == 1.0 and graded[NUM_STRETCHES // 2] == 0.0 and graded[-1] > 0


def test_workers_come_in_the_order_of_the_flow():
    names = ["verifier-10", "tracker-0", "verifier-2", "allocator-0", "learner-0", "producer-1"]
    found = [lane.worker for lane in lanes_of([beat(name, 5.0) for name in names], []).lanes]
    assert found == ["allocator-0", "producer-1", "verifier-2", "verifier-10", "learner-0", "tracker-0"]


def test_without_a_sign_of_life_there_is_nothing_to_draw():
    assert figure(lanes_of([], [])).data == []


numbers = st.floats(allow_nan=True, allow_infinity=True)
times = st.floats(min_value=0.0, max_value=1e12)
beats = st.builds(
    lambda worker, at, pid, idle, swaps, swap_s: beat(worker, at, pid=pid, idle_share=idle, swaps=swaps, swap_s=swap_s),
    st.sampled_from(["producer-0", "verifier-0", "learner-0", "odd"]),
    times,
    st.integers(1, 2),
    numbers,
    numbers,
    numbers,
)


@settings(max_examples=50)
@given(st.lists(beats, max_size=12), st.lists(st.builds(Training, times, numbers, numbers), max_size=6))
def test_shares_of_a_stretch_never_exceed_it(beats, trainings):
    for lane in lanes_of(beats, trainings).lanes:
        total = sum(lane.shares.values(), np.zeros(NUM_STRETCHES))
        assert all(math.isfinite(value) and -1e-9 <= value <= 1 + 1e-6 for value in total)
