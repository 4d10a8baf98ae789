"""Counts the records that consumer groups have not finished: one definition for the screen, the page and the alarms."""

from collections.abc import Mapping

from stream.broker import Broker
from stream.topics import JOBS, TRAJECTORIES, Topic

CONSUMER_GROUPS: Mapping[Topic, str] = {JOBS: "producers", TRAJECTORIES: "verifiers"}
"""The topics that workers share, and the consumer group of each."""


def consumer_lag(broker: Broker, run: str) -> dict[str, int]:
    """Records by topic that its consumer group has not finished.

    Raises:
        BrokerUnavailable: the broker does not answer.

    """
    return {topic.name: _lag(broker, topic.of(run), f"{run}.{group}") for topic, group in CONSUMER_GROUPS.items()}


def _lag(broker: Broker, topic: str, consumer_group: str) -> int:
    finished = broker.group_offsets(consumer_group)
    ends = broker.end_offsets(topic)
    return sum(max(0, end - finished.get((topic, partition), 0)) for partition, end in ends.items())
