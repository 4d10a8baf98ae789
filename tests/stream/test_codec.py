import msgspec
import numpy as np
import pytest
from factories import make_job, make_trajectory, make_verdict
from hypothesis import given
from hypothesis import strategies as st

from stream.codec import SCHEMA_VERSION, decode, encode, to_builtins
from stream.errors import BadRecord
from stream.messages import Belief, Job, Policy, Trajectory, Update, Verdict, Visit


def test_trajectory_survives_the_wire_with_arrays_as_little_endian_bytes() -> None:
    trajectory = make_trajectory(token_ids=[7, 258, 2**31 - 1], rollout_index=2)
    data = encode(trajectory)
    back = decode(data, Trajectory)
    assert back.token_ids.dtype == np.dtype("<i4")
    assert back.token_ids.tolist() == [7, 258, 2**31 - 1]
    assert back.behavior_logprobs.dtype == np.dtype("<f4")
    assert back.behavior_logprobs.tolist() == [-0.5, -0.5, -0.5]
    assert np.array([7, 258], dtype="<i4").tobytes() in data
    assert encode(back) == data


@given(
    st.lists(st.integers(0, 2**31 - 1), max_size=50),
    st.text(),
    st.floats(0, 1),
    st.sampled_from(["correct", "wrong", "unparsable", "timeout", "error", "abandoned"]),
)
def test_any_verdict_survives_the_wire(token_ids: list[int], text: str, reward: float, outcome: str) -> None:
    verdict = make_verdict(token_ids=token_ids, text=text, reward=reward, outcome=outcome)
    back = decode(encode(verdict), Verdict)
    assert to_builtins(back) == to_builtins(verdict)


def test_newer_minor_version_is_read_and_its_new_fields_passed_over() -> None:
    body = {"version": 3, "uri": "u", "digest": "d", "step": 3, "invented_later": [1, 2]}
    data = msgspec.msgpack.encode((SCHEMA_VERSION[0], SCHEMA_VERSION[1] + 7, "Policy", body))
    assert decode(data, Policy).version == 3


def test_other_major_version_is_refused_by_name() -> None:
    data = msgspec.msgpack.encode((SCHEMA_VERSION[0] + 1, 0, "Policy", {}))
    with pytest.raises(BadRecord, match="schema version is 2; this program reads 1"):
        decode(data, Policy)


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x93\x01\x00\xa6", b"\xff" * 100, b"\x80"])
def test_garbage_is_a_bad_record(data: bytes) -> None:
    with pytest.raises(BadRecord):
        decode(data, Job)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_decode_or_raise_bad_record(data: bytes) -> None:
    with pytest.raises(BadRecord):
        decode(data, Verdict)


def test_another_class_is_refused() -> None:
    with pytest.raises(BadRecord, match="record holds a Job; this topic carries Policy"):
        decode(encode(make_job()), Policy)


def test_contract_is_checked_when_decoding() -> None:
    good = msgspec.msgpack.decode(encode(Belief(prompt_id="p", visits=(Visit(num_correct=1, num_graded=2),))))
    good[3]["num_trials"] = "many"
    with pytest.raises(BadRecord, match=r"Belief: Expected `int`, got `str` - at `\$.num_trials`"):
        decode(msgspec.msgpack.encode(good), Belief)


def test_lone_surrogates_cannot_be_written() -> None:
    with pytest.raises((BadRecord, UnicodeEncodeError)):
        encode(make_trajectory(text="\ud800"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"behavior_logprobs": np.zeros(3, dtype=np.float32)}, "2 tokens with 3 behavior_logprobs"),
        ({"behavior_logprobs": np.array([0, np.nan], dtype=np.float32)}, "not all finite"),
        ({"spans": ()}, "do not cover the 2 tokens"),
        ({"rollout_index": 9}, r"rollout_index 9 is outside its job \[0, 4\)"),
        ({"token_ids": [-1, 5]}, "integers >= 0"),
    ],
)
def test_trajectory_refuses_what_breaks_its_contract(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_trajectory(**fields)


def test_update_metrics_are_read_back() -> None:
    update = Update(step=1, version=1, parent_version=0, groups=(), metrics={"learner/loss": 0.25})
    assert decode(encode(update), Update) == update
