"""States from parts, whatever happens to them on the way: the announced state bit for bit, or none."""

import dataclasses
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weights_chain import Chain, bits_of

from stream.messages import WeightsPart
from stream.patches import TensorPatch
from stream.weights import State
from stream.weights_log import MAX_WHOLE_STATES, Anchor, Assembler, Publication, oldest_needed


def follow(route: Sequence[Publication], state: State | None = None) -> State:
    for publication in route:
        state = State() if publication.is_whole else state
        assert state is not None
        state.apply(publication.patches())
    assert state is not None
    return state


def assembled(parts: Sequence[WeightsPart]) -> Assembler:
    assembler = Assembler()
    for part in parts:
        assembler.add(part)
    return assembler


def a_chain(num_patches: int = 4, seed: int = 0) -> Chain:
    chain = Chain(seed)
    chain.anchor()
    for _ in range(num_patches):
        chain.patch()
    return chain


def all_parts(chain: Chain) -> list[WeightsPart]:
    return [part for parts in chain.sent for part in parts]


@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_parts_in_any_order_and_some_twice_give_every_version_bit_for_bit(seed: int, random) -> None:
    chain = a_chain(seed=seed)
    parts = all_parts(chain) + [part for part in all_parts(chain) if random.random() < 0.3]
    random.shuffle(parts)
    assembler = assembled(parts)
    for version, digest in chain.digests.items():
        route = assembler.route(None, digest)
        assert route is not None
        state = follow(route)
        assert bits_of(state) == chain.states[version]
        assert state.digest() == digest


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_lost_part_leaves_no_way_past_it_until_the_next_whole_state(seed: int, which: int) -> None:
    chain = a_chain(seed=seed)
    parts = all_parts(chain)
    lost = parts.pop(which % len(parts))
    later = chain.anchor()
    chain.patch()
    assembler = assembled(parts)
    for version, digest in chain.digests.items():
        reachable = assembler.route(None, digest) is not None
        assert reachable == (version < lost.version or digest == chain.digests.get(lost.version - 1))
    for part in later + chain.sent[-1]:
        assembler.add(part)
    route = assembler.route(None, chain.digests[chain.version])
    assert route is not None
    assert bits_of(follow(route)) == chain.states[chain.version]


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_changed_bit_is_found_by_the_digest_or_at_once(seed: int, which: int, byte: int) -> None:
    chain = a_chain(2, seed)
    parts = [(number, part) for number, part in enumerate(all_parts(chain)) if any(e.values for e in part.elements)]
    number, part = parts[which % len(parts)]
    changed = []
    for elements in part.elements:
        values = bytearray(elements.values)
        if values:
            values[byte % len(values)] ^= 1 << byte % 8
        changed.append(msgspec.structs.replace(elements, values=bytes(values)))
    sent = all_parts(chain)
    sent[number] = msgspec.structs.replace(part, elements=tuple(changed))
    assembler = assembled(sent)
    for version, digest in chain.digests.items():
        route = assembler.route(None, digest)
        assert route is not None
        state = follow(route)
        assert (state.digest() == digest) == (bits_of(state) == chain.states[version])


def test_a_state_takes_over_the_arrays_of_dense_patches_that_can_be_written_and_copies_the_others():
    values = np.arange(4, dtype=np.uint16)
    shared = TensorPatch(name="shared", shape=(4,), dtype="bfloat16", values=values)
    fixed = dataclasses.replace(shared, name="fixed", values=np.frombuffer(values.tobytes(), np.uint16))
    state = State.of([shared, fixed])
    one = dataclasses.replace(shared, values=np.array([9], np.uint16), indices=np.array([1], np.uint32))
    state.apply([one, dataclasses.replace(one, name="fixed")])
    assert (
        values.tolist() == state.tensors["shared"].bits.tolist() == state.tensors["fixed"].bits.tolist() == [0, 9, 2, 3]
    )
    assert fixed.values.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="patch of shared has only some elements"):
        State.of([one])


