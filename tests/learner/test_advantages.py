import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.advantages import MIN_BELIEF_STD, advantages, belief_advantages, rollout_weights

# Vector V1: groups A(4) B(2) C(3) D(1); outputs of the functions of verl named there.
REWARDS = np.array([1, 0, 0, 1, 1, 0, 1, 1, 1, 1], dtype=float)
GROUPS = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 3])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("std", [0.8660239038, -0.8660239038, -0.8660239038, 0.8660239038, 0.7071057812, -0.7071057812, 0, 0, 0, 0]),
        ("mean", [0.5, -0.5, -0.5, 0.5, 0.5, -0.5, 0, 0, 0, 0]),
        ("batch_std", [v / (0.4830458915 + 1e-6) for v in (0.5, -0.5, -0.5, 0.5, 0.5, -0.5, 0, 0, 0, 0)]),
        ("leave_one_out", [0.6666666667, -0.6666666667, -0.6666666667, 0.6666666667, 1, -1, 0, 0, 0, 0]),
    ],
)
def test_against_verl_except_that_a_group_of_one_has_none(kind: str, expected: list[float]) -> None:
    assert advantages(REWARDS, GROUPS, kind) == pytest.approx(expected, abs=1e-9)


def test_clamp_acts_from_27_rollouts_with_one_success() -> None:
    # One success in N has advantage (N-1)/sqrt(N): 4.90 at 26, 5.004 at 27, 9.54 at 93 (A1).
    for size, expected in ((26, 4.903), (27, 5.0), (93, 5.0)):
        rewards = np.eye(1, size)[0]
        assert advantages(rewards, np.zeros(size, dtype=int), "std", clamp=5.0)[0] == pytest.approx(expected, abs=1e-3)


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=8), min_size=1, max_size=6))
def test_every_kind_sums_to_zero_in_every_group(groups: list[list[float]]) -> None:
    rewards = np.array([reward for group in groups for reward in group])
    number = np.array([i for i, group in enumerate(groups) for _ in group])
    for kind in ("mean", "std", "leave_one_out", "batch_std"):
        assert np.bincount(number, advantages(rewards, number, kind)) == pytest.approx(np.zeros(len(groups)), abs=1e-6)


def test_weights_make_equal_what_their_name_says() -> None:
    tokens, group = np.array([2, 4, 1, 1, 4]), np.array([0, 0, 1, 1, 1])
    per_rollout = {kind: rollout_weights(tokens, group, kind) * tokens for kind in ("token_mean", "prompt_mean")}
    assert rollout_weights(tokens, group, "token_mean").tolist() == [1 / 12] * 5
    assert np.bincount(group, per_rollout["prompt_mean"]) == pytest.approx([0.5, 0.5])
    assert rollout_weights(tokens, group, "sequence_mean") * tokens == pytest.approx([0.2] * 5)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.data())
def test_weights_sum_to_one_over_all_tokens(tokens: list[int], data: st.DataObject) -> None:
    group = np.array(sorted(data.draw(st.lists(st.integers(0, 4), min_size=len(tokens), max_size=len(tokens)))))
    number = np.unique(group, return_inverse=True)[1]
    for kind in ("token_mean", "prompt_mean", "sequence_mean"):
        assert (rollout_weights(np.array(tokens), number, kind) * tokens).sum() == pytest.approx(1.0)


def test_groups_of_2_to_128_rollouts_by_the_textbooks_formulas() -> None:
    rng = np.random.default_rng(3)
    sizes = (2, 128, 93, 8, 37)
    groups = [rng.uniform(size=size) for size in sizes]
    rewards, number = np.concatenate(groups), np.repeat(np.arange(len(sizes)), sizes)
    spread = statistics.stdev(rewards.tolist())
    expected: dict[str, list[float]] = {"mean": [], "std": [], "leave_one_out": [], "batch_std": []}
    for group in groups:
        mean = statistics.fmean(group)
        for reward in group.tolist():
            expected["mean"].append(reward - mean)
            expected["std"].append((reward - mean) / (statistics.stdev(group.tolist()) + 1e-6))
            expected["leave_one_out"].append(reward - (group.sum() - reward) / (group.size - 1))
            expected["batch_std"].append((reward - mean) / (spread + 1e-6))
    order = rng.permutation(rewards.size)  # rollouts of a group need not be neighbours
    for kind, values in expected.items():
        assert advantages(rewards[order], number[order], kind) == pytest.approx(np.array(values)[order], abs=1e-12), (
            kind
        )


def test_rollouts_without_tokens_count_in_the_baseline_only() -> None:
    tokens, group = np.array([2, 0, 4, 3]), np.array([0, 0, 0, 1])
    plain = rollout_weights(tokens, group, "prompt_mean")
    assert plain[[0, 2, 3]] == pytest.approx([1 / 12, 1 / 12, 1 / 6])
    assert rollout_weights(tokens, group, "prompt_mean_unbiased")[:3] == pytest.approx(plain[:3] * 3 / 2)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="advantage is 'gae'; want one of mean, std, leave_one_out, batch_std"):
        advantages(REWARDS, GROUPS, "gae")
    with pytest.raises(ValueError, match="weighting is 'x'; want one of token_mean, prompt_mean, "):
        rollout_weights(np.array([1]), np.array([0]), "x")


def test_epsilon_is_trls_or_verls() -> None:
    group = np.zeros(4, dtype=int)
    assert advantages(REWARDS[:4], group, "std", epsilon=1e-4)[0] == pytest.approx(0.8658754298, abs=1e-9)


