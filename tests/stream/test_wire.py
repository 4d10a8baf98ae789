"""docs/wire.md, taken at its word: another MessagePack library reads every topic, and finds what the document says."""

import re
import struct
import subprocess
import sys
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest
import wire_tables
from factories import make_job, make_prompt, make_trajectory, make_verdict

from stream.codec import encode
from stream.kafka import KafkaBroker
from stream.messages import (
    Belief,
    Budgeting,
    Commit,
    DeadLetter,
    Elements,
    Evaluation,
    GroupEnd,
    Heartbeat,
    OpenGroup,
    Pace,
    Policy,
    Position,
    PromptScore,
    Turn,
    Update,
    Visit,
    WeightsPart,
)
from stream.run_topics import RunTopics
from stream.topics import TOPICS, VERDICTS, partition_of

DOCUMENT = wire_tables.DOCUMENT.read_text()
BUDGETING = Budgeting(mode="bayes", success_rate=0.5, num_observed=3.5, value=0.1, price=0.01)
PROMPT = make_prompt(messages=(Turn(role="user", content="1+1="),))
JOB = make_job(prompt=PROMPT, budgeting=BUDGETING, prompt_token_ids=np.array([5, 6, 300], dtype=np.int32))
TRAJECTORY = make_trajectory(JOB, 2, version=7, token_ids=[9, 70_000], behavior_logprobs=np.float32([-0.5, -2.25]))
MESSAGES: dict[str, Any] = {
    "jobs": JOB,
    "trajectories": TRAJECTORY,
    "verdicts": make_verdict(job=JOB),
    "weights": WeightsPart(
        version=3,
        parent_version=2,
        digest="9f86d081",
        parent_digest="60303ae2",
        publication="c4f0",
        part=0,
        num_parts=1,
        elements=(Elements(name="w", shape=(2, 3), dtype="bfloat16", start=1, count=2, values=bytes(4), gaps=b"\x03"),),
    ),
    "policies": Policy(version=3, digest="9f86d081", step=3, offset=40, created_s=1767225600.5),
    "updates": Update(
        step=1,
        version=2,
        parent_version=1,
        groups=(GroupEnd(group_id="p.0", ending="stale", num_rollouts=4, num_graded=3, reward_sum=1.0, staleness=17),),
        metrics={"learner/loss": -0.5},
    ),
    "evaluations": Evaluation(
        name="heldout",
        policy_version=2,
        min_policy_version=2,
        max_policy_version=3,
        accuracy=0.25,
        temperature=0.0,
        scores=(PromptScore(prompt_id="p", task="sum", level="easy", num_rollouts=4, num_graded=4, reward_sum=1.0),),
        metrics={"pass@1": 0.25},
    ),
    "beliefs": Commit(
        slot=3,
        beliefs=(
            Belief(
                prompt_id="p",
                visits=(Visit(num_correct=1.0, num_graded=4),),
                open_group=OpenGroup(group_id="p.1", num_rollouts=4, round=1, budgeting=BUDGETING),
                faded=(3.5, 1.5),
            ),
        ),
        positions=(Position(topic="r.verdicts", partition=1, offset=9),),
        losses=(0.25, 0.5),
        pace=Pace(base=0.01, debt=-2.0),
    ),
    "heartbeats": Heartbeat(worker="producer-0", pid=1, host="here", state="running", metrics={"producer/tokens": 9}),
    "deadletters": DeadLetter(
        role="learner-0", topic="r.jobs", partition=0, offset=1, error="?", key=b"k", value=b"\xff"
    ),
}


def array(code: int, data: bytes) -> tuple[float, ...]:
    """As the document says: 1 is int32, 2 is float32, both little-endian."""
    return struct.unpack(f"<{len(data) // 4}{ {1: 'i', 2: 'f'}[code] }", data)


def body_of(message: object) -> dict[str, Any]:
    major, minor, name, body = msgpack.unpackb(encode(message), ext_hook=array)
    assert (major, minor, name) == (1, 0, type(message).__name__)
    return body  # type: ignore[no-any-return]


