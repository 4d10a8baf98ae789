"""The topics of a run: which message each carries, how many partitions it has, how long it is kept."""

import zlib
from dataclasses import dataclass
from typing import Any

from stream.messages import (
    Belief,
    DeadLetter,
    Evaluation,
    Heartbeat,
    Job,
    Policy,
    Trajectory,
    Update,
    Verdict,
)

HOUR_MS = 3_600_000
FOREVER_MS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic of every run; `of(run)` is its name on the broker."""

    name: str
    message_type: type[Any]
    partitioned: bool = False
    """Partitioned topics get the run's number of partitions, the others one (their order is total)."""
    compacted: bool = False
    retention_ms: int = FOREVER_MS

    def of(self, run: str) -> str:
        """Name on the broker."""
        return f"{run}.{self.name}"


JOBS = Topic(name="jobs", message_type=Job, partitioned=True, retention_ms=24 * HOUR_MS)
TRAJECTORIES = Topic(name="trajectories", message_type=Trajectory, partitioned=True)
VERDICTS = Topic(name="verdicts", message_type=Verdict, partitioned=True)
POLICIES = Topic(name="policies", message_type=Policy, compacted=True)
UPDATES = Topic(name="updates", message_type=Update)
EVALUATIONS = Topic(name="evaluations", message_type=Evaluation)
BELIEFS = Topic(name="beliefs", message_type=Belief, compacted=True)
HEARTBEATS = Topic(name="heartbeats", message_type=Heartbeat, compacted=True)
DEADLETTERS = Topic(name="deadletters", message_type=DeadLetter)

TOPICS = (JOBS, TRAJECTORIES, VERDICTS, POLICIES, UPDATES, EVALUATIONS, BELIEFS, HEARTBEATS, DEADLETTERS)
"""All topics of a run."""


def topic_of(broker_name: str) -> Topic:
    """The topic behind a name on the broker, `run.topic`."""
    name = broker_name.rpartition(".")[2]
    return next(topic for topic in TOPICS if topic.name == name)


def partition_of(group_id: str, num_partitions: int) -> int:
    """Partition of a group's trajectories and verdicts: all of a group share one, in every process."""
    return zlib.crc32(group_id.encode()) % num_partitions
