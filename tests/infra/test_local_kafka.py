"""A real broker: what is written is read, whatever is killed in between."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

from infra.kafka.local import LocalKafka
from stream.errors import UserError


def create_topic(servers: str, topic: str, partitions: int = 1) -> None:
    admin = KafkaAdminClient(bootstrap_servers=servers.split(","))
    admin.create_topics([NewTopic(name=topic, num_partitions=partitions, replication_factor=-1)])
    admin.close()


def write(servers: str, topic: str, values: list[bytes]) -> None:
    """Every value is acknowledged when this returns."""
    writer = KafkaProducer(bootstrap_servers=servers.split(","), acks="all")
    for written in [writer.send(topic, value) for value in values]:
        written.get(timeout=30)
    writer.close()


def read(servers: str, topic: str, count: int) -> list[bytes]:
    reader = KafkaConsumer(topic, bootstrap_servers=servers.split(","), auto_offset_reset="earliest", group_id=None)
    values = [next(reader).value for _ in range(count)]
    reader.close()
    return values


def test_what_is_written_is_read(kafka: str) -> None:
    create_topic(kafka, "written-is-read")
    write(kafka, "written-is-read", [b"one", b"two"])
    assert read(kafka, "written-is-read", 2) == [b"one", b"two"]


def test_data_survives_sigkill_and_stop(tmp_path: Path) -> None:
    with LocalKafka(tmp_path) as broker:
        servers = broker.bootstrap_servers
        create_topic(servers, "kept")
        write(servers, "kept", [b"before the kill"])
        broker.kill()
        assert broker.dead_nodes() == [1]
        broker.restart()
        write(servers, "kept", [b"after the kill"])
    with LocalKafka(tmp_path) as again:
        assert again.bootstrap_servers == servers
        assert read(servers, "kept", 2) == [b"before the kill", b"after the kill"]
