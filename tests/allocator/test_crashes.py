"""The allocator killed at any point, and transactions torn in any way, against a memory broker."""

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from allocator_mortal import KilledError, MortalBroker
from allocator_world import PROMPTS, TOKENS, World, make_config
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import recovery
from allocator.admission import admission_of
from allocator.role import Allocator
from stream.config import Config
from stream.run_topics import RunTopics
from stream.topics import DEADLETTERS, TOPICS
from stream.worker import hand_over


@pytest.fixture(autouse=True, params=[8192, 4], ids=["one record", "several"])
def _slots_come_round(request: pytest.FixtureRequest) -> Iterator[None]:
    """Few slots, so that each is taken again and again, and transactions of one record or of several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "MIN_SLOTS", 2)
        patch.setattr(recovery, "MOST_BELIEFS", request.param)
        yield


class Life:
    """The allocator from start to end, however often it dies."""

    def __init__(self, broker: MortalBroker, config: Config) -> None:
        self.broker = broker
        broker.create_topics("r", TOPICS, 3)
        self.config = config
        self.world = World(broker, config)

    def live(self, operations: int) -> bool:
        """One incarnation that is killed after so many operations; whether it got to the end."""
        self.broker.left = operations
        topics = RunTopics(self.broker, "r", "allocator-0")
        try:
            role = Allocator(self.config, topics, PROMPTS, TOKENS, admission_of(self.config))
            for _ in range(500):
                for record in role.reader.poll(0):
                    hand_over(role, topics, record, role.watermark)
                while role.work():
                    pass
                if not self.world.turn() and not role.finished:
                    role.renew_leases(time.monotonic() + 1e6)
                if role.finished:
                    role.close()
                    return True
        except KilledError:
            self.world.turn()
            return False
        raise AssertionError("the run hangs")

    def check(self) -> None:
        self.world.turn()
        self.world.check_groups()
        self.world.check_beliefs()
        assert self.world.log.read_all(DEADLETTERS) == []


PACES = [
    ("uniform", "round"),
    ("bayes", "round"),
    ("bayes", "stream"),
    ("sequential", "round"),
    ("uniform", "pool"),
    ("learnability", "pool"),
]


def config_of(run: dict[str, Any], mode: str, pace: str) -> Config:
    """Groups in rounds or in a stream, or single rollouts of the whole pool."""
    if pace == "pool":
        return make_config(run=run, learner={"objective": "belief"}, allocator={"mode": mode, "slice_rollouts": 4})
    return make_config(run=run, allocator={"mode": mode, "pacing": pace, "slice_rollouts": 4})


@pytest.mark.parametrize(("mode", "pace"), PACES)
def test_killed_at_every_operation_in_turn(mode: str, pace: str) -> None:
    """As many operations as one more incarnation makes before it is killed: every point of every round is met."""
    run = {"name": "r", "num_updates": 12, "prompts_per_update": 4, "rollouts_per_prompt": 6}
    life = Life(MortalBroker(), config_of(run, mode, pace))
    operations = 1
    while not life.live(operations):
        operations += 1
    assert operations > 20
    life.check()


@settings(max_examples=40)
@given(st.lists(st.integers(1, 60), max_size=12), st.sampled_from([*PACES, ("paper", "round")]), st.integers(0, 3))
def test_killed_at_any_points(deaths: list[int], mode: tuple[str, str], staleness: int) -> None:
    run = {"name": "r", "num_updates": 5, "prompts_per_update": 3, "rollouts_per_prompt": 6, "max_staleness": staleness}
    life = Life(MortalBroker(), config_of(run, *mode))
    for operations in deaths:
        if life.live(operations):
            break
    else:
        assert life.live(0)
    life.check()


@settings(max_examples=40)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(8, 60), min_size=1, max_size=8),
    st.integers(0, 2),
    st.sampled_from([("bayes", "round"), ("bayes", "stream"), ("sequential", "round"), ("learnability", "pool")]),
)
def test_torn_transactions_neither_lose_a_group_nor_issue_one_twice(
    seed: int, deaths: list[int], staleness: int, mode: tuple[str, str]
) -> None:
    run = {"name": "r", "num_updates": 5, "prompts_per_update": 3, "rollouts_per_prompt": 6, "max_staleness": staleness}
    life = Life(MortalBroker(torn=random.Random(seed)), config_of(run, *mode))
    for operations in deaths:
        life.live(operations)
    assert life.live(0)
    life.check()
