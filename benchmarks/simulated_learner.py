"""Models the learner of `benchmarks.simulate`: prompts with difficulties, skills, their gradient and the optimizer.

The formulas are at the top of `benchmarks.simulate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allocator.budget import Floats, Ints
from learner.advantages import advantages, rollout_weights

HELDOUT = 20
"""Held-out prompts of a kind."""
BETA1, BETA2 = 0.9, 0.999
OUT_OF_REACH = 20.0
"""Logits that no training covers."""
DEMO_LOGITS = (
    3.1, 3.5, 3.6, 3.5, 3.4, 3.6, 3.8, 4.0, 3.8, 3.4, 3.7, 4.0, 2.0, 1.7, 1.8, 1.5, 1.6, 0.9, 0.0, 0.6, 0.2, -0.6,
    0.6, 0.0, 0.0, 0.2, -2.3, -0.4, -0.5, -0.8, -1.0, -2.0, -1.3, -0.9, -1.0, -1.9, -5.8, -2.9, -2.7, -6.2, -5.5, -5.4,
    -4.0, -3.6, -5.8, -6.1, -3.4, -5.1, -3.7, -6.6, -3.2, -4.1, -3.1, -5.7, -5.0, -6.7, -6.8, -3.7, -4.3, -6.3, -3.7,
    -6.7, -6.3, -3.7,
)  # fmt: skip
"""Mean logit of the success rates of the demo's base model on the pool's prompts of each code (exact, within 7)."""
DEMO_DEVIATION = 1.0
"""Standard deviation of the prompts' logits about the mean of their code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """A task, a learner and how its rollouts are spent."""

    kinds: int = 64
    each: int = 10
    """Prompts of a kind in the pool."""
    mean: float = 0.5
    spread: float = 2.5
    """Mean and standard deviation of the difficulty, in logits."""
    private_difficulty: float = 0.5
    private_skill: float = 0.2
    width: int = 0
    dead: tuple[float, float] = (0.0, 0.0)
    """Shares of the kinds that are always right, and always wrong, whatever is learned."""
    demo: bool = False
    """Prompts as hard as the demo's are for its base model, instead."""
    told: bool = True
    """Whether the allocator is told the kinds, as levels."""
    prompts: int = 32
    group: int = 8
    updates: int = 64
    low: int = 2
    """min_rollouts."""
    discount: float = 0.5
    advantage: str = "std"
    weighting: str = "prompt_mean"
    optimizer: str = "adam"
    lr: float = 0.45

    @property
    def rollouts(self) -> int:
        """Rollouts of the whole run, where the allocation's name does not scale it."""
        return self.prompts * self.group * self.updates


