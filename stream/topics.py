"""Lists the topics of a run: the message each carries, who writes and reads it, its partitions, how long it is kept.

`replay` and other programs may read all of them; `docs/wire.md` says how.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from stream.messages import (
    Commit,
    DeadLetter,
    Evaluation,
    Heartbeat,
    Job,
    Policy,
    Trajectory,
    Update,
    Verdict,
    WeightsPart,
)

HOUR_MS = 3_600_000
FOREVER_MS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic of every run; `of(run)` is its name on the broker."""

    name: str
    message_type: type[Any]
    key: str
    """What the records' keys are. A compacted topic keeps the newest record of each."""
    writers: str
    """Roles that write it, comma between."""
    readers: str
    """Roles that read it, comma between. `up` is the supervisor."""
    partitioned: bool = False
    """Partitioned topics have the run's number of partitions (broker.partitions), the others one."""
    bundled: bool = False
    """Its records may hold several messages; the key is that of the first."""
    compacted: bool = False
    retention_ms: int = FOREVER_MS
    segment_bytes: int | None = None
    """Size of the files that the broker keeps it in, where records are deleted or compacted: only whole files are."""
    segment_ms: int | None = None
    """Age at which such a file is ended, however small."""

    def of(self, run: str) -> str:
        """Name on the broker."""
        return f"{run}.{self.name}"


JOBS = Topic(
    name="jobs",
    message_type=Job,
    key="group_id/start",
    writers="allocator, evaluator",
    readers="producer, allocator",
    partitioned=True,
    bundled=True,
    retention_ms=24 * HOUR_MS,
)
TRAJECTORIES = Topic(
    name="trajectories",
    message_type=Trajectory,
    key="group_id",
    writers="producer",
    readers="verifier",
    partitioned=True,
    bundled=True,
)
VERDICTS = Topic(
    name="verdicts",
    message_type=Verdict,
    key="group_id",
    writers="verifier, allocator",
    readers="learner, allocator, evaluator",
    partitioned=True,
    bundled=True,
)
POLICIES = Topic(
    name="policies",
    message_type=Policy,
    key="policy",
    writers="learner",
    readers="producer, evaluator, learner",
    compacted=True,
    segment_bytes=8 << 20,
)
WEIGHTS = Topic(
    name="weights",
    message_type=WeightsPart,
    key="version",
    writers="learner",
    readers="producer, learner",
    segment_bytes=64 << 20,
)
UPDATES = Topic(
    name="updates",
    message_type=Update,
    key="update",
    writers="learner",
    readers="allocator, tracker, learner, up",
)
EVALUATIONS = Topic(
    name="evaluations",
    message_type=Evaluation,
    key="name",
    writers="evaluator",
    readers="allocator, learner, tracker, evaluator, up",
)
BELIEFS = Topic(
    name="beliefs",
    message_type=Commit,
    key="slot",
    writers="allocator",
    readers="allocator",
    compacted=True,
    segment_bytes=8 << 20,
)
HEARTBEATS = Topic(
    name="heartbeats",
    message_type=Heartbeat,
    key="worker",
    writers="every role",
    readers="allocator, up",
    compacted=True,
    segment_bytes=8 << 20,
)
DEADLETTERS = Topic(
    name="deadletters",
    message_type=DeadLetter,
    key="topic",
    writers="every role",
    readers="",
)

TOPICS = (JOBS, TRAJECTORIES, VERDICTS, WEIGHTS, POLICIES, UPDATES, EVALUATIONS, BELIEFS, HEARTBEATS, DEADLETTERS)
"""All topics of a run."""
_BY_NAME = {topic.name: topic for topic in TOPICS}
ANSWERS = (TRAJECTORIES, VERDICTS)
"""The topics that hold every answer: they are most of a run's bytes."""


def kept_for(hours: float, topics: Iterable[Topic]) -> list[Topic]:
    """Topics whose jobs and answers are deleted once they are so old; 0 keeps answers for ever, and jobs for a day."""
    if not hours:
        return list(topics)
    age_ms = round(hours * HOUR_MS)
    segment_ms = max(1000, age_ms // 8)
    return [replace(t, retention_ms=age_ms, segment_ms=segment_ms) if t in (JOBS, *ANSWERS) else t for t in topics]


CONSUMER_GROUPS = {"producer": "producers", "verifier": "verifiers", "tracker": "tracker"}
"""Role to the consumer group in which its workers share partitions; on the broker it is called `RUN.GROUP`."""
TRANSACTIONAL_IDS = {"allocator": "allocator.rounds", "learner": "learner.lineage"}
"""Role to the transactional id of its writer, of which the broker lets only the newest one write: `RUN.ID`."""
ROLES = ("allocator", "producer", "verifier", "learner", "evaluator", "tracker")


def topics_of(role: str) -> tuple[Topic, ...]:
    """Topics that a role reads or writes."""
    return tuple(topic for topic in TOPICS if reads(role, topic) or writes(role, topic))


def reads(role: str, topic: Topic) -> bool:
    """Whether a role reads a topic."""
    return role in topic.readers.split(", ")


def writes(role: str, topic: Topic) -> bool:
    """Whether a role writes a topic."""
    return (topic.writers == "every role" and role in ROLES) or role in topic.writers.split(", ")


def topic_of(broker_name: str) -> Topic:
    """The topic behind a name on the broker, `run.topic`."""
    return _BY_NAME[broker_name.rpartition(".")[2]]


def partition_of(group_id: str, num_partitions: int) -> int:
    """Partition of a group's trajectories and verdicts, the same in every process: all of a group are in one."""
    return zlib.crc32(group_id.encode()) % num_partitions
