"""Several allocators of one run against a memory broker, in turns that are drawn at random, however often they die."""

import random
import time
from collections import defaultdict

import numpy as np
import pytest
from allocator_mortal import KilledError, MortalBroker
from allocator_world import PROMPTS, TOKENS, World, make_config

from allocator.budget import solve
from allocator.modes import VALUES, Beliefs
from allocator.role import Allocator
from stream.broker import Broker
from stream.codec import decode
from stream.config import Config
from stream.messages import Job, Quote
from stream.run_topics import RunTopics
from stream.topics import ALL_TOPICS, DEADLETTERS, PRICES
from stream.worker import hand_over


class ShardWorld(World):
    """A world whose learner takes a round's number of complete groups at a time, in an order drawn at random, as
    producers and verifier are done with them."""

    def __init__(self, broker: Broker, config: Config, chance: random.Random) -> None:
        super().__init__(broker, config)
        self._chance = chance
        self._waiting: list[Job] = []

    def turn(self, timeout_s: float = 0.0) -> bool:
        """Answer some of the jobs that have come; whether there is anything left to do."""
        self._waiting += [decode(record.value, Job) for record in self.reader.poll(timeout_s)]
        self._chance.shuffle(self._waiting)
        now = self._chance.randint(min(1, len(self._waiting)), len(self._waiting))
        for job in self._waiting[:now]:
            self._answer(job)
        del self._waiting[:now]
        complete = [g for g, size in self.sizes.items() if len(self.answered[g]) == size and g not in self.ended]
        self._chance.shuffle(complete)
        size = self.config.run.prompts_per_update
        for place in range(0, len(complete) - size + 1, size):
            self._end(complete[place : place + size])
        self.log.writer.flush()
        return bool(now)

    def check_values(self) -> None:
        """Every round's groups are worth what the best would be for all its prompts together, as they were believed."""
        run, table = self.config.run, self.config.allocator
        first: dict[tuple[int, int], Quote] = {}
        for quote in self.log.read_all(PRICES):
            if quote.step == 0:
                first.setdefault((quote.round, quote.shard), quote)
        found = defaultdict(float)
        for job in {job.group_id: job for job in self.jobs}.values():
            assert job.budgeting is not None
            found[job.round] += job.budgeting.value
        for number in range(run.num_updates):
            quotes = [first[number, shard] for shard in range(table.shards)]
            a, b = (np.concatenate([getattr(quote, name) for quote in quotes]) for name in ("a", "b"))
            assert a.size == run.prompts_per_update
            low, high = np.full(a.size, table.min_rollouts), np.full(a.size, table.max_rollouts)
            value = VALUES[table.mode](Beliefs(rate=a, a=a, b=b), table.min_rollouts, table.max_rollouts)
            best = solve(value.marginal, run.budget, low, high).num_rollouts
            assert found[number] == pytest.approx(value.value(np.arange(a.size), best).sum(), rel=1e-9)


class Shards:
    """All allocators of a run from start to end."""

    def __init__(self, broker: MortalBroker, seed: int, **tables: dict[str, object]) -> None:
        self.broker = broker
        self.chance = random.Random(seed)
        shards = tables["allocator"]["shards"]
        assert isinstance(shards, int)
        self.configs = [
            make_config(**{**tables, "allocator": {**tables["allocator"], "shard": shard}}) for shard in range(shards)
        ]
        broker.create_topics("r", ALL_TOPICS, 3)
        self.world = ShardWorld(broker, self.configs[0], self.chance)
        self.roles: list[Allocator | None] = [None] * shards
        self.all_topics = [RunTopics(broker, "r", f"allocator-{shard}") for shard in range(shards)]

    def live(self, deaths: list[int]) -> None:
        """Run to the end; the next allocator dies after each of these numbers of operations."""
        left = list(deaths)
        self.broker.left = left.pop(0) if left else 0
        idle = 0
        while not all(role is not None and role.finished for role in self.roles):
            shard = self.chance.randrange(len(self.roles))
            try:
                moved = self._turn(shard)
            except KilledError:
                self.roles[shard] = None
                self.broker.left = left.pop(0) if left else 0
                moved = True
            if self.chance.random() < 0.3:
                moved |= self.world.turn()
            idle = 0 if moved else idle + 1
            assert idle < 1000, f"the run hangs: {[role and role.metrics() for role in self.roles]}"
        self.broker.left = 0
        for role in self.roles:
            assert role is not None
            role.close()
        while self.world.turn():
            pass

    def _turn(self, shard: int) -> bool:
        role = self.roles[shard]
        if role is None:
            self.all_topics[shard] = RunTopics(self.broker, "r", f"allocator-{shard}")
            role = Allocator(self.configs[shard], self.all_topics[shard], PROMPTS, TOKENS)
            self.roles[shard] = role
            return True
        records = role.reader.poll(0, self.chance.randint(1, 60))
        for record in records:
            hand_over(role, self.all_topics[shard], record)
        if not records and self.broker.torn is not None and self.chance.random() < 0.02:
            role._recover_overdue(time.monotonic() + 1e6)
        return role.work() or bool(records)

    # -- what must hold in the end ------------------------------------------------------------------------------------

    def check(self) -> None:
        """No group twice, none lost, all budgets exact and as well spent as by one allocator."""
        self.world.check_groups()
        self.world.check_beliefs()
        self.world.check_values()
        assert self.world.log.read_all(DEADLETTERS) == []
