"""Computes advantages and the weight of every token in the loss. Pure functions of arrays.

Legend: N rollouts of an update, all groups together. A group, a prompt's rollouts, has 1 to 128; `group` [N] numbers them
from 0.
"""

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from stream.config.objective import Advantage, Weighting

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STD_EPSILON = 1e-6
MIN_BELIEF_STD = 0.05
"""Least std that `belief` divides by: where nearly all rewards are as believed, little signal must not become a full step."""
Beliefs = tuple[Floats, Floats]
"""a and b of each rollout's prompt: the success rate was believed to be Beta(a, b) before it was sampled. [N] each"""


def advantages(
    rewards: Floats,
    group: Ints,
    kind: str,
    clamp: float | None = None,
    epsilon: float = STD_EPSILON,
    beliefs: Beliefs | None = None,
) -> Floats:
    """Advantage of every rollout. [N]

    mean: r - mean of its group (Dr. GRPO, arXiv 2503.20783; prime-rl).
    std: the same over the group's std (ddof 1) + epsilon (GRPO, arXiv 2402.03300; verl has epsilon 1e-6, TRL 1e-4).
    leave_one_out: r minus the mean of the others, (r - mean) N/(N-1) (RLOO, arXiv 2402.14740).
    batch_std: r - mean of its group, over the std (ddof 1) of all N rewards + epsilon (TRL's scale_rewards = "batch").
    A group of one gets 0 in these four.
    belief: r - (a + s - r) / (a + b + n - 1), s being the sum of the n rewards of its group, over the std (ddof 1) of all N
        results; where larger, over the size of their mean (a surprise that all agree on is no large step) or
        MIN_BELIEF_STD. For a group of one, r - E[p]. No rollout's own reward is in its baseline, so before the scaling the
        gradient is unbiased; as n grows it becomes leave_one_out. (After SPO, arXiv 2509.13232: one rollout a prompt, a
        Beta tracker as the baseline.) Rewards between 0 and 1 count as that part of a success.
    `clamp` bounds the result to [-clamp, clamp].

    Raises:
        ValueError: an unknown kind, a reward that is no finite number, or `belief` without beliefs.

    """
    if not np.isfinite(rewards).all():
        bad = int(np.argmin(np.isfinite(rewards)))
        raise ValueError(f"the reward of rollout {bad} is {rewards[bad]}; want a finite number")
    size = np.bincount(group).astype(np.float64)
    centred: Floats = rewards - (np.bincount(group, rewards) / np.maximum(size, 1))[group]
    others = np.maximum(size - 1, 1)
    result: Floats
    if kind == "mean":
        result = centred
    elif kind == "std":
        std = np.sqrt(np.bincount(group, centred**2) / others)
        result = centred / (std[group] + epsilon)
    elif kind == "leave_one_out":
        result = centred * (size / others)[group]
    elif kind == "batch_std":
        result = centred / ((float(rewards.std(ddof=1)) if rewards.size > 1 else 0.0) + epsilon)
    elif kind == "belief":
        centred = belief_advantages(rewards, group, beliefs)
        std = float(centred.std(ddof=1)) if rewards.size > 1 else 0.0
        result = centred / max(std, abs(float(centred.mean())), MIN_BELIEF_STD) if rewards.size else centred
    else:
        raise ValueError(f"advantage is {kind!r}; want one of {', '.join(get_args(Advantage))}")
    return result if clamp is None else np.clip(result, -clamp, clamp)


def belief_advantages(rewards: Floats, group: Ints, beliefs: Beliefs | None) -> Floats:
    """Reward minus what was to be expected of it: the belief and the group's other rollouts, together. [N]

    Raises:
        ValueError: no beliefs, or one that is not two positive, finite numbers.

    """
    if beliefs is None:
        raise ValueError("beliefs are None, but advantage is 'belief'; give Beta(a, b) of every rollout's prompt")
    a, b = beliefs
    good = (a > 0) & (b > 0) & np.isfinite(a) & np.isfinite(b)
    if not good.all():
        bad = int(np.argmin(good))
        raise ValueError(f"rollout {bad} has the belief Beta({a[bad]}, {b[bad]}); want two positive, finite numbers")
    size = np.bincount(group)[group]
    others = np.bincount(group, rewards)[group] - rewards
    expected: Floats = (a + others) / (a + b + size - 1)
    return np.asarray(rewards - expected)


def rollout_weights(num_tokens: Ints, group: Ints, kind: str, length_constant: float = 1.0) -> Floats:
    """Weight of each token of every rollout. [N]

    token_mean: every token counts the same, so a 93-rollout prompt pulls far more than an 8-rollout one (DAPO, arXiv
        2503.14476).
    prompt_mean: every prompt counts the same, its tokens share its weight (ScaleRL, arXiv 2510.13786).
    prompt_mean_unbiased: the same times n/(n-1) for a prompt of n rollouts. A group's own mean as baseline shrinks the
        expected gradient to (n-1)/n of it, less for large groups; this undoes it (as `leave_one_out` does in the
        advantage: use one of the two).
    sequence_mean: every rollout counts the same, its tokens share its weight (GRPO, arXiv 2402.03300).
    constant: every token counts 1 / (N length_constant), however long its rollout is (Dr. GRPO, arXiv 2503.20783).

    Over all tokens the means sum to 1. Rollouts without tokens count neither as rollouts nor for their prompt, only in n.

    Raises:
        ValueError: an unknown kind.

    """
    tokens = num_tokens.astype(np.float64)
    num_rollouts = max(int(np.count_nonzero(tokens)), 1)

    def full(weight: float) -> Floats:
        return np.full(tokens.size, weight)

    if kind == "token_mean":
        return full(1.0 / max(tokens.sum(), 1.0))
    if kind in ("prompt_mean", "prompt_mean_unbiased"):
        per_group = np.bincount(group, tokens)
        weights: Floats = 1.0 / (np.maximum(per_group, 1.0)[group] * max(int(np.count_nonzero(per_group)), 1))
        if kind == "prompt_mean":
            return weights
        size = np.bincount(group)  # all that count in the mean, also those without tokens
        unbiased: Floats = weights * (size / np.maximum(size - 1, 1))[group]
        return unbiased
    if kind == "sequence_mean":
        shared: Floats = 1.0 / (np.maximum(tokens, 1.0) * num_rollouts)
        return shared
    if kind == "constant":
        return full(1.0 / (num_rollouts * length_constant))
    raise ValueError(f"weighting is {kind!r}; want one of {', '.join(get_args(Weighting))}")
