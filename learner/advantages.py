"""Group-relative advantages and the weight of every token in the loss. Pure functions of arrays.

Legend: N rollouts of an update, all groups together. Groups have 2 to 128 rollouts; `group` [N] numbers them from 0.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STD_EPSILON = 1e-6


def advantages(rewards: Floats, group: Ints, kind: str, clamp: float | None = None) -> Floats:
    """Advantage of every rollout. [N]

    mean: r - mean (Dr. GRPO, prime-rl); std: the same over the group's std (ddof 1) + 1e-6 (GRPO as in verl);
    leave_one_out: r minus the mean of the others, (r - mean) N/(N-1) (RLOO). A group of one gets 0 in all three.

    Raises:
        ValueError: an unknown kind.

    """
    size = np.bincount(group).astype(np.float64)
    centred = rewards - (np.bincount(group, rewards) / size)[group]
    others = np.maximum(size - 1, 1)
    if kind == "mean":
        result = centred
    elif kind == "std":
        std = np.sqrt(np.bincount(group, centred**2) / others)
        result = centred / (std[group] + STD_EPSILON)
    elif kind == "leave_one_out":
        result = centred * (size / others)[group]
    else:
        raise ValueError(f"advantage is {kind!r}; want mean, std or leave_one_out")
    return result if clamp is None else np.clip(result, -clamp, clamp)


def rollout_weights(num_tokens: Ints, group: Ints, kind: str) -> Floats:
    """Weight of each token of every rollout; over all tokens they sum to 1. [N]

    token_mean: every token counts the same, so a 93-rollout prompt pulls far more than an 8-rollout one (A7).
    prompt_mean: every prompt counts the same, its tokens share its weight. sequence_mean: every rollout counts the same.

    Raises:
        ValueError: an unknown kind.

    """
    tokens = num_tokens.astype(np.float64)
    if kind == "token_mean":
        return np.full(tokens.size, 1.0 / max(tokens.sum(), 1.0))
    if kind == "prompt_mean":
        per_group = np.bincount(group, tokens)
        return 1.0 / (np.maximum(per_group, 1.0)[group] * np.count_nonzero(per_group))
    if kind == "sequence_mean":
        return 1.0 / (np.maximum(tokens, 1.0) * max(np.count_nonzero(tokens), 1))
    raise ValueError(f"weighting is {kind!r}; want token_mean, prompt_mean or sequence_mean")
