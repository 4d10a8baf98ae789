"""The allocator against a real broker, killed by SIGKILL at random points, many times."""

import os
import random
import signal
import time
import uuid
from multiprocessing.process import BaseProcess

import pytest
from allocator_victim import live
from allocator_world import World, make_config
from forks import FORKS

from stream.config import Config
from stream.topics import DEADLETTERS, TOPICS

KILLS = int(os.environ.get("RUCKSACK_ALLOCATOR_KILLS", "5"))
"""More of them take about 1.5 s each."""
MOST_JOBS = 24
"""About four rounds: as many as the operations of the others reach."""
SEED = int(os.environ.get("RUCKSACK_ALLOCATOR_SEED", "0"))


def start(servers: str, config: Config, operations: int) -> BaseProcess:
    """A child of a clean server process: it has none of this process's threads and connections."""
    child = FORKS.Process(target=live, args=(servers, config, operations))
    child.start()
    return child


def watch(child: BaseProcess, world: World, dies_after_s: float = float("inf")) -> int:
    """Play the world until the child is dead; returns its exit code.

    It is killed from outside after some time, or after some rounds: on a fast machine it would be through with the run.
    """
    begin, num_jobs = time.monotonic(), len(world.jobs)
    while child.is_alive():
        now_s = time.monotonic() - begin
        assert now_s < 600, "the allocator hangs"
        if now_s > dies_after_s or (dies_after_s < float("inf") and len(world.jobs) - num_jobs > MOST_JOBS):
            child.kill()
        world.turn(0.02)
    child.join()
    assert child.exitcode is not None
    return child.exitcode


# By the kills, on a machine that is ten times slower than one where each takes 1.5 s.
@pytest.mark.timeout(300 + 15 * KILLS)
@pytest.mark.parametrize(("mode", "pacing"), [("bayes", "round"), ("bayes", "stream"), ("sequential", "round")])
def test_killed_at_random_points_no_group_is_issued_twice_none_is_lost_and_beliefs_are_exact(
    kafka: str, mode: str, pacing: str
) -> None:
    from stream.kafka import KafkaBroker

    chance = random.Random(SEED)
    run = {
        "name": f"kills-{uuid.uuid4().hex[:8]}",
        "num_updates": 6 * KILLS,
        "prompts_per_update": 3,
        "rollouts_per_prompt": 6,
    }
    config = make_config(run=run, allocator={"mode": mode, "pacing": pacing, "slice_rollouts": 4})
    broker = KafkaBroker(kafka)
    broker.create_topics(config.run.name, TOPICS, 3)
    world = World(broker, config)
    begin = time.monotonic()
    ends = [watch(start(kafka, config, operations=1), world)]
    start_s = time.monotonic() - begin
    for _ in range(KILLS - 1):
        # Half of them at an operation of the writer, half at any time: also while reading, restoring, committing.
        if chance.random() < 0.5:
            ends.append(watch(start(kafka, config, chance.randint(1, 60)), world))
        else:
            ends.append(watch(start(kafka, config, 0), world, chance.uniform(0, 3 * start_s)))
    assert set(ends) <= {-signal.SIGKILL, 0}
    assert ends.count(-signal.SIGKILL) > KILLS / 2
    assert watch(start(kafka, config, 0), world) == 0
    while world.turn(0.5):
        pass
    world.check_groups()
    world.check_beliefs()
    assert world.log.read_all(DEADLETTERS) == []
    broker.close()
