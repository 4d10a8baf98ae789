"""Three allocators in processes of their own, each with a share of the prompts, agree over a real broker."""

import multiprocessing
import uuid
from multiprocessing.connection import Connection

import numpy as np
from allocator_shard import BUDGET, HIGH, LOW, NUM_SHARDS, ROUNDS, bounds_of, take_part, value_of

from allocator.budget import Floats, solve
from stream.topics import TOPICS


def test_three_processes_reach_the_joint_optimum_and_spend_the_budget_exactly(kafka: str) -> None:
    from stream.kafka import KafkaBroker

    run = f"shards-{uuid.uuid4().hex[:8]}"
    broker = KafkaBroker(kafka)
    broker.create_topics(run, TOPICS, 2)
    context = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    children = []
    for shard in range(NUM_SHARDS):
        mine, its = context.Pipe()
        children.append(context.Process(target=take_part, args=(kafka, run, shard, its)))
        children[-1].start()
        its.close()
        ends.append(mine)
    spent, value = [0] * ROUNDS, np.zeros(ROUNDS)
    for end in ends:
        assert end.poll(240)
        for number, rollouts in enumerate(end.recv()):
            shard = ends.index(end)
            assert rollouts.min() >= LOW and rollouts.max() <= HIGH
            spent[number] += int(rollouts.sum())
            value[number] += worth(number, [shard], rollouts)
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert spent == [BUDGET] * ROUNDS
    for number in range(ROUNDS):
        joint = value_of(number, range(NUM_SHARDS))
        best = solve(joint.marginal, BUDGET, *bounds_of(range(NUM_SHARDS))).num_rollouts
        assert np.isclose(value[number], worth(number, range(NUM_SHARDS), best), rtol=1e-12, atol=0)
    broker.close()


def worth(number: int, shards: range | list[int], rollouts: Floats) -> float:
    return float(value_of(number, shards).value(np.arange(rollouts.size), rollouts).sum())
