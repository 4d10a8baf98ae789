"""The producer follows the log: whatever happens to the parts, it samples from announced states alone, bit for bit."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weights_chain import Chain, bits_of, random_state

from producers.follower import PolicyFollower, merged
from stream.codec import decode
from stream.errors import UserError
from stream.memory import MemoryBroker
from stream.messages import Policy, WeightsPart
from stream.patches import TensorPatch
from stream.run_topics import RunTopics
from stream.states import StateStore
from stream.topics import DEADLETTERS, POLICIES, TOPICS, WEIGHTS
from stream.weights import State


@pytest.fixture
def chain() -> Chain:
    return Chain()


def publish(bench, chain: Chain, step: Callable[[], Sequence[WeightsPart]] | None = None, offset: int = 0) -> None:
    bench.send_parts(chain.anchor() if chain.version < 0 else chain.patch())
    bench.announce(chain.version, chain.digests[chain.version], offset)


def end_of_weights(bench) -> int:
    return bench.broker.end_offsets(WEIGHTS.of("r"))[0]


def follow(bench, chain: Chain) -> None:
    publish(bench, chain)
    bench.until(lambda: bench.version == chain.version)
    assert bits_of(bench.engine.state) == chain.states[chain.version]


def test_the_whole_state_comes_first_then_only_what_has_changed(bench, chain):
    for _ in range(4):
        follow(bench, chain)
    whole, *patches = [sum(patch.values.size for patch in some) for some, _ in bench.engine.applied]
    assert whole == 76
    assert max(patches) < 76
    assert [version for _, version in bench.engine.applied] == [0, 1, 2, 3]
    assert bench.letters() == []


def test_versions_that_come_while_the_engine_is_busy_are_put_in_as_one(bench, chain):
    follow(bench, chain)
    bench.loop.call_soon_threadsafe(bench.engine.swap_gate.clear)
    publish(bench, chain)
    bench.until(lambda: len(bench.engine.applied) == 2)
    for _ in range(3):
        publish(bench, chain)
    bench.settle()
    assert bench.version == 0
    bench.loop.call_soon_threadsafe(bench.engine.swap_gate.set)
    bench.until(lambda: bench.version == 4)
    assert [version for _, version in bench.engine.applied] == [0, 1, 4]
    assert len({patch.name for patch in bench.engine.applied[-1][0]}) == len(bench.engine.applied[-1][0])
    assert bits_of(bench.engine.state) == chain.states[4]


def test_an_announced_state_is_waited_for_until_its_last_part_is_there(bench, chain):
    follow(bench, chain)
    *parts, last = chain.patch()
    bench.send_parts(parts)
    bench.announce(1, chain.digests[1])
    bench.settle()
    assert bench.version == 0
    bench.send_parts([last])
    bench.until(lambda: bench.version == 1)


def test_a_state_that_is_not_announced_is_never_sampled_from(bench, chain):
    follow(bench, chain)
    bench.send_parts(chain.patch() + chain.patch())
    bench.settle()
    assert [version for _, version in bench.engine.applied] == [0]


def test_a_version_with_the_state_that_is_served_needs_no_part(bench, chain):
    follow(bench, chain)
    bench.announce(5, chain.digests[0])
    bench.until(lambda: bench.version == 5)
    assert bench.engine.applied[-1] == ([], 5)


def test_a_lost_part_is_passed_at_the_next_whole_state(bench, chain):
    follow(bench, chain)
    bench.send_parts(chain.patch()[1:])
    bench.announce(1, chain.digests[1])
    publish(bench, chain)
    bench.settle()
    assert bench.version == 0
    bench.send_parts(chain.anchor())
    bench.until(lambda: bench.version == 2)
    follow(bench, chain)


def test_a_corrupted_part_is_never_sampled_from_and_the_next_whole_state_is(bench, chain):
    follow(bench, chain)
    first, *rest = chain.patch()
    elements = first.elements[0]
    flipped = msgspec.structs.replace(elements, values=bytes([elements.values[0] ^ 1]) + elements.values[1:])
    bench.send_parts([msgspec.structs.replace(first, elements=(flipped, *first.elements[1:])), *rest])
    bench.announce(1, chain.digests[1])
    bench.until(lambda: len(bench.letters()) == 1)
    (letter,) = bench.letters()
    assert decode(letter.value, Policy).version == 1
    assert f"announced was {chain.digests[1]}" in letter.error
    publish(bench, chain)
    bench.settle()
    assert bench.version == 0
    assert bits_of(bench.engine.state) == chain.states[0]
    start = end_of_weights(bench)
    bench.send_parts(chain.anchor())
    publish(bench, chain, offset=start)
    bench.until(lambda: bench.version == 3)
    assert bits_of(bench.engine.state) == chain.states[3]
    assert len(bench.letters()) == 1


def test_a_part_that_cannot_be_read_goes_to_deadletters(bench, chain):
    follow(bench, chain)
    bench.world.writer.send(WEIGHTS.of("r"), b"1", b"\x00")
    (part, *_) = chain.patch()
    bench.send_parts([msgspec.structs.replace(part, elements=(msgspec.structs.replace(part.elements[0], start=-3),))])
    bench.until(lambda: len(bench.letters()) == 2)
    assert {letter.topic for letter in bench.letters()} == {WEIGHTS.of("r")}
    assert bench.version == 0


def test_a_producer_that_joins_reads_from_where_the_newest_policy_says(bench, chain):
    for _ in range(3):
        publish(bench, chain)
    start = end_of_weights(bench)
    bench.send_parts(chain.anchor())
    for _ in range(3):
        publish(bench, chain, offset=start)
    follower = PolicyFollower(bench.world)
    assert follower._reader.positions()[WEIGHTS.of("r"), 0] == start
    offer = None
    while offer is None:
        offer = follower.step(-1, busy=False)
    assert offer.version == 5
    assert {patch.name: patch.values.tobytes() for patch in offer.patches} == chain.states[5]


def test_records_that_are_deleted_before_they_were_read_are_passed_over(bench, chain):
    follow(bench, chain)
    bench.send_parts(chain.patch() + chain.patch())
    start = end_of_weights(bench)
    bench.send_parts(chain.anchor())
    bench.broker.delete_records({(WEIGHTS.of("r"), 0): start})
    publish(bench, chain, offset=start)
    bench.until(lambda: bench.version == 3)
    assert bits_of(bench.engine.state) == chain.states[3]


def test_what_two_learners_write_at_once_does_not_mix(bench, chain):
    """The zombie makes version 2 as well, from the same version 1; only its successor's is announced."""
    zombie = Chain(name="zombie")
    for one in (chain, zombie):
        one.anchor(), one.patch()
    bench.send_parts([*chain.sent[0], *zombie.sent[0], *chain.sent[1], *zombie.sent[1]])
    bench.announce(1, chain.digests[1])
    bench.until(lambda: bench.version == 1)
    zombie.rng = np.random.default_rng(7)
    first, second = chain.patch(2), zombie.patch(2)
    bench.send_parts([part for pair in zip(second, first, strict=False) for part in pair] + first + second)
    bench.announce(2, chain.digests[2])
    bench.until(lambda: bench.version == 2)
    assert bits_of(bench.engine.state) == chain.states[2]
    assert chain.digests[2] != zombie.digests[2]