def test_constant_weighting_does_not_know_the_batch() -> None:
    weights = rollout_weights(np.array([2, 4, 0]), np.array([0, 0, 1]), "constant", length_constant=8)
    assert weights.tolist() == [1 / 16] * 3


@pytest.mark.parametrize(
    ("advantage", "weighting", "factor"),
    [
        ("mean", "prompt_mean", (1 / 2, 4 / 5)),
        ("mean", "prompt_mean_unbiased", (1, 1)),
        ("leave_one_out", "prompt_mean", (1, 1)),
    ],
)
def test_which_choices_are_unbiased_by_enumeration(advantage: str, weighting: str, factor: tuple[float, float]) -> None:
    """Completions of one token, right with probability sigmoid(theta): the expected gradient should be p (1 - p)."""
    p = 0.3
    for size, expected in zip((2, 5), factor, strict=True):
        total = 0.0
        for outcome in range(2**size):
            rewards = np.array([(outcome >> i) & 1 for i in range(size)], dtype=float)
            chance = np.prod(np.where(rewards == 1, p, 1 - p))
            group = np.zeros(size, dtype=int)
            weights = rollout_weights(np.ones(size, dtype=int), group, weighting)
            total += chance * (weights * advantages(rewards, group, advantage) * (rewards - p)).sum()
        assert total == pytest.approx(expected * p * (1 - p))


# -- the belief as the baseline ---------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=8), min_size=1, max_size=6), st.data())
def test_belief_is_what_a_few_lines_say(groups: list[list[float]], data: st.DataObject) -> None:
    beliefs = [(data.draw(st.floats(0.01, 100)), data.draw(st.floats(0.01, 100))) for _ in groups]
    expected = []
    for (a, b), rewards in zip(beliefs, groups, strict=True):
        s, n = sum(rewards), len(rewards)
        expected += [r - (a + s - r) / (a + b + n - 1) for r in rewards]
    std = statistics.stdev(expected) if len(expected) > 1 else 0.0
    scale = max(std, abs(statistics.fmean(expected)), MIN_BELIEF_STD)
    expected = [value / scale for value in expected]
    number = np.array([i for i, group in enumerate(groups) for _ in group])
    a, b = np.array(beliefs).T[:, number]
    got = advantages(np.concatenate(groups), number, "belief", beliefs=(a, b))
    assert got == pytest.approx(np.array(expected), abs=1e-9, rel=1e-9)


def test_belief_becomes_leave_one_out_as_groups_grow() -> None:
    rng = np.random.default_rng(0)
    rewards, group = (rng.random(4000) < 0.3).astype(float), np.zeros(4000, dtype=int)
    a, b = np.full(4000, 0.5), np.full(4000, 0.5)
    assert belief_advantages(rewards, group, (a, b)) == pytest.approx(
        advantages(rewards, group, "leave_one_out"), abs=2e-4
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_gradient_of_belief_is_unbiased_and_that_of_the_group_mean_is_not(size: int) -> None:
    """Exact enumeration of all groups of a Bernoulli policy with logit x: d E[r] / dx = p q, whatever is believed."""
    p, a, b = 0.2, 7.0, 0.5
    mean = {"belief": 0.0, "mean": 0.0}
    for number in range(2**size):
        rewards = np.array([float(number >> i & 1) for i in range(size)])
        probability = float(np.prod(np.where(rewards == 1, p, 1 - p)))
        group, score = np.zeros(size, dtype=int), rewards - p  # d log P(r) / dx
        belief = belief_advantages(rewards, group, (np.full(size, a), np.full(size, b)))
        mean["belief"] += probability * float(belief @ score) / size
        mean["mean"] += probability * float(advantages(rewards, group, "mean") @ score) / size
    assert mean["belief"] == pytest.approx(p * (1 - p), abs=1e-12)
    assert mean["mean"] == pytest.approx(p * (1 - p) * (size - 1) / size, abs=1e-12)


def test_a_group_without_variance_teaches_with_belief_and_not_with_the_mean() -> None:
    rewards, group, belief = np.ones(4), np.array([0, 0, 1, 1]), (np.full(4, 1.0), np.full(4, 3.0))
    assert advantages(rewards, group, "mean").tolist() == [0.0] * 4
    assert belief_advantages(rewards, group, belief) == pytest.approx([1 - 2 / 5] * 4)


def test_little_signal_is_not_blown_up() -> None:
    a, b = np.full(3, 999.0), np.full(3, 1.0)
    got = advantages(np.ones(3), np.arange(3), "belief", beliefs=(a, b))
    assert got == pytest.approx([0.001 / MIN_BELIEF_STD] * 3)


def test_a_surprise_that_all_agree_on_is_no_larger_than_one() -> None:
    for reward in (0.0, 1.0):
        got = advantages(np.full(480, reward), np.arange(480), "belief", beliefs=(np.ones(480), np.ones(480)))
        assert got == pytest.approx(np.full(480, 2 * reward - 1))


def test_what_cannot_be_measured_is_named() -> None:
    one, zero = np.array([1.0]), np.array([0])
    with pytest.raises(ValueError, match="beliefs are None, but advantage is 'belief'"):
        advantages(one, zero, "belief")
    with pytest.raises(ValueError, match=r"rollout 0 has the belief Beta\(0.0, 1.0\); want two positive"):
        advantages(one, zero, "belief", beliefs=(np.array([0.0]), one))
    with pytest.raises(ValueError, match="the reward of rollout 1 is nan; want a finite number"):
        advantages(np.array([1.0, np.nan]), np.array([0, 1]), "std")
