"""The one loop that every role runs: poll, hand over, let the role work, note progress, show signs of life.

The loop never blocks on work, so a slow role is never thrown out of its consumer group: a role that has enough to do
says so by `wants_input`, and its partitions are paused. A record that cannot be used goes to `deadletters` and counts
as finished (law 8).
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from stream.broker import Broker, Reader, Record, Writer
from stream.codec import decode, encode
from stream.errors import BadRecord, BrokerUnavailable, RucksackError
from stream.messages import DeadLetter, Heartbeat
from stream.metrics import Metrics
from stream.topics import DEADLETTERS, HEARTBEATS, Topic, partition_of, topic_of
from stream.watermark import Watermark

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
COMMIT_S = 0.5


class Log:
    """A run's topics, typed: what roles write to and read from."""

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
        """Append a message without waiting."""
        self.writer.send(topic.of(self.run), key.encode(), encode(message), partition=partition, on_ack=on_ack)

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

    def read_all(self, topic: Topic, newest: int | None = None) -> list[Any]:
        """Every message that the topic holds now, oldest first; records that cannot be read are left out.

        Args:
            newest: read no more than about as many of the newest of each partition.

        """
        return list(self.read_each(topic, newest))

    def read_each(self, topic: Topic, newest: int | None = None) -> Iterator[Any]:
        """`read_all`, message by message: of a topic with millions only those kept are in memory."""
        reader = self.reader(topic)
        ends = {(topic.of(self.run), p): end for p, end in self.broker.end_offsets(topic.of(self.run)).items()}
        if newest is not None:
            reader.seek({place: max(0, end - newest) for place, end in ends.items()})
        try:
            while any(position < ends[place] for place, position in reader.positions().items()):
                for record in reader.poll(0.2, 5000):
                    try:
                        yield decode(record.value, topic.message_type)
                    except BadRecord as error:
                        log.warning("unreadable record topic=%s offset=%d error=%s", record.topic, record.offset, error)
        finally:
            reader.close()

    def bury(self, record: Record, error: str, on_ack: Callable[[], None] | None = None) -> None:
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


@dataclass(frozen=True, slots=True)
class Delivery:
    """One decoded record; `done` tells the loop that its result is durable (callable from any thread)."""

    topic: Topic
    message: Any
    record: Record
    done: Callable[[], None]


class Role(Protocol):
    """A role as the loop sees it. All methods are called from the loop's thread and return quickly."""

    @property
    def wants_input(self) -> bool:
        """Whether more records may be handed over now."""

    @property
    def finished(self) -> bool:
        """Whether the role's part in the run is over."""

    def handle(self, delivery: Delivery) -> None:
        """Take one record.

        Raises:
            BadRecord: it cannot be used; the loop buries it.

        """

    def work(self) -> bool:
        """Advance by one short step; True if there is more to do at once."""

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat, keyed `role/what/statistic`."""

    def close(self) -> None:
        """Stop what runs beside the loop."""


def run_loop(
    role: Role, stream: Log, reader: Reader, stop: threading.Event, *, commits: bool, poll_s: float = 0.02
) -> None:
    """Run a role until it has finished or `stop` is set.

    Args:
        commits: note progress for the reader's consumer group; False where the role keeps its offsets itself.

    """
    watermark = Watermark()
    pulse = Pulse(stream)
    busy, last_commit = False, time.monotonic()
    try:
        while not stop.is_set() and not role.finished:
            if role.wants_input:
                reader.resume()
            else:
                reader.pause()
            for record in reader.poll(0.0 if busy else poll_s):
                _hand_over(role, stream, watermark, record)
            busy = role.work()
            pulse.beat("running", role.metrics)
            if commits and time.monotonic() - last_commit >= COMMIT_S:
                _commit(reader, watermark)
                last_commit = time.monotonic()
        pulse.beat("closing", role.metrics, now=True)
        stream.writer.flush()
        role.close()
        stream.writer.flush()
        if commits:
            _commit(reader, watermark)
        pulse.beat("done" if role.finished else "stopped", role.metrics, now=True)
        stream.writer.flush()
    finally:
        reader.close()


def _commit(reader: Reader, watermark: Watermark) -> None:
    moved = watermark.moved()
    if reader.commit(moved):
        watermark.note_committed(moved)


def _hand_over(role: Role, stream: Log, watermark: Watermark, record: Record) -> None:
    place = (record.topic, record.partition)
    watermark.start(place, record.offset)

    def done() -> None:
        watermark.finish(place, record.offset)

    topic = topic_of(record.topic)
    try:
        role.handle(Delivery(topic, decode(record.value, topic.message_type), record, done))
    except BadRecord as error:
        stream.bury(record, str(error), done)
    except RucksackError:
        raise
    except Exception as error:  # no record may stop a role: what it did is in the log, its bytes in deadletters
        log.exception("record could not be handled")
        stream.bury(record, f"{type(error).__name__}: {error}", done)


class Pulse:
    """Sends a heartbeat about every second."""

    def __init__(self, stream: Log) -> None:
        self._stream = stream
        self._last = 0.0

    def beat(self, state: str, metrics: Callable[[], Mapping[str, float]], *, now: bool = False) -> None:
        """Send one if it is time, or `now`."""
        if not now and time.monotonic() - self._last < HEARTBEAT_S:
            return
        self._last = time.monotonic()
        figures = dict(metrics())
        if self._stream.metrics is not None:
            self._stream.metrics.note(figures)
        heartbeat = Heartbeat(
            worker=self._stream.worker,
            pid=os.getpid(),
            host=socket.gethostname(),
            state=state,
            metrics=figures,
            created_s=time.time(),
        )
        self._stream.send(HEARTBEATS, self._stream.worker, heartbeat)


class IdleClock:
    """Share of the last minute or so that was spent idle."""

    def __init__(self, half_life_s: float = 20.0) -> None:
        self._half_life_s = half_life_s
        self._last = time.monotonic()
        self._share = 0.0

    def note(self, *, idle: bool) -> None:
        """What the time since the last call was."""
        now = time.monotonic()
        kept = 0.5 ** ((now - self._last) / self._half_life_s)
        self._share = kept * self._share + (1 - kept) * idle
        self._last = now

    def share(self) -> float:
        """In [0, 1]."""
        return self._share
