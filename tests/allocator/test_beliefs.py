import math

import pytest

from allocator.beliefs import admit, end, observe, success_rate
from stream.messages import Belief, Budgeting, OpenGroup

BUDGETING = Budgeting(mode="uniform", success_rate=0.5, num_observed=0, value=0.0, price=0.0)


def after(*visits: tuple[float, int]) -> Belief:
    """A belief after groups of (correct, graded) rollouts."""
    belief = Belief(prompt_id="p")
    for number, (correct, graded) in enumerate(visits):
        group = OpenGroup(group_id=f"p.{number:04d}", num_rollouts=graded, round=number, budgeting=BUDGETING)
        belief = end(observe(admit(belief, group), correct, graded))
    return belief


def test_fewer_than_eight_trials_count_as_unseen() -> None:
    assert math.isnan(success_rate(after((3, 7))))
    assert success_rate(after((2, 8))) == 0.25


def test_last_visit_counts_alone_if_it_had_sixteen_rollouts() -> None:
    assert success_rate(after((8, 8), (4, 16))) == 0.25
    assert success_rate(after((0, 16), (8, 32))) == 0.25


def test_otherwise_the_newest_sixteen_rollouts_count() -> None:
    assert success_rate(after((0, 8), (8, 8), (4, 8))) == pytest.approx((8 + 4) / 16)
    assert success_rate(after((16, 16), (0, 8))) == pytest.approx((0 + 8) / 16)


def test_ungraded_groups_say_nothing() -> None:
    belief = after((2, 8), (0, 0))
    assert success_rate(belief) == 0.25
    assert belief.num_groups == 2
    assert len(belief.visits) == 1


def test_only_as_many_visits_are_kept_as_the_window_needs() -> None:
    assert len(after(*[(1, 2)] * 50).visits) == 8


def test_each_graded_group_halves_the_weight_of_those_before() -> None:
    belief = after((8, 8), (0, 4), (0, 0), (1, 2))
    assert (belief.num_trials, belief.num_correct) == (14, 9)
    assert (belief.recent_trials, belief.recent_correct) == (8 / 4 + 4 / 2 + 2, 8 / 4 + 0 + 1)


def test_rewards_between_0_and_1_count_as_parts_of_a_success() -> None:
    assert success_rate(after((2.5, 10))) == 0.25
    assert after((2.5, 10)).recent_correct == 2.5


@pytest.mark.parametrize("order", ["observed first", "ended first"])
def test_a_group_closes_when_it_is_both_observed_and_ended(order: str) -> None:
    group = OpenGroup(group_id="p.0000", num_rollouts=4, round=0, budgeting=BUDGETING)
    belief = admit(Belief(prompt_id="p"), group)
    first = observe(belief, 1, 4) if order == "observed first" else end(belief)
    assert first.open_group is not None
    last = end(first) if order == "observed first" else observe(first, 1, 4)
    assert last.open_group is None
    assert (last.num_groups, last.num_trials, last.num_correct) == (1, 4, 1)
