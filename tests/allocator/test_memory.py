"""The allocator keeps nothing for the life of the process: 100,000 records through its loop leave nothing behind."""

import threading
from typing import Any

import numpy as np
from allocator_world import World, make_config
from factories import make_prompt, make_trajectory
from growth import container_sizes
from msgspec.structs import replace

from allocator.admission import admission_of
from allocator.role import Allocator
from stream.broker import Record
from stream.memory import MemoryBroker
from stream.messages import Job, Verdict
from stream.run_topics import RunTopics
from stream.topics import DEADLETTERS, TOPICS, VERDICTS
from stream.worker import run_loop

PROMPTS = [make_prompt(f"p{i}", level=f"l{i % 3}") for i in range(64)]
TOKENS = {prompt.prompt_id: np.array([1, 2], dtype=np.int32) for prompt in PROMPTS}
NUM_STRAY = 60
"""Verdicts a turn of evaluations, and as many of groups that are not open."""


class BusyWorld(World):
    """Answers every rollout twice, and sends verdicts that are none of the allocator's business."""

    def _answer(self, job: Job) -> None:
        super()._answer(job)
        for rollout in range(job.start, job.stop):
            self._send(job, rollout)

    def send_strays(self) -> None:
        job = self.jobs[-1]
        of_evaluation = replace(job, purpose="eval:heldout", group_id=f"eval-{self.step}")
        of_unknown_group = replace(job, group_id=f"{job.prompt.prompt_id}.999999")
        for stray in (of_evaluation, of_unknown_group):
            for _ in range(NUM_STRAY):
                self._send(stray, job.start)

    def _send(self, job: Job, rollout: int) -> None:
        verdict = Verdict(trajectory=make_trajectory(job, rollout), outcome="correct", reward=1.0)
        self.log.send_of_group(VERDICTS, job.group_id, verdict)


class WorldlyReader:
    """The allocator's reader; before each poll the world takes its turn."""

    def __init__(self, role: Allocator, world: BusyWorld) -> None:
        self._reader = role.reader
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def poll(self, timeout_s: float, max_records: int = 500) -> list[Record]:
        if self._world.turn():
            self._world.send_strays()
        return self._reader.poll(timeout_s, 10_000)


def test_a_hundred_thousand_records_leave_nothing_pending_and_nothing_that_grows() -> None:
    run = {"name": "r", "num_updates": 560, "prompts_per_update": 4, "rollouts_per_prompt": 16, "max_staleness": 1}
    config = make_config(run=run, allocator={"mode": "bayes", "slice_rollouts": 8, "max_rollouts": 32})
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 3)
    topics = RunTopics(broker, "r", "allocator-0")
    role = Allocator(config, topics, PROMPTS, TOKENS, admission_of(config))
    world = BusyWorld(broker, config)
    run_loop(role, topics, WorldlyReader(role, world), threading.Event(), watermark=role.watermark)
    assert sum(role.watermark.offsets().values()) > 100_000
    assert role.state.num_admitted == 4 * 560
    assert world.log.read_all(DEADLETTERS) == []
    assert role.watermark.num_pending == 0
    sizes = container_sizes(role)
    assert sizes["state.beliefs"] == len(PROMPTS)
    assert {name: size for name, size in sizes.items() if size > len(PROMPTS)} == {}
