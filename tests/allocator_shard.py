"""One of several allocators that share a budget, as a process: talks over the log, round by round, then tells its budgets."""

from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np

from allocator.budget import Floats, Ints, solve
from allocator.exchange import Exchange, agree
from allocator.price import Split
from allocator.values import Expected
from stream.topics import PRICES
from stream.worker import Log

NUM_SHARDS, ROUNDS, BUDGET, LOW, HIGH = 3, 4, 3000, 2, 128
SIZES = (50, 100, 150)
"""Prompts of the shards."""


def beliefs_of(number: int, shard: int) -> tuple[Floats, Floats]:
    """Posteriors of a shard's prompts in a round: the shards differ, and in the last round every prompt is unseen."""
    if number == ROUNDS - 1:
        return np.full(SIZES[shard], 0.8), np.full(SIZES[shard], 1.3)
    chance = np.random.default_rng(100 * number + shard)
    p = chance.beta(0.2 + shard, 2.2 - shard, SIZES[shard])
    trials = chance.integers(0, 33, SIZES[shard])
    successes = chance.binomial(trials, p)
    return 0.5 + successes, 0.5 + trials - successes


def value_of(number: int, shards: Sequence[int]) -> Expected:
    a, b = zip(*(beliefs_of(number, shard) for shard in shards), strict=True)
    return Expected(np.concatenate(a), np.concatenate(b))


def bounds_of(shards: Sequence[int]) -> tuple[Ints, Ints]:
    size = sum(SIZES[shard] for shard in shards)
    return np.full(size, LOW), np.full(size, HIGH)


def take_part(servers: str, run: str, shard: int, end: Connection) -> None:
    """What the process does."""
    from stream.kafka import KafkaBroker

    broker = KafkaBroker(servers)
    log = Log(broker, run, f"allocator-{shard}")
    reader = log.reader(PRICES)
    exchange = Exchange(shard, NUM_SHARDS)
    budgets = []
    for number in range(ROUNDS):
        marginal = value_of(number, [shard]).marginal
        exchange.begin(number, Split(marginal, BUDGET, *bounds_of([shard]), shard))
        share = agree(exchange, log, reader)
        budgets.append(solve(marginal, share, *bounds_of([shard])).num_rollouts)
    log.writer.flush()
    end.send(budgets)
    log.writer.close()
    reader.close()
    broker.close()
