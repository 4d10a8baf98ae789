"""Producers on machines of their own: nothing is shared with the learner but the broker, and one joins in the middle."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from weights_audit import audit

from stream.codec import decode
from stream.kafka import KafkaBroker
from stream.messages import TRAINING, Trajectory, Update
from stream.run_topics import RunTopics
from stream.topics import TOPICS, TRAJECTORIES, UPDATES

ROOT = Path(__file__).parent.parent
RUN = "apart"
RECIPE = f"""
run = {{{{ name = "{RUN}", dir = "runs", model = "base", num_updates = 10000, rollouts_per_update = 48, max_staleness = 1 }}}}
broker = {{{{ bootstrap_servers = "{{servers}}" }}}}
prompts = {{{{ source = "codes", num_prompts = 128, num_heldout = 8 }}}}
sampling = {{{{ max_tokens = 8 }}}}
evaluator = {{{{ enabled = false }}}}
producer = {{{{ dtype = "float32", max_model_len = 32, kv_cache_gib = 0.125 }}}}
learner = {{{{ keep_policies = 10000, lr = 8e-4 }}}}
"""


class Machine:
    """A folder in which processes run: the recipe, the base model, and what they write."""

    def __init__(self, folder: Path, servers: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        shutil.copytree(ROOT / "demo" / "base", folder / "base")
        (folder / "recipe.toml").write_text(RECIPE.format(servers=servers))

    def start(self, package: str, worker: str) -> None:
        environment = os.environ | {"RUCKSACK_WORKER": worker, "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{worker}.log").open("wb") as log:
            command = [sys.executable, "-m", package, "recipe.toml"]
            self.processes.append(
                subprocess.Popen(
                    command, cwd=self.folder, stdout=log, stderr=log, env=environment, start_new_session=True
                )
            )

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def files(self) -> set[str]:
        """What it has written, but for the model."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return {str(path) for path in found if path.parts[0] != "base"}


@dataclass
class Seen:
    """The log, as far as it was read."""

    topics: RunTopics
    step: int = 0
    staleness: dict[str, int] = field(default_factory=dict)
    """Of each group that ended, in versions."""
    trajectories: dict[str, list[Trajectory]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reader = self.topics.reader(UPDATES, TRAJECTORIES)

    def until(self, condition: Callable[[], bool], machines: list[Machine], timeout_s: float = 240.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"step {self.step}, trajectories of {list(self.trajectories)}"
            assert all(process.poll() is None for machine in machines for process in machine.processes)
            for record in self._reader.poll(0.2):
                if record.topic == UPDATES.of(RUN):
                    update = decode(record.value, Update)
                    self.step = update.step
                    self.staleness |= {end.group_id: end.staleness for end in update.groups}
                else:
                    trajectory = decode(record.value, Trajectory)
                    self.trajectories.setdefault(trajectory.producer, []).append(trajectory)


@pytest.fixture
def machines(kafka: str, tmp_path: Path) -> Iterator[list[Machine]]:
    machines = [Machine(tmp_path / name, kafka) for name in ("home", "one", "two", "late")]
    yield machines
    for machine in machines:
        machine.stop()


@pytest.mark.timeout(600)
def test_producers_share_nothing_with_the_learner_and_one_that_joins_samples_from_the_current_version(
    kafka: str, machines: list[Machine]
) -> None:
    home, one, two, late = machines
    broker = KafkaBroker(kafka)
    broker.create_topics(RUN, TOPICS, 4)
    seen = Seen(RunTopics(broker, RUN, "test"))
    for package in ("allocator", "verifier", "learner"):
        home.start(package, f"{package}-0")
    one.start("producers", "producer-one")
    two.start("producers", "producer-two")
    seen.until(lambda: seen.step >= 3 and len(seen.trajectories) == 2, machines)
    late.start("producers", "producer-late")
    joined_at, started = seen.step, time.monotonic()
    seen.until(lambda: "producer-late" in seen.trajectories, machines)
    joined_s = time.monotonic() - started
    first = seen.trajectories["producer-late"][0]
    step = seen.step
    seen.until(lambda: seen.step >= step + 5 and first.job.group_id in seen.staleness, machines)
    print(
        f"joined at step {joined_at}; {joined_s:.1f} s later, at step {step}, a rollout of version {first.min_policy_version}"
    )
    assert first.min_policy_version >= joined_at
    assert seen.staleness[first.job.group_id] <= 1  # max_staleness: it was current when it was trained on
    for machine in (one, two, late):
        name = f"producer-{machine.folder.name}"
        assert machine.files() == {"recipe.toml", f"{name}.log", f"runs/{RUN}/producers/{name}.json"}
    single = [
        trajectory
        for some in seen.trajectories.values()
        for trajectory in some
        if len(trajectory.spans) == 1 and trajectory.job.purpose == TRAINING
    ]
    chosen = np.random.default_rng(0).permutation(len(single))[:200]
    result = audit(broker, RUN, home.folder / "base", [single[number] for number in chosen])
    assert result.num_skipped == 0
    assert result.largest_gap < 1e-4 < 1e-2 < result.largest_gap_elsewhere
    broker.close()
