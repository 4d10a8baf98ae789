"""Three nodes: one of them may be killed while records are written, and none that was acknowledged is lost."""

import threading
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from localkafka.local import LocalKafka
from localkafka.process import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
TOPIC = "three"


class Writer(threading.Thread):
    """Writes one numbered record after the other and remembers which were acknowledged, and the longest wait."""

    def __init__(self, servers: list[str]) -> None:
        super().__init__()
        self._servers = servers
        self._enough = threading.Event()
        self._grown = threading.Condition()
        self.acknowledged: list[bytes] = []
        self.longest_pause_s = 0.0

    def run(self) -> None:
        writer = KafkaProducer(bootstrap_servers=self._servers, acks="all", max_block_ms=60_000)
        while not self._enough.is_set():
            started = time.monotonic()
            value = str(len(self.acknowledged)).encode()
            writer.send(TOPIC, value).get(timeout=60)
            self.longest_pause_s = max(self.longest_pause_s, time.monotonic() - started)
            with self._grown:
                self.acknowledged.append(value)
                self._grown.notify_all()
        writer.close()

    def await_more(self, count: int) -> None:
        """Return when this many further records are acknowledged."""
        with self._grown:
            target = len(self.acknowledged) + count
            assert self._grown.wait_for(lambda: len(self.acknowledged) >= target, timeout=60)

    def finish(self) -> None:
        self._enough.set()
        self.join()


def leaders(admin: KafkaAdminClient) -> dict[int, int]:
    [topic] = admin.describe_topics([TOPIC])
    return {partition["partition_index"]: partition["leader_id"] for partition in topic["partitions"]}


def num_replicas(admin: KafkaAdminClient) -> list[int]:
    [topic] = admin.describe_topics([TOPIC])
    return [len(partition["replica_nodes"]) for partition in topic["partitions"]]


def read_all(servers: list[str]) -> list[bytes]:
    reader = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", group_id=None)
    partitions = [TopicPartition(TOPIC, number) for number in range(3)]
    reader.assign(partitions)
    ends = reader.end_offsets(partitions)
    values: list[bytes] = []
    while any(reader.position(partition) < end for partition, end in ends.items()):
        values += [record.value for records in reader.poll(1_000).values() for record in records]
    reader.close()
    return values


def test_a_killed_node_loses_no_acknowledged_record_and_comes_back(tmp_path: Path) -> None:
    with LocalKafka(tmp_path, nodes=3) as broker:
        servers = broker.bootstrap_servers.split(",")
        assert len(servers) == 3
        admin = KafkaAdminClient(bootstrap_servers=servers)
        admin.create_topics([NewTopic(name=TOPIC, num_partitions=3, replication_factor=-1)])
        # Here and below: the node that is asked may hear of it a little later, and not the same one is asked each time.
        replies: list[dict[int, int]] = []
        wait_until(lambda: replies.append(leaders(admin)) or len([n for n in replies[-1].values() if n > 0]) == 3, 60)
        victim = replies[-1][0]
        writer = Writer(servers)
        writer.start()
        writer.await_more(100)
        broker.kill(victim)
        assert broker.dead_nodes() == [victim]
        writer.await_more(300)
        assert wait_until(lambda: victim not in leaders(admin).values(), 60)
        broker.restart(victim)
        assert broker.dead_nodes() == []
        writer.await_more(100)
        writer.finish()
        values = read_all(servers)
        print(f"{len(writer.acknowledged)} records, longest pause {writer.longest_pause_s:.1f} s")
        assert set(writer.acknowledged) <= set(values)
        assert writer.longest_pause_s < 30
        assert wait_until(lambda: num_replicas(admin) == [3, 3, 3], 60)
        admin.close()
