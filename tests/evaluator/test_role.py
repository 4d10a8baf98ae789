"""The evaluator over a memory broker, with a producer and verifier that answer at once."""

from types import SimpleNamespace

import numpy as np
import pytest
from factories import make_prompt, make_trajectory
from msgspec.structs import replace

from evaluator.role import Evaluator, load_sets
from stream.broker import Record
from stream.codec import decode
from stream.config import Config, EvaluatorTable, PromptsTable, RunTable
from stream.errors import UserError
from stream.memory import MemoryBroker
from stream.messages import TRAINING, Evaluation, Job, Policy, Verdict
from stream.run_topics import RunTopics
from stream.topics import EVALUATIONS, JOBS, POLICIES, TOPICS, VERDICTS
from stream.worker import Delivery

HARD = {"q2"}


class World:
    """A run of two held-out prompts (one hard), one prompt of the pool, and one of another set."""

    def __init__(self, **table: object) -> None:
        self.broker = MemoryBroker()
        self.broker.create_topics("r", TOPICS, 2)
        self.topics = RunTopics(self.broker, "r", "evaluator-0")
        heldout, pool, other = (
            [make_prompt("q1"), make_prompt("q2")],
            [make_prompt("p1")],
            [make_prompt("q1", text="x")],
        )
        self.sets = {"heldout": heldout, "pool": pool, "base": heldout, "other": other}
        self.config = Config(
            run=RunTable(name="r"), evaluator=EvaluatorTable(every=5, sets={"other": "a.jsonl"}, **table)
        )
        self.jobs = self.topics.reader(JOBS)
        self.evaluator = self.start()

    def start(self) -> Evaluator:
        token_ids = {
            name: {p.prompt_id: np.array([1, 2], dtype=np.int32) for p in prompts}
            for name, prompts in self.sets.items()
        }
        return Evaluator(self.config, self.topics, self.sets, token_ids)

    def policy(self, version: int, step: int, final: bool = False) -> None:
        message = Policy(version=version, uri="", digest="", step=step, final=final)
        self.topics.send(POLICIES, "policy", message)

    def answer(self, version: int) -> int:
        """Sample and grade all new jobs with the weights of a version; returns how many rollouts that were."""
        count = 0
        for job in (decode(record.value, Job) for record in self.jobs.poll(0.0)):
            for rollout in range(job.start, job.stop):
                right = job.prompt.prompt_id not in HARD or rollout % 2 == 1
                trajectory = make_trajectory(job, rollout, version, text=f"{rollout}")
                verdict = Verdict(trajectory=trajectory, outcome="correct" if right else "wrong", reward=float(right))
                self.topics.send(VERDICTS, job.group_id, verdict)
                count += 1
        for record in self.evaluator.reader.poll(0.0):
            verdict = decode(record.value, Verdict)
            self.evaluator.handle(Delivery(VERDICTS, verdict, record, lambda: None))
        return count

    def work(self, version: int) -> list[Evaluation]:
        """Let the evaluator go on until nothing is left to be done."""
        idle = 0
        while idle < 2:
            self.evaluator.work()
            idle = 0 if self.answer(version) else idle + 1
        return self.topics.read_all(EVALUATIONS)


def test_base_and_final_are_evaluated_on_all_sets_and_others_every_so_many_updates() -> None:
    world = World(samples=2, temperature=0.5, base_samples=4)
    world.policy(0, 0)
    base = world.work(0)
    assert [(e.name, e.temperature) for e in base] == [("heldout", 0.5), ("other", 0.5), ("pool", 0.5), ("base", 1.0)]
    heldout = base[0]
    assert heldout.accuracy == heldout.metrics["avg@2"] == heldout.metrics["pass@1"] == 0.75
    assert heldout.metrics["pass@2"] == 1.0
    assert base[3].metrics["pass@2"] == pytest.approx((1.0 + 5 / 6) / 2)
    for step in range(1, 7):
        world.policy(step, step)
        world.work(step)
    assert [(e.name, e.policy_version) for e in world.topics.read_all(EVALUATIONS)[4:]] == [
        ("heldout", 5),
        ("other", 5),
    ]
    assert not world.evaluator.finished
    world.policy(7, 7, final=True)
    assert [(e.name, e.final) for e in world.work(7)[6:]] == [("heldout", True), ("other", True), ("pool", True)]
    assert world.evaluator.finished


