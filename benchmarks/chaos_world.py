"""Follows a run from outside: its workers by their heartbeats, its updates, and the nodes of its broker by their replicas.

What enters are the run's folder and its topics; nothing is written. All times are of this process's monotonic clock.
"""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from benchmarks.chaos_plan import Span
from infra.control import ask
from localkafka import cluster
from localkafka.local import LocalKafka
from localkafka.ready import known_nodes
from stream.broker import Broker, TopicPartition
from stream.errors import RucksackError, UserError
from stream.launch import ADDRESS_FILE, KAFKA_FOLDER
from stream.messages import Heartbeat, Update
from stream.snapshot import decode_or_none
from stream.topics import HEARTBEATS, TRAJECTORIES, UPDATES, topic_of

POLL_S = 0.2
AT_WORK = ("running", "saving")
ENDINGS_UNUSED = ("stale", "abandoned")


@dataclass(frozen=True, slots=True)
class Beat:
    """The newest heartbeat of a worker."""

    pid: int
    state: str
    heard_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """An update as it was seen."""

    at_s: float
    step: int
    version: int
    num_unused: int
    """Rollouts of its groups that were not used."""


class World:
    """A run that is up. All methods are called from one thread."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.folder = folder
        self.run = folder.name
        self.beats: dict[str, Beat] = {}
        self.steps: list[Step] = []
        self.nodes = Nodes(folder, broker, TRAJECTORIES.of(self.run))
        self._reader = broker.reader([UPDATES.of(self.run), HEARTBEATS.of(self.run)])
        self._pids: dict[str, int | None] = {}
        self._asked_s = 0.0

    @property
    def step(self) -> int:
        """The newest update."""
        return self.steps[-1].step if self.steps else 0

    def follow(self) -> None:
        """Take what has come, within a moment."""
        for record in self._reader.poll(POLL_S):
            message = decode_or_none(record, topic_of(record.topic))
            now = time.monotonic()
            if isinstance(message, Heartbeat):
                self.beats[message.worker] = Beat(message.pid, message.state, now)
            elif isinstance(message, Update) and message.groups:
                unused = sum(end.num_rollouts for end in message.groups if end.ending in ENDINGS_UNUSED)
                self.steps.append(Step(now, message.step, message.version, unused))

    def pid(self, worker: str) -> int | None:
        """The process of a worker that is at work, by its supervisor and its own heartbeat; None if it has to come up yet."""
        if time.monotonic() - self._asked_s > POLL_S:
            self._asked_s = time.monotonic()
            with suppress(UserError):
                rows = ask(self.folder, {"command": "status"})["workers"]
                self._pids = {row["name"]: row["pid"] for row in rows}
        pid, beat = self._pids.get(worker), self.beats.get(worker)
        return pid if beat is not None and beat.pid == pid and beat.state in AT_WORK else None

    def engine_pid(self) -> int | None:
        """The process of vLLM."""
        pid = self.pid("producer-0")
        with suppress(psutil.Error, TypeError):
            for child in psutil.Process(pid).children(recursive=True):
                if child.cmdline()[:1] and child.cmdline()[0].startswith("VLLM"):
                    return int(child.pid)
        return None

    def close(self) -> None:
        """Stop looking."""
        self.nodes.close()
        self._reader.close()


class Nodes(threading.Thread):
    """The broker's nodes, looked at by a thread of its own: a broker that lost a node may take seconds to answer."""

    def __init__(self, folder: Path, broker: Broker, topic: str) -> None:
        super().__init__(name="nodes", daemon=True)
        self._kafka = LocalKafka.attach(folder / KAFKA_FOLDER)
        found = cluster.load(folder / KAFKA_FOLDER)
        assert found is not None, "the run has a local broker"
        self._ports = {node: ports.broker for node, ports in found.ports.items()}
        self.ports = {node: (ports.broker, ports.controller) for node, ports in found.ports.items()}
        self._servers = (folder / ADDRESS_FILE).read_text().strip().split(",")
        self._broker, self._topic = broker, topic
        self._whole_since: float | None = None
        self.ends: list[tuple[float, Mapping[int, int]]] = []
        """When the topic of trajectories had which ends."""
        self.is_struck = False
        """Whether a node is to be looked at closely, which costs much."""
        self._over = threading.Event()
        self.start()

    def pid(self, node: int) -> int | None:
        """The process of a node."""
        return self._kafka.pid(node)

    def whole(self, since_s: float = 0.0) -> bool:
        """Whether every node was in every partition's replicas in sync, by a look that began after a time."""
        return self._whole_since is not None and self._whole_since >= since_s and not self._kafka.dead_nodes()

    def run(self) -> None:
        """Look."""
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it tells of every node that does not answer
        while not self._over.wait(0.5 if self.is_struck else 3.0):
            began = time.monotonic()
            try:
                if self.is_struck or self._whole_since is None:
                    self._whole_since = began if self._all_in_sync() else None
                self.ends.append((began, self._broker.end_offsets(self._topic)))
            except (KafkaError, RucksackError, OSError):
                self._whole_since = None if self.is_struck else self._whole_since

    def _all_in_sync(self) -> bool:
        nodes = set(self._ports)
        if any(not nodes <= known_nodes(port) for port in self._ports.values()):
            return False
        admin = KafkaAdminClient(bootstrap_servers=self._servers, request_timeout_ms=5000, bootstrap_timeout_ms=5000)
        try:
            topics = admin.describe_topics()
        finally:
            admin.close()
        return all(nodes == set(part["isr_nodes"]) for topic in topics for part in topic["partitions"])

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self.join(30)


def seen_at(ends: list[tuple[float, Mapping[int, int]]], partition: TopicPartition, offset: int) -> Span:
    """When a record came: between two looks at the ends."""
    before = max((at for at, found in ends if found.get(partition[1], 0) <= offset), default=0.0)
    after = min((at for at, found in ends if found.get(partition[1], 0) > offset), default=before + 1.0)
    return Span(before, after, 1.0)
