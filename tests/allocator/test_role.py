"""The allocator against a memory broker: rounds, pacing, crash and resume, leases."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from factories import make_prompt, make_trajectory
from msgspec.structs import replace

from allocator.admission import admission_of
from allocator.role import Allocator
from stream.codec import encode
from stream.config import Config
from stream.errors import UserError
from stream.memory import MemoryBroker
from stream.messages import Belief, Evaluation, GroupEnd, Heartbeat, Job, Update, Verdict
from stream.run_topics import RunTopics
from stream.topics import BELIEFS, EVALUATIONS, HEARTBEATS, JOBS, TOPICS, UPDATES, VERDICTS
from stream.worker import hand_over

PROMPTS = [make_prompt(f"p{i}") for i in range(12)]
TOKENS = {prompt.prompt_id: np.array([1, 2], dtype=np.int32) for prompt in PROMPTS}


def make_config(**tables: dict[str, Any]) -> Config:
    base = {
        "run": {"name": "r", "num_updates": 3, "prompts_per_update": 4, "rollouts_per_prompt": 6, "max_staleness": 1},
        "allocator": {"slice_rollouts": 4},
        "learner": {"objective": "tis"},
        "evaluator": {"enabled": False},
    }
    return Config(**{name: base.get(name, {}) | tables.get(name, {}) for name in base | tables})


class Bench:
    """An allocator and the rest of the world, driven step by step."""

    def __init__(self, config: Config, broker: MemoryBroker | None = None) -> None:
        self.broker = broker or MemoryBroker()
        self.broker.create_topics("r", TOPICS, 2)
        self.config = config
        self.world = RunTopics(self.broker, "r", "world")
        self.answered: Counter[tuple[str, int]] = Counter()
        self.start()

    def start(self) -> None:
        self.topics = RunTopics(self.broker, "r", "allocator-0")
        self.role = Allocator(self.config, self.topics, PROMPTS, TOKENS, admission_of(self.config))

    def turn(self) -> None:
        for record in self.role.reader.poll(0):
            hand_over(self.role, self.topics, record, self.role.watermark)
        while self.role.work():
            pass

    def jobs(self) -> list[Job]:
        return self.world.read_all(JOBS)

    def answer(self, jobs: list[Job], reward: float = 1.0) -> None:
        for job in jobs:
            for rollout in range(job.start, job.stop):
                verdict = Verdict(trajectory=make_trajectory(job, rollout), outcome="correct", reward=reward)
                self.world.send_of_group(VERDICTS, job.group_id, verdict)

    def publish_evaluation(self, name: str) -> None:
        of_base = {"policy_version": 0, "min_policy_version": 0, "max_policy_version": 0}
        evaluation = Evaluation(name=name, accuracy=0.5, temperature=0.0, scores=(), **of_base)
        self.world.send(EVALUATIONS, name, evaluation)

    def end(self, group_ids: set[str]) -> None:
        ends = tuple(
            GroupEnd(group_id=g, ending="trained", num_rollouts=6, num_graded=6, reward_sum=1.0, staleness=0)
            for g in sorted(group_ids)
        )
        self.world.send(UPDATES, "u", Update(step=1, version=1, parent_version=0, groups=ends))


def groups_of(jobs: list[Job]) -> set[str]:
    return {job.group_id for job in jobs}


def test_pacing_admits_as_many_rounds_as_staleness_allows() -> None:
    bench = Bench(make_config())
    bench.turn()
    jobs = bench.jobs()
    assert len(groups_of(jobs)) == 8
    assert sum(job.stop - job.start for job in jobs) == 48
    assert {job.round for job in jobs} == {0, 1}
    bench.answer(jobs)
    bench.turn()
    assert len(groups_of(bench.jobs())) == 8
    bench.end({job.group_id for job in jobs if job.round == 0})
    bench.turn()
    assert len(groups_of(bench.jobs())) == 12
    # What the update of version 1 let in may not be sampled by older weights: that bounds staleness.
    assert {job.round: job.min_policy_version for job in bench.jobs()} == {0: 0, 1: 0, 2: 1}


def test_a_stream_admits_prompts_one_by_one_as_groups_end_and_stays_within_its_budget() -> None:
    run = {"name": "r", "num_updates": 30, "prompts_per_update": 4, "rollouts_per_prompt": 6.0, "max_staleness": 1}
    bench = Bench(make_config(run=run, allocator={"mode": "bayes", "pacing": "stream", "max_rollouts": 32}))
    bench.turn()
    assert len(groups_of(bench.jobs())) == 8
    for number in range(100):
        jobs = bench.jobs()
        oldest = min((job for job in jobs if not bench.answered[job.group_id, 0]), key=lambda job: job.round)
        mine = [job for job in jobs if job.group_id == oldest.group_id]
        bench.answer(mine, reward=1.0 if oldest.prompt.prompt_id in ("p0", "p1") else 0.5)
        bench.answered[oldest.group_id, 0] += 1
        bench.end({oldest.group_id})
        bench.turn()
        sizes = {job.group_id: job.num_rollouts for job in bench.jobs()}
        assert len(sizes) == 9 + number  # one has ended, one is admitted: no update is waited for
        assert abs(sum(sizes.values()) - 6 * len(sizes)) <= 80
    assert {job.round for job in bench.jobs()} == set(range(27))
    last = [job for job in bench.jobs() if job.round >= 20]
    solved = {job.num_rollouts for job in last if job.prompt.prompt_id in ("p0", "p1")}
    others = {job.num_rollouts for job in last if job.prompt.prompt_id not in ("p0", "p1")}
    assert max(solved) < min(others)
    assert all(job.budgeting is not None and job.budgeting.price > 0 for job in last)


def test_too_few_prompts_that_are_short_enough_are_refused() -> None:
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 2)
    few = {name: TOKENS[name] for name in ("p0", "p1", "p2")}
    config = make_config()
    with pytest.raises(
        UserError, match=r"3 prompts are short enough; want at least run\.prompts_per_update, which is 4"
    ):
        Allocator(config, RunTopics(broker, "r", "allocator-0"), PROMPTS, few, admission_of(config))


def test_every_prompt_takes_part_before_any_takes_part_again_and_the_run_ends() -> None:
    bench = Bench(make_config(run={"name": "r", "num_updates": 6, "prompts_per_update": 4, "rollouts_per_prompt": 6}))
    done: set[str] = set()
    for _ in range(20):
        bench.turn()
        fresh = [job for job in bench.jobs() if job.group_id not in done]
        bench.answer(fresh)
        bench.end(groups_of(fresh))
        done |= groups_of(fresh)
    bench.turn()
    assert bench.role.finished
    assert Counter(group_id.partition(".")[0] for group_id in done) == {f"p{i}": 2 for i in range(12)}


def test_jobs_say_why_they_got_their_budget_and_slices_cover_the_group() -> None:
    bench = Bench(make_config(allocator={"mode": "uniform"}))
    bench.turn()
    jobs = [job for job in bench.jobs() if job.group_id == bench.jobs()[0].group_id]
    assert [(job.start, job.stop, job.num_rollouts) for job in jobs] == [(0, 4, 6), (4, 6, 6)]
    assert jobs[0].budgeting is not None
    assert (jobs[0].budgeting.mode, jobs[0].budgeting.success_rate) == ("uniform", -1.0)


def test_crash_between_rounds_issues_no_group_twice_and_keeps_beliefs() -> None:
    bench = Bench(make_config())
    bench.turn()
    first = bench.jobs()
    bench.answer(first[: len(first) // 2], reward=1.0)
    bench.turn()
    beliefs = dict(bench.role.state.beliefs)
    bench.start()  # as after kill -9: nothing of memory is left
    bench.turn()
    assert groups_of(bench.jobs()) == groups_of(first)
    assert len(bench.jobs()) == len(first)
    assert bench.role.state.beliefs == beliefs
    bench.answer(first[len(first) // 2 :], reward=1.0)
    bench.end(groups_of(first))
    bench.turn()
    trials = {belief.prompt_id: belief.num_trials for belief in bench.role.state.beliefs.values()}
    assert {trials[group_id.partition(".")[0]] for group_id in groups_of(first)} == {6}


def test_verdicts_delivered_twice_are_counted_once() -> None:
    bench = Bench(make_config())
    bench.turn()
    bench.answer(bench.jobs())
    bench.answer(bench.jobs(), reward=0.0)
    bench.turn()
    seen = [belief for belief in bench.role.state.beliefs.values() if belief.num_trials]
    assert {(belief.num_trials, belief.num_correct) for belief in seen} == {(6, 6.0)}


def test_an_update_seen_before_the_verdicts_does_not_lose_them() -> None:
    bench = Bench(make_config())
    bench.turn()
    first = bench.jobs()
    bench.end(groups_of(first))
    bench.turn()
    bench.answer(first)
    bench.turn()
    trials = {bench.role.state.beliefs[group.partition(".")[0]].num_trials for group in groups_of(first)}
    assert trials == {6}


def test_a_budget_of_tokens_is_never_exceeded_and_buys_more_as_costs_are_learned() -> None:
    # Every rollout may take 32 tokens and takes 2 (factories): the first round has to reckon with 32.
    bench = Bench(
        make_config(
            run={"name": "r", "num_updates": 12, "prompts_per_update": 4, "max_staleness": 0},
            allocator={"mode": "bayes", "budget_tokens": 600, "max_rollouts": 64},
            sampling={"max_tokens": 32},
        )
    )
    rollouts: list[int] = []
    for number in range(12):
        bench.turn()
        fresh = [job for job in bench.jobs() if job.round == number]
        groups = {job.group_id: job for job in fresh}
        assert len(groups) == 4
        assert all(job.budgeting is not None for job in fresh)
        spent = sum(job.num_rollouts * job.budgeting.cost for job in groups.values() if job.budgeting)
        assert 0.85 * 600 < spent <= 600 or {job.num_rollouts for job in groups.values()} == {64}
        assert bench.role.metrics()["allocator/spent"] == pytest.approx(spent)
        assert 0 <= bench.role.metrics()["allocator/gap"] < 0.1
        rollouts.append(sum(job.num_rollouts for job in groups.values()))
        bench.answer(fresh, reward=0.5)
        bench.end(set(groups))
    bench.turn()
    assert bench.role.finished
    assert rollouts[0] == 18
    assert rollouts[-1] > 10 * rollouts[0]


def test_overdue_rollouts_are_issued_again_and_given_up_in_the_end() -> None:
    bench = Bench(make_config(allocator={"slice_rollouts": 6, "lease_s": 1e-9, "max_attempts": 2}))
    bench.role.work()
    (lost, *rest) = bench.jobs()[:8]
    bench.answer(rest)
    kept = replace(lost, start=1, stop=6)
    bench.answer([kept])
    for record in bench.role.reader.poll(0):
        hand_over(bench.role, bench.topics, record, bench.role.watermark)
    bench.role.renew_leases(now_s=1e12)
    again = [job for job in bench.jobs() if job.attempt == 1]
    assert [(job.group_id, job.start, job.stop) for job in again] == [(lost.group_id, 0, 1)]
    bench.role.renew_leases(now_s=2e12)
    abandoned = [verdict for verdict in bench.world.read_all(VERDICTS) if verdict.outcome == "abandoned"]
    assert [(v.trajectory.job.group_id, v.trajectory.rollout_index) for v in abandoned] == [(lost.group_id, 0)]
    assert not abandoned[0].graded
    bench.turn()
    assert bench.role.state.beliefs[lost.prompt.prompt_id].num_trials == 5


def test_leases_stand_still_while_no_verifier_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(make_config(allocator={"lease_s": 30, "max_attempts": 1}))
    wall_s = 0.0
    monkeypatch.setattr("allocator.role.time.monotonic", lambda: wall_s)
    bench.turn()
    counts = {}
    for workers in (["producer-0"], ["producer-node-7-123", "verifier-0"]):
        for _ in range(40):
            wall_s += 1
            for worker in workers:
                bench.world.send(HEARTBEATS, worker, Heartbeat(worker=worker, pid=1, host="h", state="running"))
            bench.turn()
        counts[len(workers)] = sum(verdict.outcome == "abandoned" for verdict in bench.world.read_all(VERDICTS))
    assert counts == {1: 0, 2: 48}


def test_what_wants_newer_weights_waits_for_the_evaluations_of_the_base_policy() -> None:
    bench = Bench(make_config(evaluator={"enabled": True, "pool": False}))
    bench.turn()
    first = bench.jobs()
    assert len(groups_of(first)) == 8  # two rounds, of the base policy
    bench.answer(first)
    bench.end(groups_of(first))
    bench.turn()
    for name in ("heldout", "base"):
        bench.start()  # as after kill -9
        bench.turn()
        assert len(bench.jobs()) == len(first)
        bench.publish_evaluation(name)
    bench.turn()
    second = [job for job in bench.jobs() if job.round >= 2]
    bench.answer(second)
    bench.end(groups_of(second))
    bench.turn()
    assert len(groups_of(bench.jobs())) == 12
    assert bench.role.finished


def test_no_lease_runs_out_while_the_base_policy_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    wall_s = 0.0
    monkeypatch.setattr("allocator.role.time.monotonic", lambda: wall_s)
    bench = Bench(make_config(evaluator={"enabled": True, "pool": False}))
    for name, num_issued in (("heldout", 16), ("base", 16), ("", 16 + 48)):  # again one by one
        for _ in range(130):
            wall_s += 1
            for worker in ("producer-0", "verifier-0"):
                bench.world.send(HEARTBEATS, worker, Heartbeat(worker=worker, pid=1, host="h", state="running"))
            bench.turn()
        assert len(bench.jobs()) == num_issued
        if name:
            bench.publish_evaluation(name)


def test_jobs_beliefs_and_offsets_appear_together_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(make_config())

    writer = bench.role.transactions.writer
    send = writer.send

    def send_no_belief(topic: str, *record: Any, **how: Any) -> None:
        if topic == BELIEFS.of("r"):
            raise OSError("broker went away")
        send(topic, *record, **how)

    monkeypatch.setattr(writer, "send", send_no_belief)
    with pytest.raises(OSError, match="broker went away"):
        bench.role.work()
    assert bench.jobs() == []
    assert bench.world.read_all(BELIEFS) == []
    bench.start()
    bench.turn()
    assert len(groups_of(bench.jobs())) == 8


def test_beliefs_of_an_older_version_are_not_taken_for_none_and_rubbish_is() -> None:
    broker = MemoryBroker()
    bench = Bench(make_config(), broker)
    writer = broker.writer(name="other")
    bench.turn()
    for rubbish in (b"rubbish", encode(PROMPTS[0])):
        writer.send(BELIEFS.of("r"), b"0", rubbish, partition=0)
    bench.start()
    assert bench.role.state.num_admitted == 8
    writer.send(BELIEFS.of("r"), b"p0", encode(Belief(prompt_id="p0")), partition=0)
    with pytest.raises(UserError, match=r"r\.beliefs was written by an older version of Rucksack"):
        bench.start()


def test_jobs_of_two_rounds_without_their_beliefs_are_taken_on_with_what_has_come_of_them() -> None:
    run = {"name": "r", "num_updates": 2, "prompts_per_update": 4, "rollouts_per_prompt": 6, "max_staleness": 1}
    config = make_config(run=run, allocator={"mode": "bayes", "pacing": "stream"})
    whole = Bench(config)
    whole.turn()
    jobs = whole.jobs()
    assert {job.round for job in jobs} == {0, 1}
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 2)
    log = RunTopics(broker, "r", "allocator-0")
    for job in jobs:
        log.send(JOBS, job.group_id, job)
    torn = Bench(config, broker)
    torn.answer(jobs)
    torn.end(groups_of(jobs))
    torn.turn()
    torn.turn()
    assert torn.role.finished
    assert len(torn.jobs()) == len(jobs)
    sizes = {group.partition(".")[0]: size for group, size in {job.group_id: job.num_rollouts for job in jobs}.items()}
    assert {i: belief.num_trials for i, belief in torn.role.state.beliefs.items() if belief.num_trials} == sizes
    assert torn.role.watermark.num_pending == 0