class Skills:
    """The policy: what is known of kinds and of single prompts. Legend: K kinds, M prompts of the pool, D = width or K."""

    def __init__(self, regime: Regime, rng: np.random.Generator) -> None:
        self._regime = regime
        self.kind = np.repeat(np.arange(regime.kinds), regime.each)  # [M]
        of_kind = rng.standard_normal(regime.kinds)
        self.difficulty = self._difficulty(of_kind, self.kind, rng)  # [M]
        self.heldout_kind = np.repeat(np.arange(regime.kinds), HELDOUT)
        self.heldout_difficulty = self._difficulty(of_kind, self.heldout_kind, rng)
        if regime.width:
            features = rng.standard_normal((regime.kinds, regime.width))
            self.features = features / np.linalg.norm(features, axis=1, keepdims=True)  # [K, D]
        else:
            self.features = np.eye(regime.kinds)
        self.shared = np.zeros(self.features.shape[1])  # [D]
        self.private = np.zeros(self.kind.size)  # [M]

    def _difficulty(self, of_kind: Floats, kind: Ints, rng: np.random.Generator) -> Floats:
        regime = self._regime
        own = rng.standard_normal(kind.size)
        if regime.demo:
            return np.asarray(DEMO_DEVIATION * own - np.array(DEMO_LOGITS)[kind])
        share = regime.private_difficulty
        difficulty = regime.mean + regime.spread * (np.sqrt(1.0 - share) * of_kind[kind] + np.sqrt(share) * own)
        solved, hopeless = (round(share * regime.kinds) for share in regime.dead)
        difficulty[kind < solved] = -OUT_OF_REACH
        difficulty[kind >= regime.kinds - hopeless] = OUT_OF_REACH
        return np.asarray(difficulty)

    def rates(self) -> Floats:
        """Success rates of the pool's prompts. [M]"""
        share = self._regime.private_skill
        shared = np.sqrt(1.0 - share) * (self.features @ self.shared)
        return _sigmoid(shared[self.kind] + np.sqrt(share) * self.private - self.difficulty)

    def heldout_rates(self) -> Floats:
        """Success rates of prompts never trained on. [K HELDOUT]"""
        shared = np.sqrt(1.0 - self._regime.private_skill) * (self.features @ self.shared)
        return _sigmoid(shared[self.heldout_kind] - self.heldout_difficulty)

    def gradient(self, logit_gradient: Floats) -> tuple[Floats, Floats]:
        """Gradient of the shared and the private skills, from that of the prompts' logits. [M] -> [D], [M]"""
        share = self._regime.private_skill
        by_kind = np.bincount(self.kind, logit_gradient, self.features.shape[0])
        return np.sqrt(1.0 - share) * (by_kind @ self.features), np.sqrt(share) * logit_gradient


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def logit_gradient(rates: Floats, correct: Ints, sizes: Ints, advantage: str, weighting: str) -> Floats:
    """Policy gradient of G groups of which `correct` of `sizes` rollouts were right, by their prompts' logits. [G]

    As the learner has it: groups without variance are dropped first, and weights are over the groups that are left.
    """
    gradient = np.zeros(rates.size)
    mixed = np.flatnonzero((correct > 0) & (correct < sizes))
    if mixed.size == 0:
        return gradient
    group = np.repeat(np.arange(mixed.size), sizes[mixed])
    rank = np.arange(group.size) - np.repeat(np.cumsum(sizes[mixed]) - sizes[mixed], sizes[mixed])
    rewards = (rank < correct[mixed][group]).astype(np.float64)
    weighted = advantages(rewards, group, advantage)
    weighted *= rollout_weights(np.ones(group.size, dtype=np.int64), group, weighting)
    gradient[mixed] = np.bincount(group, weighted * (rewards - rates[mixed][group]))
    return gradient


def belief_logit_gradient(rates: Floats, correct: Ints, sizes: Ints, beliefs: tuple[Floats, Floats]) -> Floats:
    """The same with beliefs Beta(a, b) [G] each as the baseline: every rollout counts, and as much as any other. [G]"""
    group = np.repeat(np.arange(sizes.size), sizes)
    rank = np.arange(group.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rewards = (rank < correct[group]).astype(np.float64)
    a, b = beliefs
    weighted = advantages(rewards, group, "belief", beliefs=(a[group], b[group])) / group.size
    return np.asarray(np.bincount(group, weighted * (rewards - rates[group]), sizes.size), dtype=np.float64)


class Optimizer:
    """Gradient ascent on both kinds of skills."""

    def __init__(self, regime: Regime) -> None:
        self._regime = regime
        self._first: list[Floats] = []
        self._second = 0.0
        self._steps = 0

    def step(self, skills: Skills, gradient: Sequence[Floats]) -> None:
        """One update; none where there is no gradient."""
        if not any(part.any() for part in gradient):
            return
        if self._regime.optimizer == "adam":
            self._steps += 1
            first = self._first or [np.zeros_like(part) for part in gradient]
            self._first = [BETA1 * m + (1.0 - BETA1) * g for m, g in zip(first, gradient, strict=True)]
            self._second = BETA2 * self._second + (1.0 - BETA2) * float(sum(part @ part for part in gradient))
            norm = np.sqrt(self._second / (1.0 - BETA2**self._steps)) * (1.0 - BETA1**self._steps)
            gradient = [m / norm for m in self._first]
        elif self._regime.optimizer != "sgd":
            raise ValueError(f"optimizer is {self._regime.optimizer!r}; want adam or sgd")
        skills.shared += self._regime.lr * gradient[0]
        skills.private += self._regime.lr * gradient[1]
