"""Several messages in one record, and one by one again."""

import msgspec
import pytest
from factories import make_verdict
from hypothesis import given
from hypothesis import strategies as st

from stream.bundles import MAX_BYTES, MAX_MESSAGES, Bundle, bundle, unbundle
from stream.codec import decode, encode
from stream.errors import BadRecord
from stream.messages import Position, Verdict


def named(name: str) -> Position:
    """Any message."""
    return Position(topic=name, partition=0, offset=0)


@given(st.lists(st.text(max_size=300), min_size=1, max_size=70))
def test_a_bundle_comes_apart_into_its_messages(names: list[str]) -> None:
    messages = [encode(named(name)) for name in names]
    apart = unbundle(bundle(messages))
    assert apart == messages
    assert [decode(message, Position).topic for message in apart] == names


def test_a_bundle_is_the_msgpack_array_of_its_messages() -> None:
    messages = [encode(named("a")), encode(named("b"))]
    assert msgspec.msgpack.decode(bundle(messages)) == [msgspec.msgpack.decode(message) for message in messages]


def test_a_single_message_is_no_bundle() -> None:
    message = encode(make_verdict())
    assert bundle([message]) == message
    assert unbundle(message) == [message]


@given(st.binary(max_size=60))
def test_what_is_no_bundle_is_handed_on_as_it_is(data: bytes) -> None:
    apart = unbundle(data)
    if apart != [data]:
        assert all(isinstance(msgspec.msgpack.decode(message), object) for message in apart)
        assert msgspec.msgpack.decode(data) == [msgspec.msgpack.decode(message) for message in apart]


@pytest.mark.parametrize(
    "value", [b"", b"\x90", b"\x92\x94", b"\xdc\x00\x02\x94\x01", b"\x91\x90\x00", b"\xdd\xff\xff\xff\xff\x94"]
)
def test_broken_bundles_are_refused_by_the_codec(value: bytes) -> None:
    assert unbundle(value) == [value]
    with pytest.raises(BadRecord):
        decode(value, Verdict)


def test_one_bad_message_leaves_the_others_of_its_bundle() -> None:
    good = encode(named("w"))
    bad = msgspec.msgpack.encode([1, 0, "Position", {"topic": 3}])
    first, second, third = unbundle(bundle([good, bad, good]))
    assert decode(first, Position) == decode(third, Position) == named("w")
    with pytest.raises(BadRecord, match="topic"):
        decode(second, Position)


def test_a_bundle_is_full_by_messages_or_by_bytes() -> None:
    many, large = Bundle(b"k"), Bundle(b"k")
    for number in range(MAX_MESSAGES):
        assert not many.full
        many.add(b"%d" % number, None)
    assert many.full
    large.add(b"x" * (MAX_BYTES - 1), None)
    assert not large.full
    large.add(b"x", None)
    assert large.full
