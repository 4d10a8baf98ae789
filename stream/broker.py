"""Defines what roles see of a broker: records, readers and writers. `stream.kafka` and `stream.memory` implement it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from stream.topics import Topic

TopicPartition = tuple[str, int]
"""Topic name on the broker, and partition."""
Offsets = Mapping[TopicPartition, int]
"""The next offset to read of each topic-partition."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message of a topic, still in bytes, and the record that held it."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp_ms: int
    index: int = 0
    """Number of the message in its record, from 0: several may share an offset (`stream.bundles`)."""


class Writer(Protocol):
    """Appends records. Idempotent: a write that is retried inside is appended once."""

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        *,
        partition: int | None = None,
        on_ack: Callable[[], None] | None = None,
        bundled: bool = False,
    ) -> None:
        """Append without waiting; `on_ack` is called, from any thread, once the record is durable.

        A `bundled` message, whose partition must be given, may wait for others until `push`, `flush` or the end of its
        transaction, to go with them in one record. A write that fails for good makes the next call of `send`, `flush` or
        `transaction` raise BrokerUnavailable.
        """

    def push(self) -> None:
        """Let what waits to be bundled go."""

    def flush(self) -> None:
        """Return when all that was sent is durable; raise BrokerUnavailable if it cannot be."""

    def transaction(self) -> AbstractContextManager[None]:
        """What is sent inside becomes visible together, or, on an exception, never (transactional writers only).

        Raises:
            Fenced: a newer writer has the same transactional id.

        """

    def close(self) -> None:
        """Send what is buffered, and free the connection."""


class Reader(Protocol):
    """Reads records, only those of committed transactions, each partition in order."""

    def poll(self, timeout_s: float, max_records: int = 500) -> list[Record]:
        """The next messages, of at most `max_records` records, or [] after `timeout_s`. Keeps the membership of a consumer group alive."""

    def commit(self, offsets: Offsets) -> bool:
        """Commit progress for the consumer group; False if it was refused and must be tried again.

        Partitions that the group has given to another member meanwhile are left out.
        """

    def seek(self, offsets: Offsets) -> None:
        """Read on from these offsets (assigned partitions only)."""

    def pause(self) -> None:
        """Poll returns nothing until `resume`; the membership stays alive."""

    def resume(self) -> None:
        """Undo `pause`."""

    def positions(self) -> dict[TopicPartition, int]:
        """Next offset of every assigned partition."""

    def lag(self) -> int:
        """Records of the assigned partitions that are still to be handed out, as far as is known without asking."""

    def close(self) -> None:
        """Leave the consumer group and free the connection."""


class Broker(Protocol):
    """Keeps topics. All that asks it raises BrokerUnavailable if it does not answer."""

    def create_topics(self, run: str, topics: Sequence[Topic], num_partitions: int) -> None:
        """Create the run's topics that do not exist yet."""

    def partitions(self, topic: str) -> list[int]:
        """Partitions of a topic; [] if it does not exist."""

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Offset behind the last record of each partition."""

    def first_offsets(self, partitions: Iterable[TopicPartition]) -> Offsets:
        """Offset of the first record that each partition still has, or will have."""

    def delete_records(self, before: Offsets) -> None:
        """Delete the records of each partition before an offset, for good; what is behind keeps its offsets.

        A reader that stands before it reads on from there.
        """

    def group_offsets(self, consumer_group: str) -> dict[TopicPartition, int]:
        """What a consumer group has committed."""

    def writer(self, *, name: str, transactional: bool = False) -> Writer:
        """A writer; a transactional one fences any older writer of the same name."""

    def reader(
        self,
        topics: Sequence[str],
        *,
        consumer_group: str | None = None,
        member: str | None = None,
        from_end: bool = False,
    ) -> Reader:
        """A reader of all partitions, or, with a consumer group, of those that the group assigns to it.

        `member` names a member of the group: after a restart it takes its partitions back at once. Where nothing is
        committed, reading starts at the first record, or behind the last with `from_end`.
        """

    def close(self) -> None:
        """Free the connections."""
