"""Real producers on a real broker: their engine is killed, they are killed, they are told to stop."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from factories import make_job

from infra.supervisor import FINAL_EXIT_CODES
from producers.engine import EngineDied
from producers.process import SOCKETS
from stream.codec import decode
from stream.kafka import KafkaBroker
from stream.launch import WORKER_VARIABLE
from stream.messages import Job, Policy, Sampling
from stream.run_topics import RunTopics
from stream.topics import DEADLETTERS, HEARTBEATS, JOBS, POLICIES, TOPICS, TRAJECTORIES
from stream.weights import digest_of

RUN = "producers-processes"
RECIPE = """
[run]
name = "{run}"
model = "{model}"
[broker]
bootstrap_servers = "{servers}"
partitions = 3
[producer]
dtype = "float32"
max_model_len = 128
max_num_seqs = 8
kv_cache_gib = 0.1
"""
NUM_GROUPS, NUM_ROLLOUTS = 60, 4
pytestmark = pytest.mark.timeout(1200)  # three engines that start at once, on a machine that others share


@dataclass
class Started:
    """A producer, its log, and the processes that it started."""

    process: "subprocess.Popen[bytes]"
    log: Path
    helpers: list[psutil.Process]

    def note_helpers(self) -> bool:
        self.helpers = psutil.Process(self.process.pid).children(recursive=True)
        return bool(self.helpers)

    def sockets(self) -> list[Path]:
        """The folders in which its engine has sockets."""
        return [*Path(tempfile.gettempdir()).glob(f"rucksack-{self.process.pid}-*")]

    def wait(self) -> int:
        """Its exit code, once it and its helpers are gone, with all that they had."""
        code = self.process.wait(120)
        _, alive = psutil.wait_procs(self.helpers, timeout=60)
        assert alive == []
        assert self.sockets() == []
        return code


@dataclass
class World:
    """The run's topics, and how to start a producer."""

    topics: RunTopics
    recipe: Path
    folder: Path

    def start(self, name: str) -> Started:
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            variables = {
                key: value for key, value in os.environ.items() if key != SOCKETS
            }  # an engine of this process's
            process = subprocess.Popen(
                [sys.executable, "-m", "producers", str(self.recipe)],
                env=variables | {WORKER_VARIABLE: name, "OMP_NUM_THREADS": "1"},
                stdout=output,
                stderr=output,
            )
        return Started(process, log, [])

    def await_running(self, started: Started, name: str) -> None:
        def running() -> bool:
            assert started.process.poll() is None, started.log.read_text()
            return any(beat.worker == name and beat.state == "running" for beat in self.topics.read_all(HEARTBEATS))

        wait_for(running, started.log.read_text)
        started.note_helpers()

    def sampled(self) -> set[tuple[str, int]]:
        return {(t.job.group_id, t.rollout_index) for t in self.topics.read_all(TRAJECTORIES)}


def wait_for(condition: Callable[[], bool], about: Callable[[], object] = lambda: "", timeout_s: float = 500) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, about()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def world(kafka: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("processes")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(run=RUN, model=model_folder, servers=kafka))
    broker = KafkaBroker(kafka)
    broker.create_topics(RUN, TOPICS, 3)
    topics = RunTopics(broker, RUN, "test")
    topics.send(POLICIES, "policy", Policy(version=0, uri=str(model_folder), digest=digest_of(model_folder), step=0))
    topics.writer.flush()
    yield World(topics, recipe, folder)
    topics.writer.close()
    broker.close()


@pytest.fixture(scope="module")
def producers(world: World) -> Iterator[list[Started]]:
    names = [f"producer-{number}" for number in range(3)]
    started = [world.start(name) for name in names]
    try:
        for name, producer in zip(names, started, strict=True):
            world.await_running(producer, name)
        yield started
    finally:
        for process in [p for producer in started for p in (producer.process, *producer.helpers)]:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        for producer in started:
            producer.process.wait()


def test_nothing_is_lost_when_engines_and_producers_die(world, producers):
    engine_dies, is_killed, goes_on = producers
    assert [len(producer.helpers) for producer in producers] == [1, 1, 1]
    assert [len(producer.sockets()) for producer in producers] == [1, 1, 1]
    for number in range(NUM_GROUPS):
        job = make_job(f"p{number}.0000", NUM_ROLLOUTS, sampling=Sampling(max_tokens=100))
        world.topics.send(JOBS, job.group_id, job, partition=number % 3)
    hostile = make_job("hostile", 2, sampling=Sampling(temperature=float("nan"), max_tokens=4))
    world.topics.send(JOBS, "hostile", hostile, partition=2)
    world.topics.writer.flush()
    wait_for(lambda: len(world.sampled()) >= 3)

    engine_dies.helpers[0].kill()
    assert engine_dies.wait() == EngineDied.exit_code
    assert EngineDied.exit_code not in (0, *FINAL_EXIT_CODES)
    assert "the engine cannot be used any more" in engine_dies.log.read_text()

    is_killed.process.kill()
    assert is_killed.wait() == -signal.SIGKILL

    wanted = {(f"p{number}.0000", rollout) for number in range(NUM_GROUPS) for rollout in range(NUM_ROLLOUTS)}
    wait_for(lambda: world.sampled() >= wanted, goes_on.log.read_text)
    assert world.sampled() == wanted
    ends = {(JOBS.of(RUN), p): end for p, end in world.topics.broker.end_offsets(JOBS.of(RUN)).items()}

    def done() -> dict[tuple[str, int], int]:
        return world.topics.broker.group_offsets(f"{RUN}.producers")

    wait_for(lambda: done() == ends, lambda: f"{done()} of {ends}\n{goes_on.log.read_text()[-2000:]}")
    for letter in world.topics.read_all(DEADLETTERS):
        assert "temperature must be a finite number, got nan" in letter.error
        assert decode(letter.value, Job).group_id == "hostile"

    goes_on.process.terminate()
    assert goes_on.wait() == 128 + signal.SIGTERM


def test_a_producer_that_is_told_to_stop_while_it_starts_leaves_nothing(world):
    starting = world.start("producer-9")
    wait_for(starting.note_helpers, starting.log.read_text)
    starting.process.terminate()
    assert starting.wait() == -signal.SIGTERM
