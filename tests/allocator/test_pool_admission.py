"""Single rollouts of the whole pool: how many, whose turn it is, and what their jobs say."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from allocator_world import World, make_config
from factories import make_prompt

from allocator.admission import admission_of
from allocator.evidence import Evidence
from allocator.pool_admission import LEAST_SHARE
from allocator.role import Allocator
from stream.memory import MemoryBroker
from stream.messages import Job
from stream.run_topics import RunTopics
from stream.topics import JOBS, TOPICS
from stream.worker import hand_over


class Run:
    """An allocator over a pool of a given size, and the rest of the world, update by update."""

    def __init__(self, num_prompts: int, run: dict[str, Any], **allocator: Any) -> None:
        shape = {"prompts_per_update": run["rollouts_per_update"], "rollouts_per_prompt": 1}
        config = make_config(run={"name": "r"} | shape | run, learner={"objective": "belief"}, allocator=allocator)
        pool = [make_prompt(f"p{number:03d}", level=f"l{number % 4}") for number in range(num_prompts)]
        broker = MemoryBroker()
        broker.create_topics("r", TOPICS, 1)
        self.world = World(broker, config)
        self.topics = RunTopics(broker, "r", "allocator-0")
        tokens = {prompt.prompt_id: np.array([1], dtype=np.int32) for prompt in pool}
        self.role = Allocator(config, self.topics, pool, tokens, admission_of(config))

    def turn(self) -> list[Job]:
        """What is admitted next; its verdicts come, and its groups end."""
        before = len(self.world.log.read_all(JOBS))
        for record in self.role.reader.poll(0, 100_000):
            hand_over(self.role, self.topics, record, self.role.watermark)
        while self.role.work():
            pass
        jobs: list[Job] = self.world.log.read_all(JOBS)[before:]
        self.world.turn()
        return jobs


def rollouts_of(jobs: list[Job]) -> Counter[str]:
    return Counter({job.prompt.prompt_id: job.num_rollouts for job in jobs})


def test_an_update_is_of_rollouts_and_a_large_pool_gives_one_a_prompt_at_first() -> None:
    run = Run(100, {"num_updates": 4, "rollouts_per_update": 20, "max_staleness": 1})
    first = run.turn()
    assert rollouts_of(first).total() == 40
    assert set(rollouts_of(first).values()) == {1}
    assert sorted(job.round for job in first) == [0] * 20 + [1] * 20
    assert rollouts_of(run.turn()).total() == 40
    assert run.turn() == []
    run.role.work()
    assert run.role.finished


def test_a_pool_smaller_than_an_update_gives_several_a_prompt() -> None:
    run = Run(7, {"num_updates": 2, "rollouts_per_update": 20, "max_staleness": 0})
    first = rollouts_of(run.turn())
    assert first.total() == 20
    assert set(first.values()) == {2, 3}
    assert rollouts_of(run.turn()).total() == 20


def test_turns_take_every_prompt_before_any_again() -> None:
    run = Run(30, {"num_updates": 6, "rollouts_per_update": 10, "max_staleness": 0}, mode="uniform")
    turns = [rollouts_of(run.turn()) for _ in range(6)]
    assert sum(turns[:3], Counter()) == sum(turns[3:], Counter()) == Counter({f"p{n:03d}": 1 for n in range(30)})


def test_jobs_hold_the_belief_before_their_rollouts_and_why() -> None:
    run = Run(40, {"num_updates": 3, "rollouts_per_update": 20, "max_staleness": 0})
    for _ in range(3):
        beliefs = dict(
            zip(
                run.role.state.evidence.prompt_ids,
                zip(*run.role.state.evidence.posterior(np.arange(40)), strict=True),
                strict=True,
            )
        )
        for job in run.turn():
            reason = job.budgeting
            assert reason is not None
            assert reason.mode == "learnability"
            if job.round == 0:
                assert (reason.a, reason.b) == beliefs[job.prompt.prompt_id] == (1.0, 1.0)
            assert reason.a > 0 < reason.b
            assert reason.success_rate == reason.a / (reason.a + reason.b)


def test_no_prompt_is_forgotten_however_little_it_is_worth() -> None:
    """A quarter of the pool is believed to fail always; in the mean it still gets LEAST_SHARE of an equal share."""
    size, per_update, num_updates = 64, 16, 160
    run = Run(size, {"num_updates": num_updates, "rollouts_per_update": per_update, "max_staleness": 0}, discount=0.5)
    hopeless = {f"p{number:03d}" for number in range(0, size, 4)}
    evidence = run.role.state.evidence
    spent: Counter[str] = Counter()
    for _ in range(num_updates):
        for index in evidence.indices(hopeless):
            evidence._trials[0, index], evidence._successes[0, index] = 1e6, 1.0
        evidence._priors.clear()
        spent += rollouts_of(run.turn())
    assert spent.total() == num_updates * per_update
    least = LEAST_SHARE * num_updates * per_update * len(hopeless) / size
    assert sum(spent[prompt_id] for prompt_id in hopeless) == pytest.approx(least, abs=0.02 * least + 4)
    assert min(spent[prompt_id] for prompt_id in hopeless) > 0
    assert min(spent[f"p{number:03d}"] for number in range(size) if number % 4) > max(
        spent[prompt_id] for prompt_id in hopeless
    )


def test_an_update_is_expected_to_take_no_more_tokens_than_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    size, per_update, num_updates = 64, 16, 60
    shape = {"num_updates": num_updates, "rollouts_per_update": per_update, "max_staleness": 0}
    costs = {f"p{number:03d}": 10.0 if number % 4 else 100.0 for number in range(size)}
    monkeypatch.setattr(Evidence, "costs", lambda _, chosen: np.array([costs[prompt_id] for prompt_id in chosen]))
    tokens = {}
    for budget in (0, 500, 1):
        run = Run(size, shape, budget_tokens=budget, prior=(1.0, 1.0))
        turns = [run.turn() for _ in range(num_updates)]
        jobs = [job for turn in turns for job in turn]
        assert [rollouts_of(turn).total() for turn in turns] == [per_update] * num_updates
        if budget:
            assert all(job.budgeting and job.budgeting.cost == costs[job.prompt.prompt_id] for job in jobs)
        tokens[budget] = sum(costs[job.prompt.prompt_id] * job.num_rollouts for job in jobs) / num_updates
    assert 510 < tokens[0] < 560  # E[pq] is about the same for all
    assert 470 < tokens[500] < 502  # some turns would take less anyway
    least = (
        (100 * LEAST_SHARE + 10 * (4 - LEAST_SHARE)) * per_update / 4
    )  # out of reach: the dear get their least share
    assert tokens[1] == pytest.approx(least, rel=0.03)
