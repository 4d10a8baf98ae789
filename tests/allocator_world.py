"""The rest of a run, as the allocator's tests play it: it answers every job, ends every group, and checks the log."""

import zlib
from collections import Counter, defaultdict
from typing import Any

import numpy as np
from factories import make_prompt, make_trajectory

from allocator.beliefs import admit, end, observe
from stream.broker import Broker
from stream.codec import decode
from stream.config import Config
from stream.messages import Belief, Budgeting, Commit, GroupEnd, Job, OpenGroup, Update, Verdict
from stream.run_topics import RunTopics
from stream.sequential import progress_of
from stream.topics import BELIEFS, JOBS, UPDATES, VERDICTS

PROMPTS = [make_prompt(f"p{i}", level=f"l{i % 3}") for i in range(12)]
TOKENS = {prompt.prompt_id: np.array([1, 2], dtype=np.int32) for prompt in PROMPTS}


def make_config(**tables: dict[str, Any]) -> Config:
    base: dict[str, dict[str, Any]] = {
        "run": {"name": "r", "num_updates": 3, "prompts_per_update": 4, "rollouts_per_prompt": 6, "max_staleness": 1},
        "allocator": {"slice_rollouts": 4},
        "learner": {"objective": "tis"},
        "evaluator": {"enabled": False},
    }
    return Config(**{name: base.get(name, {}) | tables.get(name, {}) for name in base | tables})


def reward_of(group_id: str, rollout: int) -> float:
    """Whether a rollout succeeds: drawn by its name, so that every broker and every crash sees the same."""
    return float(zlib.crc32(f"{group_id}/{rollout}".encode()) % 3 == 0)


def newest_beliefs(log: RunTopics) -> dict[str, Belief]:
    """Of every prompt, as a log tells that is compacted to the newest record of each slot."""
    commits: dict[int, Commit] = {}
    for commit in log.read_all(BELIEFS):
        commits.pop(commit.slot, None)
        commits[commit.slot] = commit
    return {belief.prompt_id: belief for commit in commits.values() for belief in commit.beliefs}