def test_jobs_are_marked_ask_for_the_policys_weights_and_training_verdicts_are_passed_over() -> None:
    world = World()
    world.policy(3, 3)  # not a multiple of `every`: nothing
    assert world.work(3) == []
    world.policy(6, 6)
    world.evaluator.work()
    jobs = world.topics.read_all(JOBS)
    assert {(job.purpose, job.min_policy_version) for job in jobs} == {("eval:heldout", 6), ("eval:other", 6)}
    training = replace(jobs[0], purpose=TRAINING, group_id="g")
    world.topics.send(VERDICTS, "g", Verdict(trajectory=make_trajectory(training), outcome="correct", reward=1.0))
    assert [e.policy_version for e in world.work(6)] == [6, 6]


def test_rollouts_of_older_weights_are_asked_for_again() -> None:
    world = World()
    world.policy(6, 6)
    world.evaluator.work()
    assert world.answer(version=5) == 3
    assert world.topics.read_all(EVALUATIONS) == []
    (heldout, _) = world.work(6)
    assert (heldout.min_policy_version, heldout.accuracy) == (6, 0.5)


def test_the_next_policy_waits_until_all_sets_of_the_one_before_are_published() -> None:
    world = World(pool=False, base_samples=0)
    world.policy(0, 0)
    world.policy(1, 1, final=True)
    world.evaluator.work()
    of_base = {("eval:heldout", 0), ("eval:other", 0)}
    assert {(job.purpose, job.min_policy_version) for job in world.topics.read_all(JOBS)} == of_base
    world.answer(version=1)
    world.evaluator.work()  # publishes both
    assert {(job.purpose, job.min_policy_version) for job in world.topics.read_all(JOBS)} == of_base
    world.evaluator.work()
    asked = {(job.purpose, job.min_policy_version) for job in world.topics.read_all(JOBS)} - of_base
    assert asked == {("eval:heldout", 1), ("eval:other", 1)}
    assert [(e.name, e.final) for e in world.work(1)] == [
        ("heldout", False),
        ("other", False),
        ("heldout", True),
        ("other", True),
    ]


def test_a_restarted_evaluator_does_not_repeat_the_base() -> None:
    world = World()
    world.policy(0, 0)
    num = len(world.work(0))
    world.evaluator = world.start()
    assert len(world.work(0)) == num


def test_an_evaluation_that_stays_incomplete_is_published_with_what_there_is() -> None:
    world = World(timeout_s=1e-9)
    world.policy(6, 6)
    world.evaluator.work()
    published = world.topics.read_all(EVALUATIONS)
    assert [evaluation.name for evaluation in published] == ["heldout", "other"]
    for evaluation in published:
        assert evaluation.accuracy == evaluation.metrics["maj@1"] == 0.0
        assert {score.num_graded for score in evaluation.scores} == {0}


def test_an_evaluation_that_is_slow_but_goes_on_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("evaluator.role.time", SimpleNamespace(monotonic=lambda: now, time=lambda: 0.0))
    world = World(timeout_s=300)
    world.policy(6, 6)
    world.evaluator.work()
    jobs = world.topics.read_all(JOBS)
    for job in jobs:
        now += 200.0
        world.evaluator.work()
        verdict = Verdict(trajectory=make_trajectory(job, 0, 6), outcome="correct", reward=1.0)
        record = Record("r.verdicts", 0, 0, b"", b"", 0)
        world.evaluator.handle(Delivery(VERDICTS, verdict, record, lambda: None))
    world.evaluator.work()
    published = world.topics.read_all(EVALUATIONS)
    assert [evaluation.accuracy for evaluation in published] == [1.0, 1.0]
    assert len(jobs) == 3


def test_sets_are_loaded_by_name() -> None:
    prompts = PromptsTable(num_prompts=128, num_heldout=32)
    sets = load_sets(Config(prompts=prompts, evaluator=EvaluatorTable(sets={"more": "codes"})))
    assert sets["base"] == sets["heldout"] == sets["more"]
    with pytest.raises(UserError, match=r"evaluator\.sets has 'pool', which there always is"):
        load_sets(Config(prompts=prompts, evaluator=EvaluatorTable(sets={"pool": "codes"})))


def test_an_evaluation_says_how_many_updates_had_made_its_policy() -> None:
    world = World()
    world.policy(version=9, step=6)
    assert [(e.step, e.policy_version) for e in world.work(9)] == [(6, 9), (6, 9)]
