"""What is read from a connection to Kafka: all that has come, also what comes with its end."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from stream import kafka_sockets


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, broker = socket.socketpair()
    ours.setblocking(False)
    with ours, broker:
        yield ours, broker


def test_all_that_has_come_is_read_and_nothing_is_waited_for(ends, monkeypatch):
    monkeypatch.setattr(kafka_sockets, "PIECE_BYTES", 8)
    ours, broker = ends
    broker.sendall(b"x" * 50)
    transport = SimpleNamespace(_sock=ours)
    assert kafka_sockets.receive(transport) == (b"x" * 50, None)
    assert kafka_sockets.receive(transport) == (b"", None)


def test_the_end_of_a_connection_is_told_after_what_came_before_it(ends):
    ours, broker = ends
    broker.sendall(b"last words")
    broker.close()
    transport = SimpleNamespace(_sock=ours)
    assert kafka_sockets.receive(transport) == (b"last words", None)
    data, error = kafka_sockets.receive(transport)
    assert data == b""
    assert isinstance(error, KafkaConnectionError)


def test_kafka_python_reads_so_with_and_without_tls():
    import stream.kafka  # noqa: F401

    assert KafkaTCPTransport._sock_recv is KafkaSSLTransport._sock_recv is kafka_sockets.receive