def check(value: Any, wire_type: str) -> None:
    """Whether a decoded value is what the document calls this type."""
    match = re.fullmatch(r"\[(\w+)\]\(#\w+\)", wire_type)
    if match:
        rows = wire_tables.documented_rows(DOCUMENT, match[1])
        assert list(value) == [name.strip("`") for name, *_ in rows]
        for name, field_type, *_ in rows:
            check(value[name.strip("`")], field_type)
    elif wire_type.endswith(" or nil"):
        if value is not None:
            check(value, wire_type.removesuffix(" or nil"))
    elif wire_type.startswith("array of "):
        assert isinstance(value, list)
        assert value  # or the test would not have looked inside
        for item in value:
            check(item, wire_type.removeprefix("array of "))
    elif wire_type == "map of str to float":
        assert all(isinstance(key, str) and isinstance(number, float | int) for key, number in value.items())
    else:
        kinds: dict[str, Any] = {
            "int": int, "float": float | int, "str": str, "bool": bool, "bin": bytes, "int32 array": tuple,
            "float32 array": tuple,
        }  # fmt: skip
        assert isinstance(value, kinds[wire_type])


@pytest.mark.parametrize("name", wire_tables.CLASSES)
def test_the_tables_are_those_of_the_classes(name: str) -> None:
    """After a change of a message: python tests/wire_tables.py."""
    documented = wire_tables.documented_rows(DOCUMENT, name)
    assert documented == wire_tables.rows_of(wire_tables.CLASSES[name])


def test_the_document_has_no_message_that_is_not_there() -> None:
    assert set(re.findall(r"^### (\w+)$", DOCUMENT, re.MULTILINE)) == set(wire_tables.CLASSES)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_another_library_finds_the_documented_fields_in_a_record_of_every_topic(topic: Any) -> None:
    message = MESSAGES[topic.name]
    assert type(message) is topic.message_type
    name = topic.message_type.__name__
    check(body_of(message), f"[{name}](#{name.lower()})")


def test_arrays_are_little_endian_numbers_of_four_bytes() -> None:
    body = body_of(TRAJECTORY)
    assert body["token_ids"] == (9, 70_000)
    assert body["behavior_logprobs"] == (-0.5, -2.25)
    assert body["job"]["prompt_token_ids"] == (5, 6, 300)
    assert body["spans"] == [{"policy_version": 7, "start": 0, "stop": 2}]


def test_the_partition_of_a_group_is_its_crc_32() -> None:
    assert partition_of("p7.0003", 4) == zlib.crc32(b"p7.0003") % 4 == 2_723_996_657 % 4 == 1
    assert partition_of("\u00fc.0", 5) == zlib.crc32("\u00fc.0".encode()) % 5


def test_the_hexadecimal_examples_are_real_records() -> None:
    policy, numbers = (bytes_of(block) for block in re.findall(r"```text\n(.*?)```", DOCUMENT, re.DOTALL))
    assert policy == encode(MESSAGES["policies"])
    assert msgpack.unpackb(numbers, ext_hook=array) == (5, 6, 300)
    assert numbers in encode(JOB)


def bytes_of(block: str) -> bytes:
    """The hexadecimal column of a block: what comes before three spaces."""
    return bytes.fromhex("".join(line.partition("   ")[0] for line in block.splitlines()))


def test_the_example_program_prints_the_first_verdict_of_every_rollout(kafka: str) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    broker = KafkaBroker(kafka)
    broker.create_topics("wire", TOPICS, 2)
    topics = RunTopics(broker, "wire", "test")
    for rollout, reward in ((0, 1.0), (1, 0.0), (0, 0.0)):
        topics.send_of_group(VERDICTS, "p.0000", make_verdict("p.0000", rollout, reward))
    topics.writer.close()
    broker.close()
    for old, new in (("127.0.0.1:9092", kafka), ("demo.verdicts", "wire.verdicts"), ("10_000", "3_000")):
        assert old in program
        program = program.replace(old, new)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "p.0000\t0\tcorrect\t1.0\t2\np.0000\t1\twrong\t0.0\t2\n", done.stderr
