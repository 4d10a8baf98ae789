"""Gives a worker the topics of its run: what every role writes to and reads from."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from stream.broker import Broker, Offsets, Reader, Record, Writer
from stream.codec import encode
from stream.errors import BrokerUnavailable, UserError
from stream.messages import DeadLetter
from stream.metrics import Metrics
from stream.snapshot import messages
from stream.topics import DEADLETTERS, Topic, partition_of

log = logging.getLogger(__name__)


class RunTopics:
    """Writes and reads the topics of one run: messages in, messages out."""

    def __init__(self, broker: Broker, run: str, worker: str, writer: Writer | None = None) -> None:
        self.broker = broker
        self.run = run
        self.worker = worker
        self.writer = writer or broker.writer(name=f"{run}.{worker}")
        self.metrics: Metrics | None = None
        self._num_partitions: dict[str, int] = {}

    def send(
        self,
        topic: Topic,
        key: str,
        message: object,
        *,
        partition: int | None = None,
        on_ack: Callable[[], None] | None = None,
    ) -> None:
        """Append a message without waiting; one of a bundled topic goes with the others that are there at the next `push`."""
        if partition is None and not topic.partitioned:
            partition = 0  # else the key would be hashed, in Python, to find the only partition
        bundled = topic.bundled and partition is not None
        self.writer.send(
            topic.of(self.run), key.encode(), encode(message), partition=partition, on_ack=on_ack, bundled=bundled
        )

    def send_of_group(
        self, topic: Topic, group_id: str, message: object, on_ack: Callable[[], None] | None = None
    ) -> None:
        """Append to the partition that all of the group's trajectories and verdicts share."""
        partition = partition_of(group_id, self.num_partitions(topic))
        self.send(topic, group_id, message, partition=partition, on_ack=on_ack)

    def num_partitions(self, topic: Topic) -> int:
        """Partitions of a topic, asked once."""
        if topic.name not in self._num_partitions:
            found = len(self.broker.partitions(topic.of(self.run)))
            if not found:
                raise BrokerUnavailable(f"the broker knows no topic {topic.of(self.run)} (yet): try again")
            self._num_partitions[topic.name] = found
        return self._num_partitions[topic.name]

    def reader(self, *topics: Topic, consumer_group: str | None = None, from_end: bool = False) -> Reader:
        """A reader of these topics; with a consumer group, of this worker's share."""
        return self.broker.reader(
            [topic.of(self.run) for topic in topics],
            consumer_group=f"{self.run}.{consumer_group}" if consumer_group else None,
            member=self.worker if consumer_group else None,
            from_end=from_end,
        )

    def seek_all(self, reader: Reader, offsets: Offsets) -> None:
        """Let a reader go on where an earlier life has stopped.

        Raises:
            UserError: some of what it has not read is deleted.

        """
        for (topic, partition), first in self.broker.first_offsets(offsets).items():
            if first > offsets[topic, partition]:
                raise UserError(
                    f"{self.worker} has read partition {partition} of {topic} up to offset {offsets[topic, partition]}, and what "
                    f"comes next is deleted up to {first}: it was away for longer than broker.answers_hours, and the run cannot "
                    "be resumed without loss; start a new run.name from the last model or checkpoint, and give more hours"
                )
        reader.seek(offsets)

    def read_all(self, topic: Topic, newest: int | None = None) -> list[Any]:
        """Every message that the topic holds now, oldest first; records that cannot be read are left out.

        Args:
            newest: read only about this many of the newest records of each partition.

        """
        return list(self.read_each(topic, newest))

    def read_each(self, topic: Topic, newest: int | None = None) -> Iterator[Any]:
        """`read_all`, message by message: of a topic with millions only those kept are in memory."""
        return messages(self.broker, self.run, topic, newest)

    def send_to_deadletters(self, record: Record, error: str, on_ack: Callable[[], None] | None = None) -> None:
        """Send a record that cannot be used to `deadletters`."""
        log.error(
            "dead letter topic=%s partition=%d offset=%d error=%s", record.topic, record.partition, record.offset, error
        )
        letter = DeadLetter(
            role=self.worker,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=error[:2000],
            key=record.key,
            value=record.value[: 8 << 20],
            created_s=time.time(),
        )
        self.send(DEADLETTERS, record.topic, letter, on_ack=on_ack)
