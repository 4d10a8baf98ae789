import numpy as np
import pytest
from factories import make_job, make_verdict

from learner.batches import samples_of
from learner.groups import Group, group_end
from learner.overlong import Overlong
from learner.presets import PRESETS
from stream.messages import Sampling, Verdict


def verdict(rollout: int, reward: float, length: int, finish_reason: str = "stop") -> Verdict:
    job = make_job("g", 3, sampling=Sampling(max_tokens=10))
    return make_verdict(
        rollout_index=rollout, reward=reward, job=job, token_ids=np.arange(length), finish_reason=finish_reason
    )


@pytest.mark.parametrize(("length", "reward"), [(5, 1.0), (6, 1.0), (7, 0.875), (9, 0.625), (10, 0.5)])
def test_penalty_grows_over_the_buffer(length: int, reward: float) -> None:
    penalty = Overlong(mode="penalty", buffer=4, factor=0.5)
    assert penalty.reward(verdict(0, 1.0, length)) == pytest.approx(reward)
    assert Overlong().reward(verdict(0, 1.0, length)) == 1.0


def test_a_penalty_makes_a_gradient_where_all_are_right() -> None:
    group = Group("g", 3, {i: verdict(i, 1.0, length) for i, length in enumerate((2, 8, 10))})
    penalty = Overlong(mode="penalty", buffer=4)
    assert group_end(group, 0, 4).ending == "zero_variance"
    assert group_end(group, 0, 4, penalty).ending == "trained"
    assert [r.advantage for r in samples_of([group], PRESETS["dr_grpo"], penalty)] == pytest.approx([0.5, 0.0, -0.5])


def test_filtered_rollouts_stay_in_the_mean_and_leave_the_loss() -> None:
    group = Group("g", 3, {0: verdict(0, 1.0, 2), 1: verdict(1, 0.0, 3), 2: verdict(2, 0.0, 10, "length")})
    rollouts = samples_of([group], PRESETS["dapo"], Overlong(mode="filter"))
    assert [r.verdict.trajectory.rollout_index for r in rollouts] == [0, 1]
    assert rollouts[0].advantage == pytest.approx((1 - 1 / 3) / (1 / 3**0.5 + 1e-6))
    assert [r.token_weight for r in rollouts] == [1 / 5] * 2


def test_a_group_of_which_nothing_is_left_ends_without_variance() -> None:
    group = Group("g", 2, {0: verdict(0, 1.0, 10, "length"), 1: verdict(1, 0.0, 10, "length")})
    assert group_end(group, 0, 4, Overlong(mode="filter")).ending == "zero_variance"


def test_a_penalty_needs_a_buffer() -> None:
    with pytest.raises(ValueError, match="overlong_buffer is 0 with overlong = 'penalty'; want at least 1 token"):
        Overlong(mode="penalty")
