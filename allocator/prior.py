"""Learns what to believe of a prompt before it was sampled: from the counts of all prompts, most from those like it.

The prompts form a tree, all -> task -> level -> prompt. At each stage a child's success rate is drawn around its
parent's, p_child ~ Beta(k p_parent, k (1 - p_parent)), with one strength k a stage. Strengths and rates are learned by
empirical Bayes with the method of moments: two rollouts of one child differ more rarely than two of different children
of one parent, and how much more rarely says how alike the children are: 1 / (k + 1) is the correlation of two rollouts of one
child. The children's weights are Kleinman's (Proportions with Extraneous Variance, JASA 68, 1973). Closed forms, O(M), and
counts may be fractions. Legend: M prompts; at a stage, C children of P parents.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from allocator.budget import Floats, Ints

MIN_STRENGTH, MAX_STRENGTH = 0.2, 1000.0
"""Bounds of k: few data must not make a prior sure of itself, nor one with all its mass at 0 and 1."""
UNKNOWN_STRENGTH = 2.0
"""k where nothing is known: with a parent at 1/2, every success rate is as likely as any other."""
DOUBT = 4.0
"""Children that UNKNOWN_STRENGTH counts as much as."""
COST_DOUBT = 4.0
"""Rollouts that the mean tokens of a prompt's kind count as much as."""
ROUNDS = 4
"""Fixed-point rounds: the weights of the children follow from k, which follows from the weights."""


@dataclass(frozen=True, slots=True)
class Prior:
    """Beta(a, b) of every prompt, and the strengths learned: of prompts in a level, levels in a task, tasks in all."""

    a: Floats  # [M]
    b: Floats  # [M]
    strengths: tuple[float, float, float]


def numbered(labels: Iterable[Hashable]) -> Ints:
    """Numbers for labels, from 0 in order of their first appearance; equal labels get equal numbers. [M]"""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def learn_prior(successes: Floats, trials: Floats, task: Ints, level: Ints) -> Prior:
    """The prior of every prompt, from the counts of all; a prompt may have no trials.

    Args:
        successes, trials: [M] counts, which may be discounted.
        task: [M] number of the task, from 0.
        level: [M] number of the level, from 0; a level belongs to one task.

    """
    task_of_level = np.zeros(int(level.max()) + 1, dtype=np.int64)
    task_of_level[level] = task
    all_of_task = np.zeros(int(task.max()) + 1, dtype=np.int64)
    prompt_k, level_rate, level_size = _ascend(_ratio(successes, trials), trials, level)
    level_k, task_rate, task_size = _ascend(level_rate, level_size, task_of_level)
    task_k, all_rate, all_size = _ascend(task_rate, task_size, all_of_task)
    mean = _descend(all_rate, all_size, 1.0, np.full(1, 0.5))
    mean = _descend(task_rate, task_size, task_k, mean[all_of_task])
    mean = _descend(level_rate, level_size, level_k, mean[task_of_level])[level]
    return Prior(prompt_k * mean, prompt_k * (1.0 - mean), (prompt_k, level_k, task_k))


def learn_costs(tokens: Floats, sampled: Floats, task: Ints, level: Ints, most: float) -> Floats:
    """Expected tokens of one rollout of every prompt, drawn towards its level's mean, that towards its task's, and so on.

    Args:
        tokens, sampled: [M] tokens taken by `sampled` rollouts, which may be discounted.
        task, level: [M] as for `learn_prior`.
        most: what is believed where nothing was sampled: the most tokens that a rollout may take.

    """
    mean = (tokens.sum() + COST_DOUBT * most) / (sampled.sum() + COST_DOUBT)
    for kind in (task, level, np.arange(tokens.size)):
        num = int(kind.max()) + 1
        above = np.broadcast_to(mean, tokens.size)
        # Every prompt of a kind has the same parent, whose mean is `above` at that prompt: any of them will do.
        parent = np.empty(num)
        parent[kind] = above
        of_kind = _sums(kind, tokens, num), _sums(kind, sampled, num)
        mean = ((of_kind[0] + COST_DOUBT * parent) / (of_kind[1] + COST_DOUBT))[kind]
    return np.asarray(mean)


def _ascend(rate: Floats, size: Floats, parent: Ints) -> tuple[float, Floats, Floats]:
    """Strength of a stage, and the parents' rates [P] and sizes [P], from the children's [C] and their parents [C].

    A rate of size n varies about the true one with the variance pq/n, as that of n rollouts does.
    """
    num_parents = int(parent.max()) + 1
    k = _strength(rate, size, parent, num_parents)
    weight = _weight(size, k)
    total = _sums(parent, weight, num_parents)
    return k, _ratio(_sums(parent, weight * rate, num_parents), total), total


def _descend(rate: Floats, size: Floats, strength: float, parent_mean: Floats) -> Floats:
    """Children's mean rates, drawn towards their parents'. [C]"""
    return (rate * size + strength * parent_mean) / (size + strength)


def _strength(rate: Floats, size: Floats, parent: Ints, num_parents: int) -> float:
    """The strength k of a stage: 1/(k+1) is the correlation of two rollouts of one child, 1 - inside / between.

    inside: how often two rollouts of one child differ; between: two of different children of one parent (both halved).
    """
    differ = _ratio(rate * (1.0 - rate) * size, size - 1.0)
    k = UNKNOWN_STRENGTH
    for _ in range(ROUNDS):
        weight = _weight(size, k)
        total = _sums(parent, weight, num_parents)
        successes = _sums(parent, weight * rate, num_parents)
        own_differ = _sums(parent, weight * weight * rate * (1.0 - rate), num_parents)
        own = _sums(parent, weight * weight, num_parents)
        pairs = _ratio(total * total - own, total).sum()
        pairs_differ = _ratio(successes * (total - successes) - own_differ, total).sum()
        if pairs <= 1e-9 or pairs_differ <= 1e-9:
            return UNKNOWN_STRENGTH
        between = pairs_differ / pairs
        evidence = _ratio(weight * np.maximum(size - 1.0, 0.0), size)  # less than one rollout tells nothing of it
        doubt = DOUBT * between * UNKNOWN_STRENGTH / (UNKNOWN_STRENGTH + 1.0)
        inside = (float(evidence @ differ) + doubt) / (float(evidence.sum()) + DOUBT)
        correlation = np.clip(1.0 - inside / between, 1.0 / (MAX_STRENGTH + 1.0), 1.0 / (MIN_STRENGTH + 1.0))
        k = float(1.0 / correlation - 1.0)
    return k


def _weight(size: Floats, k: float) -> Floats:
    """What a child's rate is worth for its parent's, in independent rollouts: never more than k + 1. [C]"""
    return size / (1.0 + np.maximum(size - 1.0, 0.0) / (k + 1.0))


def _sums(parent: Ints, values: Floats, num_parents: int) -> Floats:
    return np.asarray(np.bincount(parent, values, num_parents), dtype=np.float64)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """The quotient, 0 where bottom is not positive."""
    return np.divide(top, bottom, out=np.zeros(bottom.shape), where=bottom > 1e-12)