def test_from_a_state_only_the_patches_since_are_taken():
    chain = a_chain(4)
    assembler = assembled(all_parts(chain))
    assembler.forget(2)
    route = assembler.route(chain.digests[2], chain.digests[4])
    assert route is not None
    assert [(p.head.version, p.is_whole) for p in route] == [(3, False), (4, False)]
    assert assembler.route(None, chain.digests[4]) is None
    assert assembler.route(chain.digests[4], chain.digests[4]) == []


def test_what_a_killed_learner_has_sent_leads_nowhere_though_it_has_the_versions_of_the_next():
    """The zombie and its successor both make versions 3 and 4; only the successor's digests are announced."""
    chain = a_chain(2)
    zombie = Chain(seed=0, name="zombie")
    zombie.anchor()
    zombie.patch(), zombie.patch()
    zombie.rng = np.random.default_rng(99)
    zombie.patch(), zombie.patch()
    chain.anchor(3)
    chain.patch(4)
    mixed = [part for pair in zip(all_parts(zombie), all_parts(chain), strict=False) for part in pair]
    assembler = assembled(mixed + all_parts(chain) + all_parts(zombie))
    assert zombie.digests[4] != chain.digests[4]
    for version in range(5):
        route = assembler.route(None, chain.digests[version])
        assert route is not None
        assert bits_of(follow(route)) == chain.states[version]


def test_an_update_that_changes_nothing_and_one_that_goes_back_end_in_no_circle():
    chain = a_chain(1)
    there = chain.sent[1]
    back = [
        msgspec.structs.replace(part, publication="back", digest=part.parent_digest, parent_digest=part.digest)
        for part in there
    ]
    assembler = assembled(there + back)
    assert assembler.route(None, chain.digests[1]) is None
    assert assembler.route("unknown", chain.digests[1]) is None


@pytest.mark.parametrize("field", ["version", "digest", "num_parts"])
def test_parts_that_say_otherwise_than_the_first_are_refused(field):
    chain = a_chain(0)
    first, second = chain.sent[0][:2]
    other = {"version": 7, "digest": "other", "num_parts": first.num_parts + 1}[field]
    assembler = assembled([first])
    with pytest.raises(ValueError, match="says otherwise"):
        assembler.add(msgspec.structs.replace(second, **{field: other}))


def test_a_refused_publication_is_never_used_again():
    chain = a_chain(1)
    assembler = assembled(all_parts(chain))
    (*_, last) = assembler.route(None, chain.digests[1])
    assembler.refuse(last)
    for part in all_parts(chain):
        assembler.add(part)
    assert assembler.route(None, chain.digests[1]) is None
    assert assembler.route(None, chain.digests[0]) is not None


def test_a_reader_that_finds_no_way_keeps_few_whole_states():
    chain = Chain()
    assembler = Assembler()
    for version in range(20):
        for part in chain.anchor(version) + chain.patch(version):
            assembler.add(part)
    assert sum(p.is_whole for p in assembler._complete.values()) == MAX_WHOLE_STATES
    assert len(assembler._complete) <= 2 * MAX_WHOLE_STATES
    assert assembler._open == {}


def test_the_whole_state_that_the_reader_has_is_not_collected():
    chain = a_chain(0)
    assembler = Assembler()
    for part in chain.sent[0]:
        assembler.add(part, have=chain.digests[0])
    assert (assembler._open, assembler._complete) == ({}, {})


# -- retention --------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 60), min_size=1, unique=True), st.integers(0, 60), st.integers(1, 10))
def test_every_version_that_must_stay_has_a_whole_state_no_newer_than_itself(
    versions: list[int], newest: int, keep: int
) -> None:
    anchors = [Anchor(version, 10 * version) for version in sorted(versions) if version <= newest]
    oldest = oldest_needed(anchors, newest, keep)
    before = [anchor for anchor in anchors if oldest is None or anchor.offset >= oldest.offset]
    for version in range(max(newest - keep + 1, 0), newest + 1):
        could = any(anchor.version <= version for anchor in anchors)
        assert any(anchor.version <= version for anchor in before) == could
    if oldest is not None:  # and no more stays than that
        assert sum(anchor.version <= newest - keep + 1 for anchor in before) == 1
