"""Plays the allocator in one process: a pool of prompts, the beliefs about them, and how many rollouts each gets next.

The product's own queue, evidence, beliefs and modes; `regimes.py` and `simulate.py` train on what it plans. Beside the
modes there are rules that choose *which* prompts of the whole pool take part:

    choose    which and how many: bayes with a lower bound of 0. A group of two is worth V(2), so the first two rollouts
              are worth V(2) / 2 each, and V stays concave: E[V(3) - V(2)] is V(2) / 2 as well.
    choose 8  only which: the prompts with the greatest expected V(n), n rollouts each (8 where 8 is the mean).
    rehearse  as choose, but those from the queue get 2 rollouts at least, as in bayes.

A rule whose name ends in `wide`, `threefold` or `wider` takes two, three or four times as many prompts from the queue, for
the same budget.
With beliefs as the baseline no group is needed, and rollouts are admitted one by one (allocator.pool_admission):

    turns          one rollout a prompt, in turns.
    learnability   drawn over the whole pool, in the mean in proportion to sqrt(E[pq]), with a floor.

Groups of `sequential` (stream.sequential) are played to their end one after another, in turns, until the update's rollouts
are spent: without producers there is nothing to wait for, so none is open from one update to the next.

And two are told the true success rates, to show what better beliefs could bring:

    oracle         bayes, the posterior being certain.
    oracle choose  choose, the posterior being certain.
"""

import math
from collections.abc import Sequence

import numpy as np

from allocator.beliefs import WINDOW
from allocator.budget import Floats, Ints, solve
from allocator.evidence import Evidence
from allocator.forgetting import PER_VISIT, with_group
from allocator.modes import MODES
from allocator.pool_admission import draw
from allocator.prompt_queue import PromptQueue
from allocator.sequential_admission import MOST_MEANS, in_debt, price_of
from allocator.values import PlugIn, Shared, Value
from stream.messages import Belief, Budgeting, Prompt, Visit
from stream.sequential import FIRST, SEQUENTIAL, next_rollouts

WIDE = {"wide": 2, "threefold": 3, "wider": 4}
BELIEF_RULES = ("turns", "learnability")
CHOOSERS = ("choose", "choose 8", "rehearse")


