"""Implements the broker protocol with kafka-python. With the other `stream/kafka_*.py` the only file that knows Kafka."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import zip_longest
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    InvalidProducerEpochError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
)
from kafka.structs import OffsetAndMetadata

import stream.kafka_sockets  # noqa: F401  which makes kafka-python read faster
from stream.broker import Offsets, Record
from stream.bundles import Bundle, bundle, unbundle
from stream.errors import BrokerUnavailable, Fenced, RucksackError
from stream.kafka_admin import LARGEST, KafkaAdmin, known_to
from stream.kafka_errors import allowed, answering, fencing, refused

log = logging.getLogger(__name__)

SESSION_TIMEOUT_MS = 10_000
TRANSACTION_TIMEOUT_MS = 900_000
"""How long a transaction may stay open: the most that brokers allow, so that it outlives a broker that is away. What a
dead writer left open its successor ends at once."""
JOIN_S = 1.0
"""How long a poll waits for the consumer group to be joined, at most."""
# Batching as in librdkafka: measured here, it raised 800-byte records from 4,600 to 24,000 a second.
_WRITER = {
    "linger_ms": 5,
    "batch_size": 262_144,
    "max_request_size": LARGEST,
    "acks": "all",
    "metrics_enabled": False,
}
_READER = {
    "metrics_enabled": False,
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "max_partition_fetch_bytes": 8 << 20,
    "fetch_max_wait_ms": 100,
    "allow_auto_create_topics": False,
}


class KafkaBroker(KafkaAdmin):
    """A Kafka cluster. `settings` (SASL, TLS, ...) go to kafka-python's clients, references to passwords looked up."""

    def writer(self, *, name: str, transactional: bool = False) -> "KafkaWriter":
        """A writer; a transactional one fences any older writer of the same name."""
        return KafkaWriter(self._common, name, transactional)

    def reader(
        self,
        topics: Sequence[str],
        *,
        consumer_group: str | None = None,
        member: str | None = None,
        from_end: bool = False,
    ) -> "KafkaReader":
        """A reader of all partitions, or of those that the consumer group assigns to it."""
        settings: dict[str, Any] = {**self._common, **_READER}
        if from_end:
            settings["auto_offset_reset"] = "latest"
        if consumer_group is not None:
            settings |= {"group_id": consumer_group, "session_timeout_ms": SESSION_TIMEOUT_MS}
            if member is not None:
                # A static member that restarts takes its partitions back at once, without waiting for the session.
                settings["group_instance_id"] = member
        consumer = KafkaConsumer(**known_to(KafkaConsumer, settings))
        if consumer_group is None:
            consumer.assign([TopicPartition(topic, number) for topic in topics for number in self.partitions(topic)])
        else:
            # Fetch the topics' metadata first: if it arrives while the group forms, a leading kafka-python 3.0.12 hands
            # out no partitions, and never notices (5 of 40 times here).
            for topic in topics:
                self._ask(partial(consumer.partitions_for_topic, topic))
            consumer.subscribe(list(topics))
        return KafkaReader(consumer, in_group=consumer_group is not None)


