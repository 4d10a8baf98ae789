"""What the pool's rollouts have shown so far, as arrays: from beliefs to the posterior of the prompts of a round."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from allocator.beliefs import success_rate
from allocator.budget import Floats, Ints
from allocator.modes import Beliefs
from allocator.prior import learn_costs, learn_prior
from stream.messages import Belief, Prompt


class Evidence:
    """The discounted counts of every prompt of a pool, and the prior that they make."""

    def __init__(
        self, pool: Sequence[Prompt], fixed_prior: tuple[float, float] | None = None, most_tokens: int = 512
    ) -> None:
        self._place = {prompt.prompt_id: number for number, prompt in enumerate(pool)}
        self._task = _numbered([prompt.task for prompt in pool])
        self._level = _numbered([(prompt.task, prompt.level) for prompt in pool])
        self._trials, self._successes = np.zeros(len(pool)), np.zeros(len(pool))
        self._sampled, self._tokens = np.zeros(len(pool)), np.zeros(len(pool))
        self._fixed_prior = fixed_prior
        self._most_tokens = float(most_tokens)
        self._prior: tuple[Floats, Floats] | None = None

    def __contains__(self, prompt_id: str) -> bool:
        """Whether the pool holds a prompt."""
        return prompt_id in self._place

    def note(self, belief: Belief) -> None:
        """A prompt's belief as it is now."""
        place = self._place[belief.prompt_id]
        self._sampled[place], self._tokens[place] = belief.recent_sampled, belief.recent_tokens
        if (self._trials[place], self._successes[place]) != (belief.recent_trials, belief.recent_correct):
            self._trials[place], self._successes[place] = belief.recent_trials, belief.recent_correct
            self._prior = None

    def note_all(self, beliefs: Collection[Belief]) -> None:
        """`note` of many beliefs at once."""
        places = self._places([belief.prompt_id for belief in beliefs])
        self._sampled[places] = [belief.recent_sampled for belief in beliefs]
        self._tokens[places] = [belief.recent_tokens for belief in beliefs]
        self._trials[places] = [belief.recent_trials for belief in beliefs]
        self._successes[places] = [belief.recent_correct for belief in beliefs]
        self._prior = None

    def beliefs(self, chosen: Sequence[str], beliefs: Mapping[str, Belief]) -> Beliefs:
        """What is believed of the chosen prompts."""
        if self._prior is None:
            self._prior = self._learn()
        places = self._places(chosen)
        successes, trials = self._successes[places], self._trials[places]
        a, b = self._prior
        return Beliefs(
            rate=np.array([success_rate(beliefs[prompt_id]) for prompt_id in chosen]),
            a=a[places] + successes,
            b=b[places] + trials - successes,
        )

    def costs(self, chosen: Sequence[str]) -> Floats:
        """Tokens that a rollout of each chosen prompt is expected to take, at least 1."""
        costs = learn_costs(self._tokens, self._sampled, self._task, self._level, self._most_tokens)
        return np.maximum(costs[self._places(chosen)], 1.0)

    def _places(self, chosen: Sequence[str]) -> Ints:
        return np.array([self._place[prompt_id] for prompt_id in chosen], dtype=np.int64)

    def _learn(self) -> tuple[Floats, Floats]:
        if self._fixed_prior is not None:
            a, b = self._fixed_prior
            return np.full(self._trials.size, a), np.full(self._trials.size, b)
        prior = learn_prior(self._successes, self._trials, self._task, self._level)
        return prior.a, prior.b


def _numbered(labels: Sequence[object]) -> Ints:
    """Equal labels get equal numbers, from 0."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)
