"""Implements the broker protocol in memory, for unit tests: topics are lists, a transaction appends at its end."""

import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from stream.broker import Offsets, Record
from stream.errors import Fenced
from stream.topics import Topic


class MemoryBroker:
    """Keeps every record until it is dropped; one member at a time in a consumer group."""

    def __init__(self) -> None:
        self.logs: dict[str, list[list[Record]]] = {}
        self.starts: dict[tuple[str, int], int] = defaultdict(int)
        """Offset of the first record that is not deleted."""
        self.group_progress: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
        self.epochs: dict[str, int] = defaultdict(int)

    def create_topics(self, run: str, topics: Sequence[Topic], num_partitions: int) -> None:
        """Create the run's topics that do not exist yet."""
        for topic in topics:
            self.logs.setdefault(topic.of(run), [[] for _ in range(num_partitions if topic.partitioned else 1)])

    def partitions(self, topic: str) -> list[int]:
        """Partitions of a topic; [] if it does not exist."""
        return list(range(len(self.logs.get(topic, []))))

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Offset behind the last record of each partition."""
        return {partition: self.starts[topic, partition] + len(log) for partition, log in enumerate(self.logs[topic])}

    def first_offsets(self, partitions: Iterable[tuple[str, int]]) -> Offsets:
        """Offset of the first record that each partition still has."""
        return {partition: self.starts[partition] for partition in partitions}

    def delete_records(self, before: Offsets) -> None:
        """Delete the records of each partition before an offset."""
        for (topic, partition), offset in before.items():
            log, start = self.logs[topic][partition], self.starts[topic, partition]
            kept = min(max(offset, start), start + len(log))
            del log[: kept - start]
            self.starts[topic, partition] = kept

    def group_offsets(self, consumer_group: str) -> dict[tuple[str, int], int]:
        """What a consumer group has committed."""
        return dict(self.group_progress[consumer_group])

    def writer(self, *, name: str, transactional: bool = False) -> "MemoryWriter":
        """A writer; a transactional one fences any older writer of the same name."""
        if transactional:
            self.epochs[name] += 1
        return MemoryWriter(self, name, self.epochs[name] if transactional else None)

    def reader(
        self,
        topics: Sequence[str],
        *,
        consumer_group: str | None = None,
        member: str | None = None,
        from_end: bool = False,
    ) -> "MemoryReader":
        """A reader of all partitions of these topics."""
        return MemoryReader(self, topics, consumer_group, from_end)

    def append(self, topic: str, key: bytes, value: bytes, partition: int | None) -> None:
        """Append one record; the key chooses the partition where none is given."""
        logs = self.logs[topic]
        chosen = zlib.crc32(key) % len(logs) if partition is None else partition
        offset = self.starts[topic, chosen] + len(logs[chosen])
        logs[chosen].append(Record(topic, chosen, offset, key, value, int(time.time() * 1000)))

    def close(self) -> None:
        """Nothing to free."""


class MemoryWriter:
    """Appends at once, or, inside a transaction, at its end."""

    def __init__(self, broker: MemoryBroker, name: str, epoch: int | None) -> None:
        self._broker = broker
        self._name = name
        self._epoch = epoch
        self._pending: list[tuple[str, bytes, bytes, int | None]] | None = None

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
        """Append one record."""
        if self._pending is not None:
            self._pending.append((topic, key, value, partition))
            return
        self._broker.append(topic, key, value, partition)
        if on_ack:
            on_ack()

    def push(self) -> None:
        """Nothing waits."""

    def flush(self) -> None:
        """Everything is durable at once."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._pending = []
        try:
            yield
            self._check_epoch()
            for topic, key, value, partition in self._pending:
                self._broker.append(topic, key, value, partition)
        finally:
            self._pending = None

    def close(self) -> None:
        """Nothing to free."""

    def _check_epoch(self) -> None:
        if self._epoch != self._broker.epochs[self._name]:
            raise Fenced(f"writer {self._name!r} was replaced by a newer one")


class MemoryReader:
    """Reads all partitions of its topics, partition by partition."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str], group: str | None, from_end: bool) -> None:
        self._broker = broker
        self._group = group
        self._paused = False
        noted = broker.group_offsets(group) if group else {}
        self._next: dict[tuple[str, int], int] = {}
        for topic in topics:
            for partition, end in broker.end_offsets(topic).items():
                self._next[topic, partition] = noted.get((topic, partition), end if from_end else 0)

    def poll(self, timeout_s: float, max_records: int = 500) -> list[Record]:
        """The next records, at once."""
        records: list[Record] = []
        if self._paused:
            return records
        for (topic, partition), start in self._next.items():
            first = self._broker.starts[topic, partition]
            start = max(start, first)
            batch = self._broker.logs[topic][partition][start - first : start - first + max_records - len(records)]
            self._next[topic, partition] = start + len(batch)
            records += batch
        return records

    def commit(self, offsets: Offsets) -> bool:
        """Commit progress for the consumer group."""
        assert self._group is not None
        self._broker.group_progress[self._group].update(offsets)
        return True

    def seek(self, offsets: Offsets) -> None:
        """Read on from these offsets."""
        self._next.update(offsets)

    def pause(self) -> None:
        """Poll returns nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Undo `pause`."""
        self._paused = False

    def positions(self) -> dict[tuple[str, int], int]:
        """Next offset of every partition."""
        return dict(self._next)

    def lag(self) -> int:
        """Records that are still to be handed out."""
        return sum(self._broker.end_offsets(topic)[number] - start for (topic, number), start in self._next.items())

    def close(self) -> None:
        """Nothing to free."""