class World:
    """Producers, verifier and learner in one."""

    def __init__(self, broker: Broker, config: Config) -> None:
        self.config = config
        self.log = RunTopics(broker, config.run.name, "world")
        self.reader = self.log.reader(JOBS)
        self.jobs: list[Job] = []
        self.answered: dict[str, set[int]] = defaultdict(set)
        self.caps: dict[str, tuple[Budgeting | None, int]] = {}
        self.sizes: dict[str, int] = {}
        """Rollouts of the groups that are over."""
        self.ended: set[str] = set()
        self.step = 0

    def turn(self, timeout_s: float = 0.0) -> bool:
        """Answer all jobs that have come and end the groups that are complete; whether anything came."""
        records = self.reader.poll(timeout_s)
        for record in records:
            self._answer(decode(record.value, Job))
        complete = [g for g in self.caps if g not in self.ended and self._is_over(g)]
        if complete:
            self._end(complete)
        self.log.writer.flush()
        return bool(records)

    def _answer(self, job: Job) -> None:
        self.jobs.append(job)
        assert self.caps.setdefault(job.group_id, (job.budgeting, job.num_rollouts))[1] == job.num_rollouts, (
            job.group_id
        )
        for rollout in range(job.start, job.stop):
            if rollout not in self.answered[job.group_id]:
                self.answered[job.group_id].add(rollout)
                reward = reward_of(job.group_id, rollout)
                verdict = Verdict(trajectory=make_trajectory(job, rollout), outcome="correct", reward=reward)
                self.log.send_of_group(VERDICTS, job.group_id, verdict)

    def _is_over(self, group_id: str) -> bool:
        rewards = {rollout: reward_of(group_id, rollout) for rollout in self.answered[group_id]}
        asked, is_over = progress_of(*self.caps[group_id], rewards)
        if is_over:
            self.sizes[group_id] = asked
        return is_over

    def _end(self, group_ids: list[str]) -> None:
        ends = tuple(
            GroupEnd(group_id=g, ending="trained", num_rollouts=1, num_graded=1, reward_sum=0.0, staleness=0)
            for g in group_ids
        )
        self.ended |= set(group_ids)
        self.step += 1
        update = Update(step=self.step, version=self.step, parent_version=self.step - 1, groups=ends)
        self.log.send(UPDATES, "u", update)

    # -- what must hold in the end ------------------------------------------------------------------------------------

    def check_groups(self) -> None:
        """No group twice, none lost, every round's budget met within the bounds."""
        run, table = self.config.run, self.config.allocator
        first = Counter((job.group_id, job.start) for job in self.jobs if job.attempt == 0)
        assert set(first.values()) == {1}, [slice_ for slice_, times in first.items() if times > 1]
        assert self.ended == set(self.sizes)
        if not self.config.counts_rollouts:
            assert len(self.sizes) == run.num_updates * run.prompts_per_update
        numbers = defaultdict(list)
        for group_id in self.sizes:
            prompt_id, _, number = group_id.rpartition(".")
            numbers[prompt_id].append(int(number))
        assert all(sorted(found) == list(range(len(found))) for found in numbers.values())
        assert set(self.caps) == set(self.sizes)
        rounds = {job.group_id: job.round for job in self.jobs}
        if not self.config.by_groups:
            spent = Counter[int]()
            for group_id, size in self.sizes.items():
                spent[rounds[group_id]] += size
            assert spent == dict.fromkeys(range(run.num_updates), run.budget)
        if self.config.counts_rollouts:
            # A group needs two rollouts to teach: with groups there may be one rollout more.
            over = sum(self.sizes.values()) - run.num_updates * run.budget
            assert over in ((0, 1) if self.config.by_groups else (0,))
            return
        num_groups = Counter(rounds[group_id] for group_id in self.sizes)
        assert num_groups == dict.fromkeys(range(run.num_updates), run.prompts_per_update)
        spent = Counter(dict.fromkeys(range(run.num_updates), 0))
        for group_id, size in self.sizes.items():
            spent[rounds[group_id]] += size
            assert table.min_rollouts <= size <= table.max_rollouts
        if table.pacing == "stream":
            pace = self.log.read_all(BELIEFS)[-1].pace
            assert pace is not None
            assert pace.debt == sum(spent.values()) - run.rollouts_per_prompt * len(self.sizes)
            assert abs(pace.debt) <= 80
            return
        assert spent == dict.fromkeys(range(run.num_updates), run.budget)

    def check_beliefs(self) -> None:
        """What the allocator believes is what the verdicts say, each counted once."""
        newest = newest_beliefs(self.log)
        for prompt in PROMPTS:
            expected = Belief(prompt_id=prompt.prompt_id)
            while (group_id := f"{prompt.prompt_id}.{expected.num_groups:04d}") in self.sizes:
                job = next(job for job in self.jobs if job.group_id == group_id)
                size = self.sizes[group_id]
                assert job.budgeting is not None
                group = OpenGroup(
                    group_id=group_id, num_rollouts=job.num_rollouts, round=job.round, budgeting=job.budgeting
                )
                correct = sum(reward_of(group_id, rollout) for rollout in range(size))
                admitted = admit(expected, group)
                expected = end(observe(admitted, correct, size, num_sampled=size, num_tokens=2 * size))
            found = newest.get(prompt.prompt_id, Belief(prompt_id=prompt.prompt_id))
            for name in ("num_groups", "num_trials", "num_correct", "recent_trials", "recent_correct", "visits"):
                assert getattr(found, name) == getattr(expected, name), (prompt.prompt_id, name)
            assert (found.recent_tokens, found.recent_sampled) == (expected.recent_tokens, expected.recent_sampled)
            assert found.open_group is None
