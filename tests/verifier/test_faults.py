"""Verifiers on a real broker that are killed and stopped: every trajectory gets exactly one verdict that counts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from factories import make_job, make_prompt, make_trajectory

from stream.kafka import KafkaBroker
from stream.launch import WORKER_VARIABLE
from stream.messages import Heartbeat, Verdict
from stream.run_topics import RunTopics
from stream.topics import HEARTBEATS, TOPICS, TRAJECTORIES, VERDICTS

RUN = "verifiers"
NUM_GROUPS, NUM_ROLLOUTS = 400, 4
RECIPE = """[run]
name = "{run}"
[broker]
bootstrap_servers = "{servers}"
partitions = 4
[verifier]
workers = 2
timeout_s = 20
"""


@dataclass
class World:
    topics: RunTopics
    recipe: Path

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "verifier", str(self.recipe)],
            env=os.environ | {WORKER_VARIABLE: name},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def running(self, since_s: float = 0.0) -> set[str]:
        """Workers that have sent a heartbeat since then."""
        beats: list[Heartbeat] = self.topics.read_all(HEARTBEATS)
        return {beat.worker for beat in beats if beat.state == "running" and beat.created_s > since_s}

    def verdicts(self) -> list[Verdict]:
        return self.topics.read_all(VERDICTS)

    def put(self, groups: range) -> None:
        for number in groups:
            hostile = number % 20 == 0
            prompt = make_prompt(f"p{number}", answer="x" if hostile else f"{number}", grader="math")
            job = make_job(f"p{number}.0000", NUM_ROLLOUTS, prompt=prompt)
            for rollout in range(NUM_ROLLOUTS):
                text = (
                    r"$\sum_{k=1}^{10^9} \sin(k^2)$"
                    if hostile and rollout == 0
                    else rf"\boxed{{{number + rollout % 2}}}"
                )
                message = make_trajectory(job, rollout, text=text)
                self.topics.send_of_group(TRAJECTORIES, job.group_id, message)
        self.topics.writer.flush()


def wait_for(condition: Callable[[], bool], timeout_s: float = 200) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture
def world(kafka: str, tmp_path: Path) -> Iterator[World]:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(run=RUN, servers=kafka))
    broker = KafkaBroker(kafka)
    broker.create_topics(RUN, TOPICS, 4)
    topics = RunTopics(broker, RUN, "test")
    yield World(topics, recipe)
    topics.writer.close()
    broker.close()


def test_killed_and_stopped_verifiers_lose_and_double_nothing(world: World) -> None:
    verifiers = {name: world.start(name) for name in ("verifier-0", "verifier-1", "verifier-2")}
    try:
        wait_for(lambda: world.running() == set(verifiers))
        world.put(range(NUM_GROUPS // 2))
        wait_for(lambda: len(world.verdicts()) > 50)
        # a forkserver and two workers each
        wait_for(lambda: all(len(children_of(process)) == 3 for process in verifiers.values()))
        children = {name: children_of(process) for name, process in verifiers.items()}
        children["verifier-0"][-1].kill()
        verifiers["verifier-1"].kill()
        os.kill(verifiers["verifier-2"].pid, signal.SIGSTOP)
        _, alive = psutil.wait_procs(children["verifier-1"], timeout=60)
        assert alive == []
        world.put(range(NUM_GROUPS // 2, NUM_GROUPS))
        expected = {(f"p{number}.0000", rollout) for number in range(NUM_GROUPS) for rollout in range(NUM_ROLLOUTS)}
        graded = lambda: {(v.trajectory.job.group_id, v.trajectory.rollout_index) for v in world.verdicts()}  # noqa: E731
        wait_for(lambda: graded() == expected)
        # What the stopped one still had is graded a second time: readers count the first.
        continued_s = time.time()
        os.kill(verifiers["verifier-2"].pid, signal.SIGCONT)
        wait_for(lambda: world.running(continued_s) == {"verifier-0", "verifier-2"})
        counted: dict[tuple[str, int], Verdict] = {}
        for verdict in world.verdicts():
            counted.setdefault((verdict.trajectory.job.group_id, verdict.trajectory.rollout_index), verdict)
        assert set(counted) == expected
        errors = [verdict for verdict in counted.values() if verdict.outcome == "error"]
        assert len(errors) <= 1  # of the worker that was killed
        for (group_id, rollout), verdict in counted.items():
            if verdict.outcome == "error":
                continue
            number = int(group_id[1:].partition(".")[0])
            if number % 20 == 0:
                assert verdict.outcome in (("timeout", "wrong") if rollout == 0 else ("wrong",))
            else:
                assert verdict.outcome == ("correct" if rollout % 2 == 0 else "wrong")
    finally:
        for process in verifiers.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
                process.kill()
            process.wait()
