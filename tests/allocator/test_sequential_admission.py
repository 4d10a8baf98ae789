"""Groups that grow: the price, what is open, the run's end, and what a restart finds."""

from collections import deque
from typing import Any

import numpy as np
import pytest
from allocator_world import make_config
from factories import make_prompt, make_trajectory

from allocator.admission import admission_of
from allocator.role import Allocator
from allocator.sequential_admission import price_of
from learner.groups import Assembler, group_end
from stream.codec import decode
from stream.memory import MemoryBroker
from stream.messages import Budgeting, GroupEnd, Job, Update, Verdict
from stream.run_topics import RunTopics
from stream.sequential import progress_of
from stream.topics import JOBS, TOPICS, UPDATES, VERDICTS
from stream.worker import hand_over


def mean_taken(a: float, b: float, price: float, cap: int) -> float:
    """Rollouts that a group takes in the mean over p ~ Beta(a, b), by quadrature over what the rule does."""
    reason = Budgeting(mode="sequential", success_rate=0.5, num_observed=0, value=0.0, price=price, a=a, b=b)
    x, weights = np.polynomial.legendre.leggauss(200)
    p, weights = (x + 1) / 2, weights / 2
    belief = weights * p ** (a - 1) * (1 - p) ** (b - 1)
    mean = 0.0
    alike: dict[float, dict[int, float | None]] = {0.0: {}, 1.0: {}}
    asked, _ = progress_of(reason, cap, {})
    mean += asked
    for reward, rewards in alike.items():
        size = asked
        while True:
            rewards.update(dict.fromkeys(range(size), reward))
            following, is_over = progress_of(reason, cap, rewards)
            if is_over:
                break
            still_alike = float(belief @ (p**size if reward else (1 - p) ** size) / belief.sum())
            mean, size = mean + (following - size) * still_alike, following
    return mean


@pytest.mark.parametrize("mean", [3.0, 4.0, 6.0])
def test_at_the_price_groups_take_the_mean(mean: float) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 9, 200).astype(float), rng.integers(1, 30, 200).astype(float)
    price = price_of(a, b, mean, 24)
    taken = [mean_taken(*belief, price, 24) for belief in zip(a, b, strict=True)]
    assert 0 <= np.mean(taken) - mean <= 9 / 200  # the slice at the price is asked for: 9 rollouts at most
    assert price > 0


def test_where_nearly_all_groups_are_mixed_early_nothing_costs_anything() -> None:
    assert price_of(np.full(3, 40.0), np.full(3, 40.0), 8.0, 32) == 0.0
    assert price_of(np.full(3, 1.0), np.full(3, 9.0), 8.0, 2) == 0.0


class Run:
    """An allocator, producers that sample some rollouts a tick, and the learner's assembler."""

    def __init__(self, rates: np.ndarray[Any, np.dtype[np.float64]], at_once: int, **run: Any) -> None:
        self.config = make_config(run={"name": "r"} | run, allocator={"mode": "sequential"})
        self.pool = [make_prompt(f"p{number:03d}", level=f"l{number % 4}") for number in range(rates.size)]
        self.tokens = {prompt.prompt_id: np.array([1], dtype=np.int32) for prompt in self.pool}
        self.rates = dict(zip(self.tokens, rates, strict=True))
        self.at_once = at_once
        self.rng = np.random.default_rng(0)
        self.broker = MemoryBroker()
        self.broker.create_topics("r", TOPICS, 2)
        self.world = RunTopics(self.broker, "r", "world")
        self.new_jobs = self.world.reader(JOBS)
        self.jobs: list[Job] = []
        self.waiting: deque[tuple[Job, int]] = deque()
        self.assembler = Assembler()
        self.ends: list[tuple[GroupEnd, ...]] = []
        self.num_ended = 0
        self.start()

    def start(self) -> None:
        self.topics = RunTopics(self.broker, "r", "allocator-0")
        self.role = Allocator(self.config, self.topics, self.pool, self.tokens, admission_of(self.config))

    def tick(self) -> bool:
        """Answers come, groups grow and end; whether the run goes on."""
        for record in self.role.reader.poll(0, 100_000):
            hand_over(self.role, self.topics, record, self.role.watermark)
        while self.role.work():
            pass
        for record in self.new_jobs.poll(0, 100_000):
            self.jobs.append(decode(record.value, Job))
            self.waiting.extend((self.jobs[-1], rollout) for rollout in range(self.jobs[-1].start, self.jobs[-1].stop))
        if not self.waiting:
            return False
        for _ in range(min(self.at_once, len(self.waiting))):
            self._answer(*self.waiting.popleft())
        self._update()
        return True

    def _answer(self, job: Job, rollout: int) -> None:
        reward = float(self.rng.random() < self.rates[job.prompt.prompt_id])
        outcome = "timeout" if self.rng.random() < 0.02 else "correct"
        verdict = Verdict(trajectory=make_trajectory(job, rollout), outcome=outcome, reward=reward)
        self.world.send_of_group(VERDICTS, job.group_id, verdict)
        self.assembler.add(verdict)

    def _update(self) -> None:
        step = len(self.ends)
        if step < self.config.run.num_updates and (
            batch := self.assembler.take_rollouts(self.config.run.budget * (step + 1) - self.num_ended)
        ):
            ends = tuple(group_end(group, version=step, stale_after=100) for group in batch)
            self.ends.append(ends)
            self.num_ended += sum(end.num_rollouts for end in ends)
            update = Update(step=step + 1, version=step + 1, parent_version=step, groups=ends)
            self.world.send(UPDATES, "u", update)


