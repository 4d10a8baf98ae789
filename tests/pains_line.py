"""A run in one thread and a virtual time: the real allocator, the learner's assembly, and an engine that takes as long as it is told.

Jobs are sampled in the order in which they come, on so many slots; a rollout that is issued again while it is sampled is sampled
once, as by a producer. Verdicts come with the last token. An update is made at once, and known at once.
"""

import heapq
import itertools
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from factories import make_trajectory

from allocator.admission import admission_of
from allocator.role import Allocator
from learner.groups import Assembler, Group, group_end
from learner.order import TrainingOrder
from stream.codec import decode
from stream.config import Config
from stream.memory import MemoryBroker
from stream.messages import GroupEnd, Job, Prompt, Update, Verdict
from stream.run_topics import RunTopics
from stream.topics import JOBS, TOPICS, UPDATES, VERDICTS
from stream.worker import hand_over

Key = tuple[str, int]
"""Group id and rollout index."""


def make_config(**tables: dict[str, Any]) -> Config:
    """Single rollouts measured against beliefs, unless the tables say otherwise."""
    run = {"name": "r", "num_updates": 20, "rollouts_per_update": 16, "max_staleness": 2}
    return Config(
        run=run | tables.pop("run", {}),
        learner={"objective": "belief"} | tables.pop("learner", {}),
        evaluator={"enabled": False},
        **tables,  # type: ignore[arg-type]
    )


class Line:
    """All of a run."""

    def __init__(
        self,
        config: Config,
        pool: Sequence[Prompt],
        seconds: Callable[[Job, int], float],
        *,
        slots: int = 10**9,
        waits: bool = True,
        loses: Callable[[], bool] = lambda: False,
    ) -> None:
        """A run that has not begun.

        Args:
            seconds: that a rollout is sampled for; infinite: it never ends.
            slots: rollouts that are sampled at once.
            waits: as the learner does, for what is due.
            loses: whether what comes of the next rollout is lost on the way.

        """
        self.config, self._pool, self._seconds, self._slots = config, pool, seconds, slots
        self._loses = loses
        self.broker = MemoryBroker()
        self.broker.create_topics("r", TOPICS, 2)
        self.world = RunTopics(self.broker, "r", "world")
        self._new_jobs = self.world.reader(JOBS)
        self._verdicts = self.world.reader(VERDICTS)
        self.jobs: list[Job] = []
        self._queue: deque[tuple[Job, int]] = deque()
        self._sampling: list[tuple[float, int, Job, int, int]] = []
        """When it ends, a number, job, rollout, version that it began with."""
        self._numbers = itertools.count()
        self.under_way: set[Key] = set()
        self.now_s = 0.0
        self.version = 0
        self.updates: list[tuple[list[Group], tuple[GroupEnd, ...]]] = []
        """The groups of each, and how they ended."""
        self.num_lost = 0
        self._slack = config.run.max_staleness - config.run.rounds_ahead if waits else None
        self._start()

    def _start(self) -> None:
        self.assembler = Assembler()
        run, counts_rollouts = self.config.run, self.config.counts_rollouts
        per_update = run.budget if counts_rollouts else run.prompts_per_update
        self._order = TrainingOrder(per_update, self._slack, counts_rollouts=counts_rollouts)
        tokens = {prompt.prompt_id: np.array([1], np.int32) for prompt in self._pool}
        self._topics = RunTopics(self.broker, "r", "allocator-0")
        self.allocator = Allocator(self.config, self._topics, self._pool, tokens, admission_of(self.config))

    def resume(self) -> None:
        """All processes are killed, and start again: what was being sampled is sampled anew, as a producer's jobs are."""
        lost = [(job, rollout) for _, _, job, rollout, _ in sorted(self._sampling)]
        self._queue, self._sampling = deque([*lost, *self._queue]), []
        early, num_taken = self._order.early, sum(end.num_rollouts for end in self.ends)
        self._start()
        for end in self.ends:
            self.assembler.seen.add(end.group_id)
        self._verdicts = self.world.reader(VERDICTS)
        self._order.resume(len(self.updates), num_taken, early)

    def run(self, num_updates: int | None = None) -> None:
        """Go on until so many updates are made, or all."""
        wanted = self.config.run.num_updates if num_updates is None else num_updates
        while len(self.updates) < wanted:
            self._allocate()
            self._begin()
            if not self._update():
                self._wait()

    @property
    def ends(self) -> list[GroupEnd]:
        """Of all groups."""
        return [end for _, ends in self.updates for end in ends]

    def _allocate(self) -> None:
        self.allocator._clock.now_s = self.now_s
        for record in self.allocator.reader.poll(0, 100_000):
            hand_over(self.allocator, self._topics, record, self.allocator.watermark)
        while self.allocator.work():
            pass

    def _begin(self) -> None:
        for record in self._new_jobs.poll(0, 100_000):
            job = decode(record.value, Job)
            self.jobs.append(job)
            for rollout in range(job.start, job.stop):
                if (job.group_id, rollout) not in self.under_way:
                    self.under_way.add((job.group_id, rollout))
                    self._queue.append((job, rollout))
        while self._queue and len(self._sampling) < self._slots:
            job, rollout = self._queue.popleft()
            assert self.version >= job.min_policy_version
            ends_s = self.now_s + self._seconds(job, rollout)
            heapq.heappush(self._sampling, (ends_s, next(self._numbers), job, rollout, self.version))

    def _wait(self) -> None:
        """Until the next rollout has ended, or, if none ever does, for a lease."""
        if not self._sampling or self._sampling[0][0] == float("inf"):
            self.now_s += self.config.allocator.lease_s + 1
            assert self.now_s < 1e9, "the run hangs"
            return
        self.now_s, _, job, rollout, version = heapq.heappop(self._sampling)
        self.under_way.discard((job.group_id, rollout))
        if self._loses():
            self.num_lost += 1
            return
        reward = float(zlib.crc32(f"{job.group_id}/{rollout}".encode()) % 2)
        verdict = Verdict(trajectory=make_trajectory(job, rollout, version), outcome="correct", reward=reward)
        self.world.send_of_group(VERDICTS, job.group_id, verdict)

    def _update(self) -> bool:
        for record in self._verdicts.poll(0, 100_000):
            self.assembler.add(decode(record.value, Verdict))
        if not self._order.arrange(self.assembler.ready):
            return False
        take = self.assembler.take_rollouts if self.config.counts_rollouts else self.assembler.take
        batch = take(self._order.num_wanted)
        if not batch:
            return False
        self._order.note(batch)
        stale_after = self.config.run.max_staleness + self.config.learner.stale_after
        ends = tuple(group_end(g, self.version, stale_after, group_mean=self.config.by_groups) for g in batch)
        self.updates.append((batch, ends))
        self.version += 1
        update = Update(step=self.version, version=self.version, parent_version=self.version - 1, groups=ends)
        self.world.send(UPDATES, "update", update)
        return True
