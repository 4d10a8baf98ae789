"""Tells whether a broker answers, by real requests: a listening socket proves little."""

import logging
import socket

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from localkafka.settings import HOST

_ANSWER_MS = 5_000


def known_nodes(port: int, host: str = HOST) -> set[int]:
    """The ids of the nodes that the broker on this port takes for alive; empty where it does not answer."""
    if not _listens(host, port):
        return set()
    try:
        return _ask(host, port)
    except (KafkaError, OSError):
        return set()


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _ask(host: str, port: int) -> set[int]:
    # The client warns of every connection that a starting broker drops.
    logging.getLogger("kafka").setLevel(logging.ERROR)
    admin = KafkaAdminClient(
        bootstrap_servers=[f"{host}:{port}"],
        bootstrap_timeout_ms=_ANSWER_MS,
        request_timeout_ms=_ANSWER_MS,
    )
    try:
        cluster = admin.describe_cluster()
    finally:
        admin.close()
    # A node that is known but fenced (starting, or gone) serves no client.
    return {int(broker["broker_id"]) for broker in cluster["brokers"] if not broker.get("is_fenced")}