def dead_and_alive(size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Success rates: a third hopeless, a third solved, a third between."""
    return np.resize([0.0, 0.01, 1.0, 0.99, 0.5, 0.1], size)


def test_groups_take_the_mean_and_the_price_does_not_swing() -> None:
    run = Run(dead_and_alive(240), 60, num_updates=40, prompts_per_update=15, rollouts_per_prompt=8, max_staleness=2)
    while run.tick():
        pass
    assert run.role.finished
    ends = [end for update in run.ends for end in update]
    assert len(run.ends) == 40
    assert sum(end.num_rollouts for end in ends) in (40 * 120, 40 * 120 + 1)
    assert sum(end.num_rollouts for end in ends) / len(ends) == pytest.approx(8, rel=0.15)
    prices = [job.budgeting.price for job in run.jobs if job.budgeting and 10 <= job.min_policy_version < 26]
    assert max(prices) < 30 * min(prices)
    assert all(sum(end.num_rollouts for end in update) < 120 + 2 * 32 for update in run.ends)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("staleness", [0, 1, 8])
def test_every_update_gets_its_groups_whatever_the_prompts(rate: float, staleness: int) -> None:
    run = Run(
        np.full(15, rate), 7, num_updates=5, prompts_per_update=4, rollouts_per_prompt=7.5, max_staleness=staleness
    )
    while run.tick():
        pass
    assert run.role.finished
    assert len(run.ends) == 5
    assert run.num_ended - 5 * 30 in (0, 1)
    assert not run.assembler.open


def test_before_the_first_update_no_group_takes_more_than_the_mean() -> None:
    run = Run(np.zeros(60), 1000, num_updates=20, prompts_per_update=10, rollouts_per_prompt=6, max_staleness=1)
    run.tick()
    assert {job.num_rollouts for job in run.jobs} == {6}
    assert {job.stop for job in run.jobs} == {2}
    assert len(run.jobs) == 20
    while run.tick():
        pass
    assert max(job.num_rollouts for job in run.jobs if job.min_policy_version < 5) == 24


def test_towards_the_end_groups_are_capped_so_that_as_many_are_open() -> None:
    run = Run(np.zeros(200), 1000, num_updates=12, prompts_per_update=10, rollouts_per_prompt=6, max_staleness=0)
    while run.tick():
        pass
    assert max(job.num_rollouts for job in run.jobs if job.min_policy_version == 11) <= 6
    assert len(run.ends[-1]) >= 9


def test_a_restart_finds_what_is_open_and_asks_for_nothing_twice() -> None:
    run = Run(dead_and_alive(60), 9, num_updates=8, prompts_per_update=6, rollouts_per_prompt=6, max_staleness=1)
    while run.tick():
        state = run.role.state
        open_rollouts, numbers = state.ledger.num_open_rollouts, (state.num_completed, state.num_completed_rollouts)
        run.role.close()
        run.start()
        for record in run.role.reader.poll(0, 100_000):
            hand_over(run.role, run.topics, record, run.role.watermark)
        state = run.role.state
        assert state.ledger.num_open_rollouts >= open_rollouts - 60  # an update may have come meanwhile
        assert state.num_completed >= numbers[0]
        assert state.num_completed_rollouts >= numbers[1]
    asked = [(job.group_id, rollout) for job in run.jobs for rollout in range(job.start, job.stop)]
    assert len(asked) == len(set(asked))
    assert len(run.ends) == 8
