"""Keeps the beliefs of a pool as arrays: beliefs in, the posterior and the expected cost of chosen prompts out. M prompts."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from allocator.beliefs import success_rate
from allocator.budget import Floats, Ints
from allocator.modes import Beliefs
from allocator.prior import learn_costs, learn_prior, numbered
from stream.messages import Belief, Prompt


class Evidence:
    """The discounted counts of every prompt of a pool, and the prior that they make."""

    def __init__(
        self, pool: Sequence[Prompt], fixed_prior: tuple[float, float] | None = None, most_tokens: int = 512
    ) -> None:
        """Start without counts.

        Args:
            pool: all prompts, in any order.
            fixed_prior: (a, b) of every prompt's Beta prior; without it one is learned from the counts.
            most_tokens: what a rollout may take at most, which is believed as long as none was seen.

        """
        self.prompt_ids = [prompt.prompt_id for prompt in pool]
        self._index = {prompt_id: index for index, prompt_id in enumerate(self.prompt_ids)}
        self._task = numbered(prompt.task for prompt in pool)
        self._level = numbered((prompt.task, prompt.level) for prompt in pool)
        self._trials, self._successes = np.zeros(len(pool)), np.zeros(len(pool))
        self._sampled, self._tokens = np.zeros(len(pool)), np.zeros(len(pool))
        self._is_open = np.zeros(len(pool), dtype=np.bool_)
        self.num_rollouts = np.zeros(len(pool), dtype=np.int64)  # [M] admitted so far
        self._fixed_prior = fixed_prior
        self._most_tokens = float(most_tokens)
        self._prior: tuple[Floats, Floats] | None = None

    def note(self, belief: Belief) -> None:
        """Take in a prompt's belief."""
        index = self._index[belief.prompt_id]
        self._sampled[index], self._tokens[index] = belief.recent_sampled, belief.recent_tokens
        self._is_open[index], self.num_rollouts[index] = belief.open_group is not None, belief.num_rollouts
        if (self._trials[index], self._successes[index]) != (belief.recent_trials, belief.recent_correct):
            self._trials[index], self._successes[index] = belief.recent_trials, belief.recent_correct
            self._prior = None

    def note_all(self, beliefs: Collection[Belief]) -> None:
        """Take in many beliefs at once."""
        indices = self.indices([belief.prompt_id for belief in beliefs])
        self._is_open[indices] = [belief.open_group is not None for belief in beliefs]
        self.num_rollouts[indices] = [belief.num_rollouts for belief in beliefs]
        self._sampled[indices] = [belief.recent_sampled for belief in beliefs]
        self._tokens[indices] = [belief.recent_tokens for belief in beliefs]
        self._trials[indices] = [belief.recent_trials for belief in beliefs]
        self._successes[indices] = [belief.recent_correct for belief in beliefs]
        self._prior = None

    def beliefs(self, chosen: Sequence[str], beliefs: Mapping[str, Belief]) -> Beliefs:
        """What is believed of the chosen prompts, in their order."""
        a, b = self.posterior(self.indices(chosen))
        return Beliefs(rate=np.array([success_rate(beliefs[prompt_id]) for prompt_id in chosen]), a=a, b=b)

    def posterior(self, indices: Ints) -> tuple[Floats, Floats]:
        """Beta(a, b) of the prompts with these numbers. [K] -> [K] twice"""
        if self._prior is None:
            self._prior = self._learn()
        successes, trials = self._successes[indices], self._trials[indices]
        a, b = self._prior
        return a[indices] + successes, b[indices] + trials - successes

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

    def _learn(self) -> tuple[Floats, Floats]:
        if self._fixed_prior is not None:
            a, b = self._fixed_prior
            return np.full(self._trials.size, a), np.full(self._trials.size, b)
        prior = learn_prior(self._successes, self._trials, self._task, self._level)
        return prior.a, prior.b
