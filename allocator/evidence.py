"""Keeps the beliefs of a pool as arrays: beliefs in, the posterior and the expected cost of chosen prompts out. M prompts."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from allocator.beliefs import success_rate
from allocator.budget import Floats, Ints
from allocator.forgetting import PER_VERSION, Scores
from allocator.modes import Beliefs
from allocator.prior import learn_costs, learn_prior, numbered
from stream.messages import Belief, Prompt


class Evidence:
    """The discounted counts of every prompt of a pool, under each rule of forgetting, and the prior that they make.

    K rules: the first discounts per visit of a prompt, the others per version of the policy (`forgetting.PER_VERSION`).
    """

    def __init__(
        self,
        pool: Sequence[Prompt],
        fixed_prior: tuple[float, float] | None = None,
        most_tokens: int = 512,
        per_version: Sequence[float] = (),
    ) -> None:
        """Start without counts.

        Args:
            pool: all prompts, in any order.
            fixed_prior: (a, b) of every prompt's Beta prior; without it one is learned from the counts.
            most_tokens: what a rollout may take at most, which is believed as long as none was seen.
            per_version: PER_VERSION, or nothing, to discount per visit whatever is forecast best.

        """
        self.prompt_ids = [prompt.prompt_id for prompt in pool]
        self._index = {prompt_id: index for index, prompt_id in enumerate(self.prompt_ids)}
        self._task = numbered(prompt.task for prompt in pool)
        self._level = numbered((prompt.task, prompt.level) for prompt in pool)
        self._factors = np.array([1.0, *per_version])  # [K] per version
        self._trials, self._successes = np.zeros((2, self._factors.size, len(pool)))  # [K, M] each
        self._noted_at = np.zeros(len(pool), dtype=np.int64)  # [M] version as of which they are
        self.version = 0
        self.scores = Scores(self._factors.size)
        self._sampled, self._tokens = np.zeros(len(pool)), np.zeros(len(pool))
        self._is_open = np.zeros(len(pool), dtype=np.bool_)
        self._fixed_prior = fixed_prior
        self._most_tokens = float(most_tokens)
        self._priors: dict[int, tuple[Floats, Floats]] = {}
        self._scored_priors: list[tuple[Floats, Floats]] = []
        """Of every rule, made once for each version: forecasts that are only scored need no newer ones."""

    def note(self, belief: Belief) -> None:
        """Take in a prompt's belief."""
        index = self._index[belief.prompt_id]
        self._sampled[index], self._tokens[index] = belief.recent_sampled, belief.recent_tokens
        self._is_open[index] = belief.open_group is not None
        trials, successes = self._counts(belief)
        if (self._trials[:, index].tolist(), self._successes[:, index].tolist()) != (trials, successes):
            self._trials[:, index], self._successes[:, index] = trials, successes
            self._priors.clear()
        self._noted_at[index] = belief.faded_at

    def note_all(self, beliefs: Collection[Belief]) -> None:
        """Take in many beliefs at once."""
        indices = self.indices([belief.prompt_id for belief in beliefs])
        self._is_open[indices] = [belief.open_group is not None for belief in beliefs]
        self._sampled[indices] = [belief.recent_sampled for belief in beliefs]
        self._tokens[indices] = [belief.recent_tokens for belief in beliefs]
        counts = np.array([self._counts(belief) for belief in beliefs]).reshape(-1, 2, self._factors.size)
        self._trials[:, indices], self._successes[:, indices] = counts.transpose(1, 2, 0)
        self._noted_at[indices] = [belief.faded_at for belief in beliefs]
        self._priors.clear()

    def advance(self, version: int) -> None:
        """The policy has a new version: all counts per version are worth less."""
        if version > self.version:
            self.version = version
            self._priors.clear()
            self._scored_priors.clear()

    def beliefs(self, chosen: Sequence[str], beliefs: Mapping[str, Belief]) -> Beliefs:
        """What is believed of the chosen prompts, in their order."""
        a, b = self.posterior(self.indices(chosen))
        return Beliefs(rate=np.array([success_rate(beliefs[prompt_id]) for prompt_id in chosen]), a=a, b=b)

    def posterior(self, indices: Ints) -> tuple[Floats, Floats]:
        """Beta(a, b) of the prompts with these numbers, by the rule that forecasts best. [C] -> [C] twice"""
        return self._posterior(self.scores.best, indices)

    def forecasts(self, indices: Ints) -> Floats:
        """The success rate that each rule expects. [C] -> [K, C]"""
        rules = range(self._factors.size)
        if not self._scored_priors:
            self._scored_priors = [self._learn(rule) for rule in rules]
        pairs = [self._with_counts(rule, self._scored_priors[rule], indices) for rule in rules]
        return np.array([a / (a + b) for a, b in pairs])

    def _posterior(self, rule: int, indices: Ints) -> tuple[Floats, Floats]:
        if rule not in self._priors:
            self._priors[rule] = self._learn(rule)
        return self._with_counts(rule, self._priors[rule], indices)

    def _with_counts(self, rule: int, prior: tuple[Floats, Floats], indices: Ints) -> tuple[Floats, Floats]:
        kept = self._kept(rule, indices)
        successes, trials = self._successes[rule, indices] * kept, self._trials[rule, indices] * kept
        return prior[0][indices] + successes, prior[1][indices] + trials - successes

    def _kept(self, rule: int, indices: Ints | slice) -> Floats:
        """What the versions since leave of the counts."""
        return np.asarray(self._factors[rule] ** np.maximum(self.version - self._noted_at[indices], 0))

    def _counts(self, belief: Belief) -> tuple[list[float], list[float]]:
        """Trials and successes of a prompt under each rule. [K] twice"""
        size = len(PER_VERSION)
        counts = belief.faded or (0.0,) * (2 * size)
        if self._factors.size == 1:
            return [belief.recent_trials], [belief.recent_correct]
        return [belief.recent_trials, *counts[:size]], [belief.recent_correct, *counts[size:]]

    @property
    def num_free(self) -> int:
        """Prompts without an open group."""
        return int(self._is_open.size - np.count_nonzero(self._is_open))

    def free(self, without: Collection[str] = ()) -> Ints:
        """Numbers of the prompts that have no open group and are not in `without`, in order. [K]"""
        is_free = ~self._is_open
        is_free[self.indices(without)] = False
        return np.flatnonzero(is_free)

    def costs(self, chosen: Sequence[str]) -> Floats:
        """Tokens that a rollout of each chosen prompt is expected to take, at least 1. [K]"""
        costs = learn_costs(self._tokens, self._sampled, self._task, self._level, self._most_tokens)
        return np.maximum(costs[self.indices(chosen)], 1.0)

    def indices(self, chosen: Collection[str]) -> Ints:
        """Numbers of prompts, in the order of the pool from 0. [K]"""
        return np.array([self._index[prompt_id] for prompt_id in chosen], dtype=np.int64)

    def _learn(self, rule: int) -> tuple[Floats, Floats]:
        size = len(self.prompt_ids)
        if self._fixed_prior is not None:
            a, b = self._fixed_prior
            return np.full(size, a), np.full(size, b)
        kept = self._kept(rule, slice(None))
        prior = learn_prior(self._successes[rule] * kept, self._trials[rule] * kept, self._task, self._level)
        return prior.a, prior.b
