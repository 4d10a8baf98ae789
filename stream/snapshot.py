"""Reads topics up to the end that they had when reading began: works while the run goes on, and ends.

What enters is a broker and topics, what leaves is batches of records. Each partition comes in order; nothing behind
the ends noted at the beginning is handed out, so two passes over one snapshot see the same records.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from stream.broker import Broker, Reader, Record, TopicPartition
from stream.codec import decode
from stream.errors import BadRecord, BrokerUnavailable
from stream.topics import Topic

log = logging.getLogger(__name__)

STALL_S = 30.0
"""A broker that hands out nothing for this long, with records still to come, is taken for dead."""
_POLL_RECORDS = 500


class Snapshot:
    """Topics of one run as they are now; iterate to get batches of records."""

    def __init__(self, broker: Broker, run: str, topics: Sequence[Topic], newest: int | None = None) -> None:
        """See the class.

        Args:
            newest: begin at most this many offsets before the end of each partition; None begins at its first record.

        """
        self._broker = broker
        self._names = [topic.of(run) for topic in topics if broker.partitions(topic.of(run))]
        self._ends: dict[TopicPartition, int] = {
            (name, partition): end for name in self._names for partition, end in broker.end_offsets(name).items()
        }
        self._newest = newest
        self.total = sum(self._ends.values())
        """Offsets to pass, an upper bound of the records (a compacted topic holds fewer)."""
        self.passed = 0
        """Offsets passed so far."""

    def __iter__(self) -> Iterator[list[Record]]:
        if self.total == 0:
            return
        reader = self._broker.reader(self._names)
        if self._newest is not None:
            newest = self._newest
            reader.seek({partition: max(0, end - newest) for partition, end in self._ends.items()})
        try:
            yield from self._batches(reader)
        finally:
            reader.close()

    def _batches(self, reader: Reader) -> Iterator[list[Record]]:
        moved_at = time.monotonic()
        while not self._at_end(reader):
            records = reader.poll(0.5, _POLL_RECORDS)
            batch = [record for record in records if record.offset < self._ends[record.topic, record.partition]]
            if batch:
                moved_at = time.monotonic()
                yield batch
            elif time.monotonic() - moved_at > STALL_S:
                raise BrokerUnavailable(f"the broker handed out nothing for {STALL_S:.0f} s: is it alive?")

    def _at_end(self, reader: Reader) -> bool:
        positions = reader.positions()
        # Positions also pass what holds no record: transaction markers, and what compaction has removed.
        self.passed = sum(min(positions.get(partition) or 0, end) for partition, end in self._ends.items())
        return self.passed == self.total


def messages(broker: Broker, run: str, topic: Topic, newest: int | None = None) -> Iterator[Any]:
    """The messages that a topic holds now, each partition's oldest first; records that cannot be read are left out.

    Args:
        newest: read only about this many of the newest records of each partition.

    """
    for batch in Snapshot(broker, run, [topic], newest):
        for record in batch:
            message = decode_or_none(record, topic)
            if message is not None:
                yield message


def decode_or_none(record: Record, topic: Topic) -> Any | None:
    """The record's message, or None if it cannot be read: such records belong in `deadletters` and stop no reader."""
    try:
        return decode(record.value, topic.message_type)
    except BadRecord as error:
        log.debug("unreadable record topic=%s offset=%d error=%s", record.topic, record.offset, error)
        return None
