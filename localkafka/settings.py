"""Makes a local broker's server properties and Java command line. Pure functions."""

from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
MAX_MESSAGE_BYTES = 64 << 20
_TEN_YEARS_MINUTES = 10 * 365 * 24 * 60
_FOREVER_MS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePorts:
    """The two ports of a node: clients and brokers speak on one, the controllers' quorum on the other."""

    broker: int
    controller: int


def server_properties(node: int, ports: dict[int, NodePorts], data: Path, host: str = HOST) -> dict[str, str]:
    """All properties of one node of a cluster whose nodes listen on `ports` of this machine's address `host`."""
    own = ports[node]
    voters = ",".join(f"{n}@{HOST}:{p.controller}" for n, p in ports.items())
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{host}:{own.broker},CONTROLLER://{HOST}:{own.controller}",
        "advertised.listeners": f"PLAINTEXT://{host}:{own.broker}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        **_replication(len(ports)),
        **_KEEPING,
        **_SIZE,
        **_GROUPS,
    }


def _replication(num_nodes: int) -> dict[str, str]:
    """Three copies of which two must have a record before it is acknowledged, as far as there are nodes."""
    copies, in_sync = str(min(num_nodes, 3)), "2" if num_nodes >= 3 else "1"
    return {
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # How soon a killed node's partitions get a new leader. A node on its own has no other leader, but after a
        # kill its own old session must run out before it is let in again.
        "broker.session.timeout.ms": "6000" if num_nodes > 1 else "3000",
        "broker.heartbeat.interval.ms": "1000",
    }


_KEEPING = {
    # The log is the project's memory: a topic without a limit of its own is kept for ever, and so are the offsets of a
    # run that is resumed after weeks (by default Kafka forgets a group's offsets after 7 days).
    "log.retention.ms": "-1",
    "offsets.retention.minutes": str(_TEN_YEARS_MINUTES),
    "transactional.id.expiration.ms": str(_FOREVER_MS),
    "auto.create.topics.enable": "false",
    # Files of records that were deleted (old weights) go within a minute; by default a look every 5 minutes finds them, and
    # the demo publishes 3 GB in that time.
    "log.retention.check.interval.ms": "20000",
    "log.segment.delete.delay.ms": "20000",
}

_SIZE = {
    "message.max.bytes": str(MAX_MESSAGE_BYTES),
    "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
    # After SIGKILL the unflushed segments are read again: smaller ones mean less to read.
    "log.segment.bytes": str(128 << 20),
    # 128 MB by default, a quarter of the heap, for topics that hold some thousand keys.
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.num.partitions": "3",
    "share.coordinator.state.topic.num.partitions": "1",
}

_GROUPS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
}

START_MB = 64
"""Of the heap, at the start."""
HEAP_MB = 160
"""What it grows to in a long run, whatever is in use: this collector looks through the old objects only when they have no more
room. A run of the demo has 53 MiB in use (docs/endurance.md), the largest record takes 32."""
NEW_SHARE = 0.4
"""Of the heap, for new objects at the most."""
_JVM = [
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # A broker that is short of memory half works, unnoticed; one that has ended is restarted.
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    # zstd and snappy load native libraries, which Java 24 and newer warn about.
    "--enable-native-access=ALL-UNNAMED",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
]


def java_command(java: Path, jars: list[Path], heap_mb: int) -> list[str]:
    """The command line up to the main class, which is for the caller to add."""
    classpath = ":".join(str(jar) for jar in jars)
    # By default a heap begins with a 64th of the machine's memory, and all of it is touched before rubbish is looked for.
    heap = [f"-Xms{min(START_MB, heap_mb)}m", f"-Xmx{heap_mb}m", f"-XX:MaxNewSize={round(NEW_SHARE * heap_mb)}m"]
    return [str(java), *heap, *_JVM, "-cp", classpath]


def as_text(properties: dict[str, str]) -> str:
    """The Java properties file."""
    # A backslash is the one character of a path that this format would take for something else.
    return "".join(f"{key}={value}\n".replace("\\", "\\\\") for key, value in properties.items())
