"""Several allocators that share one budget, as roles: exact and optimal together, whichever of them dies."""

import random
from typing import Any

import pytest
from allocator_mortal import MortalBroker
from allocator_shards import Shards
from allocator_world import PROMPTS, TOKENS, make_config
from factories import make_prompt, make_trajectory
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.role import Allocator
from stream.errors import UserError
from stream.memory import MemoryBroker
from stream.messages import Job, Sampling, Verdict
from stream.run_topics import RunTopics
from stream.topics import ALL_TOPICS, DEADLETTERS, PRICES, TOPICS, VERDICTS
from stream.worker import hand_over


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Few groups in a round or many, even parts or not, tight bounds or wide ones; no more open than 12 prompts allow."""
    shards = draw(st.integers(2, 4))
    size = draw(st.integers(shards, 12))
    rounds = 12 // (-(-size // shards) * shards)
    return {
        "run": {
            "name": "r",
            "num_updates": 4,
            "prompts_per_update": size,
            "rollouts_per_prompt": draw(st.sampled_from([4.0, 5.5, 8.0])),
            "max_staleness": draw(st.integers(0, max(rounds - 1, 0))),
        },
        "allocator": {
            "shards": shards,
            "mode": draw(st.sampled_from(["bayes", "p_nonzero", "variance"])),
            "min_rollouts": draw(st.integers(2, 4)),
            "max_rollouts": draw(st.sampled_from([8, 12, 128])),
            "slice_rollouts": 4,
        },
    }


@settings(max_examples=40)
@given(recipes(), st.integers(0, 2**32), st.lists(st.integers(1, 80), max_size=12))
def test_killed_at_any_points_they_spend_every_round_exactly_and_as_well_as_one(
    recipe: dict[str, dict[str, Any]], seed: int, deaths: list[int]
) -> None:
    shards = Shards(MortalBroker(), seed, **recipe)
    shards.live(deaths)
    shards.check()


@settings(max_examples=40)
@given(recipes(), st.integers(0, 2**32), st.lists(st.integers(8, 60), min_size=1, max_size=8))
def test_torn_transactions_neither_lose_a_group_nor_issue_one_twice(
    recipe: dict[str, dict[str, Any]], seed: int, deaths: list[int]
) -> None:
    shards = Shards(MortalBroker(torn=random.Random(seed)), seed, **recipe)
    shards.live(deaths)
    shards.check()


# -- one shard by itself ----------------------------------------------------------------------------------------------


def shard_config(shard: int, shards: int = 3, **run: Any) -> Any:
    base = {"name": "r", "num_updates": 3, "prompts_per_update": 4, "rollouts_per_prompt": 6, "max_staleness": 1}
    return make_config(run=base | run, allocator={"shard": shard, "shards": shards})


def start(broker: MemoryBroker, shard: int, shards: int = 3, **run: Any) -> tuple[Allocator, RunTopics]:
    broker.create_topics("r", ALL_TOPICS if shards > 1 else TOPICS, 2)
    topics = RunTopics(broker, "r", f"allocator-{shard}")
    return Allocator(shard_config(shard, shards, **run), topics, PROMPTS, TOKENS), topics


def turn(role: Allocator, topics: RunTopics) -> None:
    while records := role.reader.poll(0):
        for record in records:
            hand_over(role, topics, record)
    role.work()


def test_prompts_and_groups_are_shared_out_and_a_share_is_waited_for() -> None:
    broker = MemoryBroker()
    roles = [start(broker, shard) for shard in range(3)]
    assert [list(role._pool) for role, _ in roles] == [[f"p{i}" for i in range(shard, 12, 3)] for shard in range(3)]
    for _ in range(20):  # without the third nobody can know what a rollout is worth
        for role, topics in roles[:2]:
            turn(role, topics)
    assert {role.metrics()["allocator/groups"] for role, _ in roles} == {0}
    for _ in range(60):
        for role, topics in roles:
            turn(role, topics)
    assert [role.metrics()["allocator/groups"] for role, _ in roles] == [4, 2, 2]
    assert sum(role.metrics()["allocator/open_rollouts"] for role, _ in roles) == 48
    assert sum(role.metrics()["allocator/spent"] for role, _ in roles) == 24


def test_a_verdict_of_nobodys_prompt_is_buried_once() -> None:
    broker = MemoryBroker()
    roles = [start(broker, shard) for shard in range(3)]
    world = RunTopics(broker, "r", "world")
    for prompt in (make_prompt("stranger"), PROMPTS[1]):
        job = Job(
            group_id=f"{prompt.prompt_id}.0000",
            start=0,
            stop=2,
            num_rollouts=2,
            prompt=prompt,
            prompt_token_ids=TOKENS["p0"],
            sampling=Sampling(),
        )
        world.send(VERDICTS, "v", Verdict(trajectory=make_trajectory(job, 0), outcome="correct", reward=1.0))
    for role, topics in roles:
        turn(role, topics)
    (letter,) = world.read_all(DEADLETTERS)
    assert letter.role == "allocator-0"
    assert letter.error == "verdict of prompt 'stranger', which is not in this run's pool"


def test_a_restarted_shard_reads_on_where_its_talks_began() -> None:
    broker = MemoryBroker()
    roles = [start(broker, shard) for shard in range(3)]
    shard = 0
    while not roles[0][0].metrics()["allocator/groups"]:
        turn(*roles[shard])
        shard = (shard + 1) % 3
    turn(*roles[0])  # it talks about its second round before the others have admitted their first
    turn(*roles[1])
    again, topics = start(broker, 1)
    rounds = [quote.round for quote in topics.read_all(PRICES)]
    assert rounds == [0] * rounds.index(1) + [1]
    assert again.metrics()["allocator/groups"] == 1
    assert again.reader.positions()[PRICES.of("r"), 0] == rounds.index(1)


@pytest.mark.parametrize(("before", "after"), [(3, 2), (3, 1), (1, 3)])
def test_a_run_goes_on_with_as_many_allocators_as_it_began_with(before: int, after: int) -> None:
    broker = MemoryBroker()
    roles = [start(broker, shard, before) for shard in range(before)]
    for _ in range(30):
        for role, topics in roles:
            turn(role, topics)
    for shard in range(before):
        start(broker, shard, before)
    with pytest.raises(UserError, match=rf"allocator.shards is {after}, and this run was begun with {before}; resume"):
        start(broker, 0, after)


def test_two_numbers_of_allocators_at_once_are_refused() -> None:
    broker = MemoryBroker()
    first, second = start(broker, 0, 3), start(broker, 1, 2)
    turn(*first)
    with pytest.raises(UserError, match=r"allocator.shards is 2, and this run was begun with 3"):
        turn(*second)


def test_too_few_prompts_that_are_short_enough_are_refused() -> None:
    few = {name: TOKENS[name] for name in ("p0", "p1", "p2")}
    broker = MemoryBroker()
    broker.create_topics("r", ALL_TOPICS, 2)
    with pytest.raises(UserError, match="1 prompts of this allocator's are short enough; want at least its 2"):
        Allocator(shard_config(0), RunTopics(broker, "r", "allocator-0"), PROMPTS, few)
