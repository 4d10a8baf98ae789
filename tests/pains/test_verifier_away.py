"""The verifier is away for an hour: the run stalls, says so, goes on, and no answer counts that was not graded."""

import logging
import threading
from typing import Any

import pytest
from factories import make_prompt, make_trajectory
from pains_line import make_config

from allocator.admission import admission_of
from allocator.role import Allocator
from infra.board import Board
from learner.groups import Assembler, group_end
from replay.alarms import Signs, alarms_of
from stream.memory import MemoryBroker
from stream.messages import Heartbeat, Job, Verdict
from stream.run_topics import RunTopics
from stream.topics import HEARTBEATS, JOBS, TOPICS, TRAJECTORIES, VERDICTS
from stream.worker import hand_over, run_loop
from verifier.pool import Pool
from verifier.role import Verifier

HOUR_S = 3600


class Hours:
    """The real allocator, by a clock that the test moves; producers that answer at once; heartbeats of those at work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = make_config(run={"num_updates": 2, "rollouts_per_update": 24}, allocator={"lease_s": 120})
        broker = MemoryBroker()
        broker.create_topics("r", TOPICS, 2)
        self.world = RunTopics(broker, "r", "world")
        self.now_s = 0.0
        self.board = Board("r", 2)
        monkeypatch.setattr("allocator.role.time.monotonic", lambda: self.now_s)
        pool = [make_prompt(f"p{number:02d}") for number in range(60)]
        self.topics = RunTopics(broker, "r", "allocator-0")
        tokens: dict[str, Any] = {prompt.prompt_id: make_trajectory().token_ids for prompt in pool}
        self.allocator = Allocator(self.config, self.topics, pool, tokens, admission_of(self.config))

    def pass_time(self, seconds: int, *at_work: str) -> None:
        for _ in range(seconds):
            self.now_s += 1
            for role in at_work:
                heartbeat = Heartbeat(worker=f"{role}-0", pid=1, host="h", state="running", created_s=self.now_s)
                self.world.send(HEARTBEATS, role, heartbeat)
                self.board.note(heartbeat)
            for record in self.allocator.reader.poll(0):
                hand_over(self.allocator, self.topics, record, self.allocator.watermark)
            self.allocator.work()

    def sample(self, jobs: list[Job]) -> None:
        """Every third answer is wrong."""
        for number, job in enumerate(jobs):
            for rollout in range(job.start, job.stop):
                text = "3" if number % 3 == 0 else "2"
                self.world.send_of_group(TRAJECTORIES, job.group_id, make_trajectory(job, rollout, text=text))

    def grade(self, num: int) -> None:
        """A verifier comes, and grades what waits."""
        role = Verifier(self.config, self.world, Pool(1, timeout_s=20))

        class Enough(threading.Event):
            def is_set(self) -> bool:
                return role.metrics()["verifier/verdicts"] == num

        reader = self.world.reader(TRAJECTORIES, consumer_group="verifiers")
        run_loop(role, self.world, reader, Enough(), commits=True, poll_s=0.001)


def test_a_verifier_away_for_an_hour_stalls_the_run_and_no_ungraded_answer_is_trained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hours = Hours(monkeypatch)
    with caplog.at_level(logging.WARNING):
        hours.pass_time(5, "producer", "verifier")
        jobs: list[Job] = hours.world.read_all(JOBS)
        hours.sample(jobs)
        hours.pass_time(HOUR_S, "producer")
        assert len(hours.world.read_all(JOBS)) == len(jobs)  # nothing is issued again, or anew
        assert hours.world.read_all(VERDICTS) == []  # nor given up
        assert hours.allocator.metrics()["allocator/open_rollouts"] == 48
        silent_s = {worker: hours.board.silent_s(worker, 1) for worker in ("producer-0", "verifier-0")}
        (alarm,) = alarms_of(Signs(silent_s=silent_s))
        assert alarm.text == "verifier-0 has sent no sign of life for 3,600 s"
        hours.grade(48)
        hours.pass_time(5, "producer", "verifier")
    said = [record.getMessage() for record in caplog.records if record.name == "allocator.stream_clock"]
    assert said[-2:] == ["no verifier is at work: rollouts wait", "rollouts go on"]
    verdicts: list[Verdict] = hours.world.read_all(VERDICTS)
    assembler = Assembler()
    for verdict in verdicts:
        assert (verdict.outcome, verdict.reward) in {("correct", 1.0), ("wrong", 0.0)}
        assert (verdict.trajectory.text == "2") == (verdict.reward == 1.0)
        assembler.add(verdict)
    ends = [group_end(group, 1, 16, group_mean=False) for group in assembler.ready]
    assert {end.ending for end in ends} == {"trained"}
    assert sum(end.num_graded for end in ends) == 48
    believed = hours.allocator.state.beliefs.values()
    assert sum(belief.num_trials for belief in believed) == 48
    assert sum(belief.num_correct for belief in believed) == sum(verdict.reward for verdict in verdicts)