def choose(value: Value, budget: int, low: Ints, high: int) -> Ints:
    """Rollouts of every prompt of the pool, 0 or 2 to `high`, not under `low`, of the greatest value. [M]"""
    solution = solve(lambda i, n: value.marginal(i, np.maximum(n, 2)), budget, low, np.full(low.size, high), least=0)
    rollouts = solution.num_rollouts.copy()
    single = np.flatnonzero(rollouts == 1)  # ties at the price: one half takes the other half's rollouts
    rollouts[single[: single.size // 2]] += 1
    rollouts[single[single.size // 2 :]] = 0
    if single.size % 2:
        rollouts[np.flatnonzero((rollouts > 0) & (rollouts < high))[0]] += 1
    return rollouts


class Pool:
    """Prompts to train on, and the beliefs that their rollouts make."""

    def __init__(
        self, prompts: Sequence[Prompt], seed: int, *, group: int = 8, low: int = 2, high: int = 128,
        discount: float = PER_VISIT, per_version: Sequence[float] = (),
    ) -> None:  # fmt: skip
        self.index = {prompt.prompt_id: number for number, prompt in enumerate(prompts)}
        self._ids = list(self.index)
        self._beliefs = {prompt_id: Belief(prompt_id=prompt_id) for prompt_id in self._ids}
        self._evidence = Evidence(prompts, per_version=per_version)
        self._forecasts: dict[str, Floats] = {}
        self._queue = PromptQueue(self._beliefs, seed)
        self._rng = np.random.default_rng(seed)
        self._group, self._low, self._high = group, low, high
        self._discount = discount
        self._spent, self._played = 0, 0  # rollouts and groups of `play` so far

    def plan(self, allocation: str, prompts: int, rates: Floats | None = None) -> dict[str, int]:
        """Which prompts get how many rollouts; the budget is `group` rollouts for each of `prompts` prompts.

        `rates` [M] are the true success rates, which only the oracles look at.
        """
        budget = prompts * self._group
        if allocation in BELIEF_RULES:
            return self._by_rollouts(allocation, budget)
        rule, _, wide = allocation.rpartition(" ")
        if wide in WIDE:
            allocation, prompts = rule, prompts * WIDE[wide]
        if allocation in CHOOSERS or allocation == "oracle choose":
            return self._choose(allocation, prompts, budget, rates)
        chosen = self._queue.take(prompts)
        low, high = np.full(prompts, self._low), np.full(prompts, self._high)
        if allocation == "oracle":
            assert rates is not None
            value = PlugIn(rates[[self.index[prompt_id] for prompt_id in chosen]])
            rollouts = solve(value.marginal, budget, low, high).num_rollouts
        else:
            believed = self._evidence.beliefs(chosen, self._beliefs)
            rollouts = MODES[allocation](believed, budget, low, high, None).num_rollouts
        return dict(zip(chosen, rollouts.tolist(), strict=True))

    def play(self, allocation: str, prompts: int, rates: Floats) -> tuple[dict[str, int], Ints]:
        """The groups of an update under `sequential`: rollouts by prompt, and how many were right [G].

        `rates` [M] are the true success rates, by which rewards are drawn. The update's rollouts are spent to the last:
        where a single one would be left, the last group has it.
        """
        mean = max(FIRST, self._group / WIDE.get(allocation.removeprefix(SEQUENTIAL).strip(), 1))
        cap = math.ceil(mean * (MOST_MEANS if self._evidence.version else 1))
        a, b = self._evidence.posterior(np.arange(rates.size))
        left = prompts * self._group
        price = price_of(a, b, in_debt(mean, self._spent - mean * self._played, left), cap)
        plan: dict[str, int] = {}
        correct = []
        while left > 0 and (taken := self._queue.take_up_to(1)):
            i = self.index[taken[0]]
            reason = Budgeting(
                mode=SEQUENTIAL, success_rate=0.0, num_observed=0, value=0.0, price=price, a=float(a[i]), b=float(b[i])
            )
            rewards: list[float] = []
            most = left if cap == left - 1 else min(cap, left)
            while more := next_rollouts(reason, most, len(rewards), rewards):
                more += more == left - len(rewards) - 1
                rewards += (self._rng.random(more) < rates[i]).astype(float).tolist()
            plan[taken[0]], left = len(rewards), left - len(rewards)
            correct.append(int(sum(rewards)))
        self._spent, self._played = self._spent + sum(plan.values()), self._played + len(plan)
        return plan, np.array(correct)

    def _by_rollouts(self, allocation: str, budget: int) -> dict[str, int]:
        size = len(self._ids)
        if allocation == "turns":
            each, rest = divmod(budget, size)
            rollouts = np.full(size, each)
            rollouts[[self.index[prompt_id] for prompt_id in self._queue.take_up_to(rest)]] += 1
        else:
            a, b = self._evidence.posterior(np.arange(size))
            rollouts, _ = draw(a * b / ((a + b) * (a + b + 1.0)), budget, self._high, self._rng)
        taken = np.flatnonzero(rollouts)
        self._forecasts = dict(zip((self._ids[i] for i in taken), self._evidence.forecasts(taken).T, strict=True))
        return {self._ids[i]: int(rollouts[i]) for i in taken}

    def believed(self, prompt_ids: Sequence[str]) -> tuple[Floats, Floats]:
        """Beta(a, b) of prompts. [K] twice"""
        return self._evidence.posterior(self._evidence.indices(prompt_ids))

    def advance(self) -> None:
        """An update was made: the policy has a new version."""
        self._evidence.advance(self._evidence.version + 1)

    def _choose(self, allocation: str, prompts: int, budget: int, rates: Floats | None) -> dict[str, int]:
        shuffled = self._rng.permutation(len(self._ids))  # ties go to any prompt
        order = [self._ids[i] for i in shuffled]
        value: Value
        if allocation == "oracle choose":
            assert rates is not None
            value = PlugIn(rates[shuffled])
        else:
            believed = self._evidence.beliefs(order, self._beliefs)
            value = Shared(believed.a, believed.b, 2, self._high)
        if allocation == "choose 8":
            worth = value.value(np.arange(len(order)), np.full(len(order), self._group))
            rollouts = np.zeros(len(order), dtype=np.int64)
            rollouts[np.argsort(-worth, kind="stable")[:prompts]] = self._group
        else:
            queued = set(self._queue.take(prompts)) if allocation == "rehearse" else set()
            low = np.array([self._low if prompt_id in queued else 0 for prompt_id in order])
            rollouts = choose(value, budget, low, self._high)
        return {order[i]: int(rollouts[i]) for i in np.flatnonzero(rollouts)}

    def observe(self, prompt_id: str, correct: float, graded: int) -> None:
        """A group is graded and over."""
        version = self._evidence.version
        if (forecast := self._forecasts.pop(prompt_id, None)) is not None:
            self._evidence.scores.note(forecast, correct, graded, version)
        old = self._beliefs[prompt_id]
        self._beliefs[prompt_id] = belief = after_group(old, correct, graded, self._discount, version)
        self._evidence.note(belief)
        self._queue.put(belief)


def after_group(belief: Belief, correct: float, graded: int, discount: float, version: int = 0) -> Belief:
    """What `admit`, `observe` and `end` of allocator.beliefs make of a belief and a group: a sweep makes millions."""
    return Belief(
        prompt_id=belief.prompt_id,
        num_groups=belief.num_groups + 1,
        num_rollouts=belief.num_rollouts + graded,
        num_trials=belief.num_trials + graded,
        num_correct=belief.num_correct + correct,
        recent_trials=discount * belief.recent_trials + graded,
        recent_correct=discount * belief.recent_correct + correct,
        faded=with_group(belief.faded, version - belief.faded_at, graded, correct),
        faded_at=version,
        visits=(*belief.visits, Visit(num_correct=correct, num_graded=graded))[-WINDOW:],
    )