class KafkaWriter:
    """An idempotent producer of kafka-python; failed writes surface at the next call."""

    def __init__(self, common: Mapping[str, Any], name: str, transactional: bool) -> None:
        settings: dict[str, Any] = {**common, **_WRITER, "client_id": name}
        if transactional:
            settings = {"transaction_timeout_ms": TRANSACTION_TIMEOUT_MS, **settings, "transactional_id": name}
        self._producer = KafkaProducer(**known_to(KafkaProducer, settings))
        self._failure: BaseException | None = None
        self._bundles: dict[tuple[str, int], Bundle] = {}
        """What waits for other messages of its partition."""
        if transactional:
            _keep_requests(self._producer)
            with answering(), fencing():
                self._producer.init_transactions()

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
        """Append without waiting. Bundled messages are sent by one thread only."""
        self._raise_failure()
        if not bundled or partition is None:
            self._append(topic, key, value, partition, on_ack)
            return
        waiting = self._bundles.setdefault((topic, partition), Bundle(key))
        waiting.add(value, on_ack)
        if waiting.full:
            self._append_bundle(topic, partition)

    def push(self) -> None:
        """Let what waits to be bundled go."""
        for topic, partition in list(self._bundles):
            self._append_bundle(topic, partition)

    def _append_bundle(self, topic: str, partition: int) -> None:
        waiting = self._bundles.pop((topic, partition))
        on_ack = waiting.acknowledge if waiting.acks else None
        self._append(topic, waiting.key, bundle(waiting.messages), partition, on_ack)

    def _append(
        self, topic: str, key: bytes, value: bytes, partition: int | None, on_ack: Callable[[], None] | None
    ) -> None:
        with answering(), fencing():  # else the record being handled would be taken for a bad one
            future = self._producer.send(topic, value=value, key=key, partition=partition)
        future.add_errback(self._fail)
        if on_ack is not None:
            future.add_callback(lambda _metadata: on_ack())

    def flush(self) -> None:
        """Return when all that was sent is durable."""
        self.push()
        try:
            self._producer.flush(timeout=120)
        except KafkaError as error:
            self._raise_failure()
            raise refused(error) or BrokerUnavailable(f"writes were not acknowledged within 120 s: {error}") from error
        self._raise_failure()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is sent inside becomes visible together, or never."""
        self._raise_failure()
        with answering(), fencing():
            self._producer.begin_transaction()
        try:
            yield
            self.push()
            with fencing():
                self._producer.flush(timeout=60)
                self._raise_failure()
                self._producer.commit_transaction()
        except Fenced:
            raise
        except BaseException as error:
            with answering(), fencing():
                self._producer.abort_transaction()
            self._bundles.clear()
            self._failure = None  # what was aborted has failed, as it should
            if isinstance(error, KafkaError):
                raise refused(error) or BrokerUnavailable(f"a transaction was not committed: {error}") from error
            raise

    def close(self) -> None:
        """Send what is buffered, and free the connection."""
        with suppress(RucksackError):  # what was not acknowledged counts as not sent
            self.push()
        self._producer.close(timeout=10)

    def _fail(self, error: BaseException) -> None:
        self._failure = error

    def _raise_failure(self) -> None:
        if isinstance(self._failure, ProducerFencedError | InvalidProducerEpochError):
            raise Fenced(f"a newer writer of the same name is active: {self._failure}")
        if self._failure is not None:
            raise refused(self._failure) or BrokerUnavailable(
                f"a write failed for good: {self._failure}"
            ) from self._failure


def _keep_requests(producer: KafkaProducer) -> None:
    """Keep requests of a transaction while its coordinator is away.

    kafka-python 3.0.12 repeats a request if its client returns that a node is not ready. But the client raises: the
    request is dropped, and whoever waits for its commit waits for ever.
    """
    client = producer._sender._client
    await_ready = client.await_ready

    def is_ready(node: Any, **settings: Any) -> bool:
        try:
            return bool(await_ready(node, **settings))
        except KafkaError as error:
            log.warning("a node is not ready, trying again error=%s", error)
            return False

    client.await_ready = is_ready


class KafkaReader:
    """A consumer of kafka-python."""

    def __init__(self, consumer: KafkaConsumer, *, in_group: bool) -> None:
        self._consumer = consumer
        self._in_group = in_group
        self._paused = False

    def poll(self, timeout_s: float, max_records: int = 500) -> list[Record]:
        """The messages of the next records, [] after `timeout_s` without any."""
        if self._paused:  # also partitions that a rebalance has just brought
            self._consumer.pause(*self._assignment())
        with allowed():
            if self._in_group and self._must_join():
                self._consumer._coordinator.poll(
                    timeout_ms=JOIN_S * 1000
                )  # `poll` itself would wait for records as well
            batches = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        return [
            Record(r.topic, r.partition, r.offset, r.key or b"", value, r.timestamp, index)
            for r in _in_turns(batches.values())
            for index, value in enumerate(unbundle(r.value or b""))
        ]

    def commit(self, offsets: Offsets) -> bool:
        """Commit progress for the consumer group; False while the group rebalances, or its coordinator is away.

        A member that keeps a partition reads on where it was, not from what is committed, so it must try again.
        """
        assigned = self._assignment()
        wanted = {
            TopicPartition(*partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
            if TopicPartition(*partition) in assigned
        }
        try:
            if wanted:
                self._consumer.commit(wanted, timeout_ms=10_000)
        except KafkaError as error:
            if told := refused(error):
                raise told from error
            log.warning("commit refused, trying again error=%s", error)
            return False
        return True

    def seek(self, offsets: Offsets) -> None:
        """Read on from these offsets."""
        for partition, offset in offsets.items():
            self._consumer.seek(TopicPartition(*partition), offset)

    def pause(self) -> None:
        """Poll returns nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Undo `pause`."""
        if self._paused:
            self._paused = False
            self._consumer.resume(*self._consumer.paused())

    def positions(self) -> dict[tuple[str, int], int]:
        """Next offset of every assigned partition, as far as it is known: where none was read yet, a node is asked."""
        found = {}
        for key in self._assignment():
            with allowed(), suppress(KafkaConnectionError, KafkaTimeoutError):
                found[key.topic, key.partition] = self._consumer.position(key)
        return found

    def lag(self) -> int:
        """Records of the assigned partitions that are still to be handed out; the ends are those of the newest fetch."""
        ends = {key: self._consumer.highwater(key) for key in self._assignment()}
        return sum(max(0, end - (self._consumer.position(key) or 0)) for key, end in ends.items() if end is not None)

    def close(self) -> None:
        """Leave the consumer group and free the connection."""
        self._consumer.close(autocommit=False)

    def _must_join(self) -> bool:
        """Whether the consumer group must be joined (again).

        kafka-python 3.0.12 forgets a join that takes longer than one short poll if fresh metadata cancels the reason
        for it: the member then never joins, and can neither commit nor send heartbeats (16 of 40 times on a busy
        machine). So the join is requested again, and given time.
        """
        coordinator = self._consumer._coordinator
        if coordinator.rebalance_in_progress() and not coordinator.need_rejoin():
            coordinator.request_rejoin()
        return bool(coordinator.need_rejoin())

    def _assignment(self) -> set[TopicPartition]:
        return set(self._consumer.assignment() or ())


def _in_turns(batches: Iterable[Sequence[Any]]) -> Iterator[Any]:
    """The first record of each partition, then the second of each, ...: what was written first comes first, more or less."""
    return (record for records in zip_longest(*batches) for record in records if record is not None)
