"""Versions on their way to the log: what is taken from the model, what the topic holds, and who may announce it."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from publications_world import Model, World, bits_of

from learner.changes import ChangeFinder, published_dtype
from learner.publisher import LogPublisher, Publisher
from producers.follower import PolicyFollower
from stream.config import Config
from stream.errors import Fenced
from stream.patches import TensorPatch
from stream.rebuild import NoSuchVersion
from stream.topics import UPDATES, WEIGHTS
from stream.weights import WEIGHTS_FILE, HostTensor, State, write_state

FLOATS = st.sampled_from([0.0, -0.0, 1.0, 1 + 2**-9, float("nan"), float("inf"), 1e-45, 3e38])


@given(
    st.lists(st.lists(FLOATS, min_size=6, max_size=6), min_size=1, max_size=5),
    st.sampled_from(["bfloat16", "float16", "float32"]),
)
def test_the_changes_lead_from_each_state_to_the_next_bit_for_bit(states: list[list[float]], dtype: Any) -> None:
    finder, state = ChangeFinder(dtype), State()
    for values in states:
        model = {"w": torch.tensor(values).view(2, 3), "scalar": torch.tensor(values[0])}
        changes = finder.take(model.items())
        state.apply(changes.patches)
        wanted = {
            name: t.to(getattr(torch, dtype)).view(
                torch.uint8 if t.dim() else getattr(torch, f"int{8 * t.to(getattr(torch, dtype)).itemsize}")
            )
            for name, t in model.items()
        }
        assert bits_of(state) == {name: tensor.numpy().tobytes() for name, tensor in wanted.items()}
        assert changes.num_elements == 7
    again = finder.take(model.items())
    assert (again.patches, again.num_changed) == ([], 0)  # NaN too is the same as before


def test_buffers_of_integers_do_not_travel() -> None:
    changes = ChangeFinder("bfloat16").take(Model().each_weight())
    assert [patch.name for patch in changes.patches] == ["embed", "norm"]


@pytest.mark.parametrize(
    ("published", "engine", "model", "dtype"),
    [
        ("bfloat16", "float32", "{}", "bfloat16"),
        ("auto", "float16", "{}", "float16"),
        ("auto", "auto", '{"dtype": "bfloat16"}', "bfloat16"),
        ("auto", "auto", '{"torch_dtype": "float16"}', "float16"),
        ("auto", "auto", '{"dtype": "float32"}', "bfloat16"),
        ("auto", "auto", '{"text_config": {"dtype": "float16"}}', "float16"),
        ("auto", "auto", "{}", "float16"),
    ],
)
def test_the_dtype_is_that_which_the_engine_takes(
    tmp_path: Path, published: Any, engine: Any, model: str, dtype: str
) -> None:
    (tmp_path / "config.json").write_text(model)
    with (tmp_path / WEIGHTS_FILE).open("wb") as file:
        write_state(State({"w": HostTensor("float16", (1,), np.zeros(1, np.uint16))}), file)
    config = Config(run={"model": str(tmp_path)}, producer={"dtype": engine}, learner={"publish_dtype": published})
    assert published_dtype(config) == dtype


# -- the topic --------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, anchor_every=4, keep_policies=3)
    yield world
    world.training.shutdown()


def test_every_version_that_is_kept_is_rebuilt_bit_for_bit_from_the_topics(world: World) -> None:
    states = [world.publish()]
    for number in range(20):
        world.model.nudge(7 * number)
        states.append(world.publish())
    for version in (18, 19, 20):
        assert world.rebuilt(version) == states[version]
    wholes = sorted({part.version for part in world.parts() if not part.parent_digest})
    assert wholes == [16, 20]
    assert world.broker.starts[WEIGHTS.of("r"), 0] == 20
    with pytest.raises(NoSuchVersion, match="version 10 is not covered any more: the oldest that is is 16"):
        world.rebuilt(10)
    with pytest.raises(NoSuchVersion, match="version 21 was never published"):
        world.rebuilt(21)


def test_a_policy_says_where_the_newest_whole_state_begins_and_its_update_has_its_digest(world: World) -> None:
    world.publish()
    for number in range(6):
        world.model.nudge(number)
        world.publish()
    newest, update = world.policies()[-1], world.topics.read_all(UPDATES)[-1]
    (first, *_) = [r for r in world.broker.logs[WEIGHTS.of("r")][0] if r.offset >= newest.offset]
    part = next(part for part in world.parts() if part.version == 4 and not part.parent_digest)
    assert world.parts().index(part) + world.broker.starts[WEIGHTS.of("r"), 0] == first.offset
    assert update.digest == newest.digest == world.publications._publisher._digest
    assert update.metrics["learner/weights/changed_share"] == pytest.approx(3 / 8001)
    assert update.metrics["learner/weights/bytes"] < 20


def test_an_update_without_a_change_sends_nothing_and_is_announced(world: World) -> None:
    state, before = world.publish(), len(world.parts())
    world.publish()
    assert len(world.parts()) == before
    assert world.policies()[1].digest == world.policies()[0].digest
    assert world.rebuilt(1) == state


def test_where_nearly_all_changes_every_version_is_a_whole_state(world: World) -> None:
    world.publish()
    for _ in range(5):
        world.model.tensors["embed"] += 1.0
        world.publish()
    assert {part.parent_digest for part in world.parts()} == {""}
    offsets = [policy.offset for policy in world.policies()]
    assert offsets == sorted(set(offsets))
    assert len({part.version for part in world.parts()}) == 3


def test_what_is_withheld_is_announced_alone_and_the_newest_of_it_published_afterwards(world: World) -> None:
    base = world.publish()
    world.publications.withhold()
    for number in range(3):
        world.model.nudge(10 * number)
        world.add()
        world.publications.begin(world.training)
    assert world.publications.settled
    assert [update.version for update in world.topics.read_all(UPDATES)] == [1, 2, 3]
    assert [policy.version for policy in world.policies()] == [0]
    assert {part.version for part in world.parts()} == {0}
    world.publications.release()
    assert not world.publications.settled
    world.settle()
    assert [update.version for update in world.topics.read_all(UPDATES)] == [1, 2, 3]
    assert [policy.version for policy in world.policies()] == [0, 3]
    assert (world.rebuilt(0), world.rebuilt(3)) == (base, world.model.expected(torch.bfloat16))
    world.publish()
    assert [policy.version for policy in world.policies()] == [0, 3, 4]


class HeldPublisher:
    """Publishes when the test says so."""

    def __init__(self, inner: Publisher) -> None:
        self.inner, self.gate = inner, threading.Event()

    def publish(self, *arguments: Any) -> Any:
        assert self.gate.wait(60)
        return self.inner.publish(*arguments)

    def tidy(self, version: int) -> None:
        self.inner.tidy(version)

    def close(self) -> None:
        self.inner.close()


def test_versions_that_are_made_while_one_is_published_are_published_as_one(world: World) -> None:
    held = HeldPublisher(LogPublisher(world.config, world.topics))
    world.start(held)
    world.add()
    world.publications.begin(world.training)
    for number in range(3):
        world.training.submit(world.model.nudge, 10 * number).result()
        world.add()
        world.publications.begin(world.training)
        world.publications.announce()
        assert world.topics.read_all(UPDATES) == []
    held.gate.set()
    world.settle()
    assert [policy.version for policy in world.policies()] == [0, 3]
    updates = world.topics.read_all(UPDATES)
    assert [(u.version, u.parent_version, bool(u.digest)) for u in updates] == [
        (1, 0, False),
        (2, 1, False),
        (3, 2, True),
    ]
    patches = [part for part in world.parts() if part.parent_digest]
    assert [(part.version, part.parent_version) for part in patches] == [(3, 0)]
    assert world.rebuilt(3) == world.model.expected(torch.bfloat16)
    with pytest.raises(NoSuchVersion, match="version 2 was published together with version 3"):
        world.rebuilt(2)


def test_what_training_changes_after_the_changes_are_taken_is_not_in_the_version(world: World) -> None:
    held = HeldPublisher(LogPublisher(world.config, world.topics))
    world.start(held)
    world.add()
    state = world.model.expected(torch.bfloat16)
    world.publications.begin(world.training)
    world.training.submit(world.model.nudge, 0).result()  # the next update
    held.gate.set()
    world.settle()
    assert world.rebuilt(0) == state


def test_a_learner_that_is_replaced_announces_nothing_and_its_parts_lead_nowhere(world: World) -> None:
    world.publish()
    old = world.publications
    world.model.nudge(5)
    world.add()
    old.begin(world.training)
    assert old._published is not None
    old._published.result()
    world.start()
    with pytest.raises(Fenced):
        old.announce()
    world.version = 0
    state = world.publish()
    assert [policy.version for policy in world.policies()] == [0, 1]
    assert len({part.publication for part in world.parts() if part.version == 1}) == 2
    assert world.rebuilt(1) == state


def test_whole_states_above_a_size_are_in_the_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    world = World(tmp_path, anchor_every=2, keep_policies=2, anchor_store=str(store), anchor_store_above_gib=1e-6)
    states = [world.publish()]
    for number in range(9):
        world.model.nudge(number)
        states.append(world.publish())
    assert all(not part.elements or part.parent_digest for part in world.parts())
    assert sorted(path.name[:7] for path in (store / "r").iterdir()) == ["v000008"]
    assert world.rebuilt(9) == states[9]
    assert np.prod(len(world.parts())) <= 4
    world.training.shutdown()


def test_a_thousand_publications_leave_topic_and_memory_as_they_were(world: World) -> None:
    world.publish()
    sizes = []
    for number in range(1000):
        world.model.nudge(number % 1000)
        world.publish()
        sizes.append(len(world.broker.logs[WEIGHTS.of("r")][0]))
    assert max(sizes[500:]) == max(sizes[:500]) <= 12
    publisher = world.publications._publisher
    assert len(publisher._anchors) <= 3
    assert len(publisher._state.tensors) == 2
    assert world.rebuilt(1000) == world.model.expected(torch.bfloat16)


def test_a_thousand_publications_leave_nothing_in_the_memory_of_who_follows(world: World) -> None:
    follower, engine, version = PolicyFollower(world.topics, poll_s=0), State(), -1
    world.publish()
    for number in range(1000):
        offer = follower.step(version, busy=False)
        if offer is not None:
            engine.apply(offer.patches)
            version = offer.version
        world.model.nudge(number % 1000)
        world.publish()
    assert (len(follower._assembler._complete), len(follower._assembler._open), len(follower._heads)) <= (12, 1, 8)
    while (offer := follower.step(version, busy=False)) is not None:
        engine.apply(offer.patches)
        version = offer.version
    assert version == 1000
    assert bits_of(engine) == world.model.expected(torch.bfloat16)
    assert (follower._assembler._complete, follower._assembler._open, follower._heads) == ({}, {}, [])


def test_patches_are_new_values_so_that_a_second_time_changes_nothing() -> None:
    state = State()
    whole = TensorPatch(name="w", shape=(4,), dtype="float32", values=np.arange(4, dtype=np.uint32))
    patch = dataclasses.replace(whole, values=np.array([9], np.uint32), indices=np.array([2], np.uint32))
    state.apply([whole, patch, patch])
    assert state.tensors["w"].bits.tolist() == [0, 1, 9, 3]