def test_patches_that_the_engine_refuses_are_followed_by_the_whole_state(bench, chain):
    follow(bench, chain)
    bench.engine.swap_error = UserError("does not fit")
    publish(bench, chain)
    bench.until(lambda: len(bench.letters()) == 1)
    bench.engine.swap_error = None
    follow(bench, chain)
    assert sum(patch.values.size for patch in bench.engine.applied[-1][0]) == 76


def test_an_engine_that_cannot_be_patched_gets_whole_states(chain):
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 1)
    topics = RunTopics(broker, "r", "world")
    follower, sizes = PolicyFollower(topics, whole=True), []
    chain.anchor()
    for version in range(3):
        if version:
            chain.patch()
        for part in chain.sent[-1]:
            topics.send(WEIGHTS, "", part)
        topics.send(POLICIES, "policy", Policy(version=version, digest=chain.digests[version], step=0, offset=0))
        offer = follower.step(version - 1, busy=False)
        sizes.append(sum(patch.values.size for patch in offer.patches))
    assert sizes == [76, 76, 76]


def test_what_is_offered_and_not_taken_is_offered_again_as_a_whole(bench, chain):
    """As while the engine starts: states are put together ahead, and the newest is there at once."""
    start = end_of_weights(bench)
    follower = PolicyFollower(bench.world)
    for version in range(3):
        publish(bench, chain, offset=start)
        offer = follower.step(-1, busy=False)
        assert offer.version == version
        assert {patch.name: patch.values.tobytes() for patch in offer.patches} == chain.states[version]
    publish(bench, chain, offset=start)
    assert sum(patch.values.size for patch in follower.step(2, busy=False).patches) < 76


