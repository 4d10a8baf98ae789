"""Asks a Kafka cluster about its topics, and creates them: all that needs no writer and no reader. Used by `stream.kafka` alone.

Invariant: what a lost node leaves unanswered is asked again for as long as the asker has patience; a refusal is not.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
)
from kafka.protocol.consumer.offsets import IsolationLevel, OffsetSpec

from stream.broker import Offsets
from stream.codec import MAX_RECORD_BYTES
from stream.config.secrets import resolved
from stream.errors import BrokerUnavailable, UserError
from stream.kafka_errors import Reasons, allowed, answering
from stream.topics import Topic

log = logging.getLogger(__name__)

LARGEST = MAX_RECORD_BYTES + (1 << 20)
"""Bytes of a request that holds the largest record."""
ASK_AGAIN_S = 0.5
NODE_LATE_S = 20.0
"""How long topics wait for a node that has not registered yet, without which they cannot have all their replicas."""
REQUEST_TIMEOUT_MS = 15_000
"""When a node that says nothing is given up for the one that leads by then; by default 30 s."""
T = TypeVar("T")


class KafkaAdmin:
    """The part of the broker protocol that asks."""

    def __init__(
        self,
        bootstrap_servers: str,
        settings: Mapping[str, Any] | None = None,
        timeout_s: float = 30,
        patience_s: float = 0,
    ) -> None:
        """Connect.

        Args:
            timeout_s: for a first answer.
            patience_s: for how long a question is asked again while a node that should answer it is lost: what it led has
                a new leader in seconds.

        Raises:
            BrokerUnavailable: nothing answers.
            UserError: the broker refuses the login, or `settings` has what no client knows.

        """
        self._patience_s = patience_s
        self._common = {
            "bootstrap_servers": bootstrap_servers.split(","),
            "bootstrap_timeout_ms": int(timeout_s * 1000),
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            **resolved(settings or {}, os.environ),
        }
        check(settings or {})
        with Reasons() as reasons:
            try:
                self._admin = KafkaAdminClient(**known_to(KafkaAdminClient, self._common))
                self._admin.describe_cluster()
            except (KafkaError, ValueError, TypeError, OSError) as error:
                why = next((e for e in reversed(reasons.errors) if not isinstance(e, KafkaTimeoutError)), error)
                raise reasons.refusal() or BrokerUnavailable(
                    f"no Kafka broker answers at {bootstrap_servers} ({why}); start one with `rucksack broker start`, "
                    "or correct broker.bootstrap_servers and broker.settings"
                ) from error

    def create_topics(self, run: str, topics: Sequence[Topic], num_partitions: int) -> None:
        """Create the run's topics that do not exist yet, replicated as the cluster does by default.

        Raises:
            UserError: this user may not see one of them.
            BrokerUnavailable: one is missing, and this user may not create it.

        """
        known = self._described([topic.of(run) for topic in topics])
        wanted = {
            topic.of(run): {
                "num_partitions": num_partitions if topic.partitioned else 1,
                "configs": {
                    "cleanup.policy": "compact" if topic.compacted else "delete",
                    "retention.ms": str(topic.retention_ms),
                    # By the broker's clock: it refuses what comes from a clock that is an hour ahead of its own.
                    "message.timestamp.type": "LogAppendTime",
                    "max.message.bytes": str(LARGEST),
                    **({"segment.bytes": str(topic.segment_bytes)} if topic.segment_bytes else {}),
                    **({"segment.ms": str(topic.segment_ms)} if topic.segment_ms else {}),
                },
            }
            for topic in topics
            if not known[topic.of(run)]
        }
        if wanted:
            refusal = self._ask(lambda: self._create(wanted), at_least_s=NODE_LATE_S)
            if refusal is not None:
                raise BrokerUnavailable(
                    f"topics {', '.join(wanted)} do not exist, and this user may not create them; create them as a user "
                    "who may, by `rucksack broker topics CONFIG`"
                ) from refusal
            self._ask(lambda: self._admin.wait_for_topics([topic.of(run) for topic in topics]))

    def _create(self, wanted: Mapping[str, Any]) -> AuthorizationError | None:
        """Create topics; returns the broker's refusal."""
        try:
            self._admin.create_topics(wanted)
        except TopicAlreadyExistsError:
            log.debug("another process created the topics first")
        except AuthorizationError as error:
            return error
        return None

    def _ask(self, question: Callable[[], T], at_least_s: float = 0.0) -> T:
        """The answer to a question to the cluster, asked again for `patience_s`, or longer.

        Raises:
            BrokerUnavailable: there is none.
            UserError: the cluster refuses it.

        """
        deadline = time.monotonic() + max(self._patience_s, at_least_s)
        while True:
            try:
                with answering():
                    return question()
            except BrokerUnavailable as error:
                if time.monotonic() >= deadline:
                    raise
                log.warning("asking again error=%s", error)
                time.sleep(ASK_AGAIN_S)
                self._connect_anew()

    def _connect_anew(self) -> None:
        """Take another client: kafka-python 3.0.12 knows only the nodes that were there when it began, and asks no other."""
        with suppress(KafkaError):
            before, self._admin = self._admin, KafkaAdminClient(**known_to(KafkaAdminClient, self._common))
            before.close()

    def partitions(self, topic: str) -> list[int]:
        """Partitions of a topic; [] if it does not exist."""
        return self._described([topic])[topic]

    def _described(self, topics: Sequence[str]) -> dict[str, list[int]]:
        """Topic to its partitions, [] of one that does not exist. One that may not be seen is an error: a reader without
        partitions would wait for ever.
        """

        def describe() -> Any:
            found = self._admin.describe_topics(list(topics))
            hidden = {topic["name"] for topic in found if topic["error_code"] == TopicAuthorizationFailedError.errno}
            if hidden:
                raise TopicAuthorizationFailedError(hidden)
            return found

        found = self._ask(describe)
        return {topic["name"]: sorted(part["partition_index"] for part in topic["partitions"]) for topic in found}

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Offset behind the last record of each partition."""
        return self.all_end_offsets([topic])[topic]

    def all_end_offsets(self, topics: Sequence[str]) -> dict[str, dict[int, int]]:
        """`end_offsets` of several topics in one question."""
        wanted = {
            TopicPartition(topic, number): OffsetSpec.LATEST for topic in topics for number in self.partitions(topic)
        }
        found = (
            self._ask(lambda: self._admin.list_partition_offsets(wanted, IsolationLevel.READ_COMMITTED))
            if wanted
            else {}
        )
        result: dict[str, dict[int, int]] = {topic: {} for topic in topics}
        for partition, end in found.items():
            result[partition.topic][partition.partition] = end.offset
        return result

    def first_offsets(self, partitions: Iterable[tuple[str, int]]) -> Offsets:
        """Offset of the first record that each partition still has."""
        wanted = {TopicPartition(*partition): OffsetSpec.EARLIEST for partition in partitions}
        found = self._ask(lambda: self._admin.list_partition_offsets(wanted)) if wanted else {}
        return {(at.topic, at.partition): first.offset for at, first in found.items()}

    def delete_records(self, before: Offsets) -> None:
        """Delete the records of each partition before an offset."""
        wanted = {TopicPartition(*partition): offset for partition, offset in before.items()}
        self._ask(lambda: self._admin.delete_records(wanted))

    def group_offsets(self, consumer_group: str) -> dict[tuple[str, int], int]:
        """What a consumer group has committed."""
        try:
            with allowed():
                found = self._admin.list_group_offsets({consumer_group: None})[consumer_group]
        except KafkaError:  # the coordinator may be loading, or the group is not there yet
            return {}
        return {
            (key.topic, key.partition): committed.offset for key, committed in found.items() if committed.offset >= 0
        }

    def close(self) -> None:
        """Free the connections."""
        self._admin.close()


def known_to(client: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that this client of kafka-python takes: a client refuses those of the others."""
    return {key: value for key, value in settings.items() if key in client.DEFAULT_CONFIG}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError for a setting that no client takes."""
    clients = (KafkaAdminClient, KafkaConsumer, KafkaProducer)
    for key in settings:
        if not any(key in client.DEFAULT_CONFIG for client in clients):
            raise UserError(
                f"broker.settings has {key!r}, which kafka-python does not know; want e.g. security_protocol"
            )