def test_a_whole_state_is_read_from_the_store(bench, chain, tmp_path: Path):
    chain.anchor()
    store = StateStore(str(tmp_path / "store"), "r")
    uri = store.write(chain.state, 0, chain.digests[0])
    part = msgspec.structs.replace(chain.sent[0][0], elements=(), uri=uri, num_parts=1)
    bench.send_parts([part])
    bench.announce(0, chain.digests[0])
    bench.until(lambda: bench.version == 0)
    follow(bench, chain)
    store.drop_before(100)
    assert list((tmp_path / "store" / "r").iterdir()) == []


# -- any sequence of faults -------------------------------------------------------------------------------------------

FAULTS = st.sampled_from(["none", "lost", "twice", "flipped", "shuffled", "resumed", "anchor", "silent"])


def damaged(parts: list[WeightsPart], fault: str, rng: np.random.Generator) -> list[WeightsPart]:
    if fault == "lost":
        del parts[int(rng.integers(len(parts)))]
    elif fault == "twice":
        parts += parts
    elif fault == "shuffled":
        parts = [parts[i] for i in rng.permutation(len(parts))]
    elif fault == "flipped":
        number = int(rng.integers(len(parts)))
        elements = parts[number].elements
        changed = [msgspec.structs.replace(e, values=bytes(b ^ 1 for b in e.values)) for e in elements]
        parts[number] = msgspec.structs.replace(parts[number], elements=tuple(changed))
    return parts


@given(st.integers(0, 1000), st.lists(FAULTS, min_size=1, max_size=12))
def test_after_any_faults_what_is_offered_is_an_announced_state_and_a_whole_state_mends_all(
    seed: int, faults: list[str]
) -> None:
    broker, chain, rng = MemoryBroker(), Chain(seed), np.random.default_rng(seed)
    broker.create_topics("r", TOPICS, 1)
    topics = RunTopics(broker, "r", "world")
    follower, engine, version, offset = PolicyFollower(topics), State(), -1, 0

    def announce() -> None:
        policy = Policy(version=chain.version, digest=chain.digests[chain.version], step=0, offset=offset)
        topics.send(POLICIES, "policy", policy)

    def send(parts: Sequence[WeightsPart]) -> None:
        for part in parts:
            topics.send(WEIGHTS, "", part)

    def turn() -> int:
        nonlocal engine
        offer = follower.step(version, busy=False)
        if offer is None:
            return version
        engine.apply(offer.patches)
        assert bits_of(engine) == chain.states[offer.version]
        return offer.version

    for fault in ["none", *faults, "none"]:
        if fault == "resumed":
            chain.state = random_state(rng)
            chain.version += 3
        if chain.version < 0 or fault in ("anchor", "resumed"):
            offset = broker.end_offsets(WEIGHTS.of("r"))[0]
            send(chain.anchor(chain.version + 1))
        elif chain.patch():
            send(damaged(list(chain.sent[-1]), fault, rng))
        if fault != "silent":
            announce()
        if rng.random() < 0.6:
            version = turn()
    offset = broker.end_offsets(WEIGHTS.of("r"))[0]
    send(chain.anchor(chain.version + 1))
    announce()
    for _ in range(20):
        version = turn()
    assert version == chain.version
    assert len(topics.read_all(DEADLETTERS)) <= faults.count("flipped") * 12


def test_merged_patches_have_each_tensor_once_with_its_newest_values() -> None:
    state = State()
    whole = TensorPatch(name="w", shape=(5,), dtype="float32", values=np.arange(5, dtype=np.uint32))
    first = dataclasses.replace(whole, values=np.array([7, 8], np.uint32), indices=np.array([0, 3], np.uint32))
    second = dataclasses.replace(whole, values=np.array([9], np.uint32), indices=np.array([3], np.uint32))
    state.apply([whole, first, second])
    (patch,) = merged([first, second], state)
    assert patch.indices is not None
    assert (patch.indices.tolist(), patch.values.tolist()) == ([0, 3], [7, 9])
    (dense,) = merged([first, whole], state)
    assert dense.indices is None
    assert dense.values.tolist() == [7, 1, 2, 9, 4]
