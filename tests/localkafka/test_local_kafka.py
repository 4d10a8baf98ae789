"""A real broker: what is written is read, whatever is killed in between."""

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

from localkafka.local import LocalKafka
from localkafka.process import BrokerProcess, wait_until
from localkafka.ready import known_nodes
from stream.errors import BrokerUnavailable, UserError
from stream.kafka import KafkaBroker
from stream.topics import UPDATES

pytestmark = pytest.mark.kafka

# A program that starts the broker of a folder and waits for its standard input to end.
OWNER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from localkafka.local import LocalKafka
broker = LocalKafka(Path(sys.argv[1]), detached=sys.argv[2] == "detached")
broker.start()
print(broker.pid(1), broker.bootstrap_servers, flush=True)
sys.stdin.read()
"""


def create_topic(servers: str, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=servers.split(","))
    admin.create_topics([NewTopic(name=topic, num_partitions=3, replication_factor=-1)])
    admin.close()


def write(servers: str, topic: str, values: list[bytes]) -> None:
    """Every value is acknowledged when this returns."""
    writer = KafkaProducer(bootstrap_servers=servers.split(","), acks="all", max_request_size=64 << 20)
    for written in [writer.send(topic, value) for value in values]:
        written.get(timeout=60)
    writer.close()


def read(servers: str, topic: str, count: int) -> list[bytes]:
    """The first `count` values, sorted, as partitions have no common order."""
    reader = KafkaConsumer(
        topic,
        bootstrap_servers=servers.split(","),
        auto_offset_reset="earliest",
        group_id=None,
        isolation_level="read_committed",
        consumer_timeout_ms=60_000,
    )
    values = [record.value for _, record in zip(range(count), reader, strict=False)]
    reader.close()
    return sorted(values)


def own(folder: Path, how: str) -> tuple[subprocess.Popen[str], int]:
    """A process that owns a running broker, and the broker's pid."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    return owner, int(owner.stdout.readline().split()[0])


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_is_written_is_read(kafka: str) -> None:
    create_topic(kafka, "written-is-read")
    write(kafka, "written-is-read", [b"one", b"two"])
    assert read(kafka, "written-is-read", 2) == [b"one", b"two"]


def test_records_of_32_mb_pass(kafka: str) -> None:
    create_topic(kafka, "large")
    write(kafka, "large", [b"x" * (32 << 20)])
    assert [len(value) for value in read(kafka, "large", 1)] == [32 << 20]


def test_aborted_records_are_hidden_from_read_committed(kafka: str) -> None:
    create_topic(kafka, "transactions")
    writer = KafkaProducer(bootstrap_servers=kafka.split(","), transactional_id="infra-test")
    writer.init_transactions()
    for value, end in [(b"aborted", writer.abort_transaction), (b"committed", writer.commit_transaction)]:
        writer.begin_transaction()
        writer.send("transactions", value).get(timeout=60)
        end()
    writer.close()
    assert read(kafka, "transactions", 1) == [b"committed"]


def test_data_survives_sigkill_and_stop(tmp_path: Path) -> None:
    with LocalKafka(tmp_path) as broker:
        servers = broker.bootstrap_servers
        create_topic(servers, "kept")
        write(servers, "kept", [b"1 before the kill"])
        broker.kill()
        assert broker.dead_nodes() == [1]
        broker.restart()
        write(servers, "kept", [b"2 after the kill"])
    assert broker.dead_nodes() == [1]
    (tmp_path / "cluster.json").unlink()  # also without what only Rucksack knows
    with LocalKafka(tmp_path) as again:
        assert read(again.bootstrap_servers, "kept", 2) == [b"1 before the kill", b"2 after the kill"]


def test_restarted_folder_keeps_its_ports_and_refuses_another_size(tmp_path: Path) -> None:
    with LocalKafka(tmp_path) as broker:
        servers = broker.bootstrap_servers
        with pytest.raises(UserError, match=rf"in use by a running broker \(pid {broker.pid(1)}\)"):
            LocalKafka(tmp_path).start()
    with pytest.raises(UserError, match="nodes: got 3, expected 1, the size of the cluster"):
        LocalKafka(tmp_path, nodes=3).start()
    with LocalKafka(tmp_path) as again:
        assert again.bootstrap_servers == servers


def test_port_in_use_is_refused_by_number(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"ports: {port} is in use on 127.0.0.1.*expected a free port"):
            LocalKafka(tmp_path, ports=[port]).start()
    with LocalKafka(tmp_path, ports=[port]) as broker:
        assert broker.bootstrap_servers == f"127.0.0.1:{port}"


def answers(broker: LocalKafka) -> bool:
    return known_nodes(int(broker.bootstrap_servers.rpartition(":")[2])) == {1}


def test_broker_dies_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    owner, pid = own(tmp_path, "child")
    assert LocalKafka.attach(tmp_path).pid(1) == pid
    owner.kill()
    owner.communicate()
    assert wait_until(lambda: is_gone(pid), 60)


def test_detached_broker_outlives_its_owner_and_is_found_and_stopped(tmp_path: Path) -> None:
    owner, pid = own(tmp_path, "detached")
    owner.communicate()
    found = LocalKafka.attach(tmp_path)
    assert found.pid(1) == pid
    assert answers(found)
    found.stop()
    assert found.pid(1) is None
    assert is_gone(pid)


@pytest.mark.parametrize(
    ("status", "runs"), [(psutil.STATUS_RUNNING, True), (psutil.STATUS_DISK_SLEEP, True), (psutil.STATUS_ZOMBIE, False)]
)
def test_a_broker_runs_until_all_that_it_holds_is_closed(
    status: str, runs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = SimpleNamespace(pid=7, cmdline=list, name=lambda: "java", status=lambda: status)  # its memory is gone
    monkeypatch.setattr("localkafka.process.psutil.Process", lambda pid: ending)
    (tmp_path / "broker.pid").write_text("7")
    assert (BrokerProcess(tmp_path).find() is ending) == runs


def test_broker_that_hangs_is_noticed_and_stopped(tmp_path: Path) -> None:
    with LocalKafka(tmp_path) as broker:
        assert answers(broker)
        pid = broker.pid(1)
        assert pid
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)  # on a busy machine the signal takes a moment
        assert not answers(broker)
        assert broker.dead_nodes() == []
        broker.stop(grace_s=0.5)
        assert is_gone(pid)


def test_a_pid_used_again_by_another_process_is_not_ours(tmp_path: Path) -> None:
    broker = LocalKafka(tmp_path)
    (tmp_path / "node-1").mkdir()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (tmp_path / "node-1" / "broker.pid").write_text(str(stranger.pid))
        assert broker.dead_nodes() == [1]
        broker.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_broker_that_ends_while_starting_says_why(tmp_path: Path) -> None:
    LocalKafka(tmp_path).__enter__().stop()
    meta = tmp_path / "node-1" / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(
        BrokerUnavailable, match=r"broker node 1 ended while starting(.|\n)*Stored node id 7 doesn't match"
    ):
        LocalKafka(tmp_path).start()
    assert LocalKafka(tmp_path).dead_nodes() == [1]


def test_folder_without_a_cluster_is_not_attached_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no local broker"):
        LocalKafka.attach(tmp_path)
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(UserError, match=r"cluster\.json: cannot be read"):
        LocalKafka.attach(tmp_path)


def test_a_transaction_outlives_its_broker(tmp_path: Path) -> None:
    """kafka-python 3.0.12 loses the commit that it is to make while the broker is away, and waits for it for good."""
    with LocalKafka(tmp_path) as local, ThreadPoolExecutor(1) as pool:
        broker = KafkaBroker(local.bootstrap_servers)
        broker.create_topics("r", [UPDATES], 1)
        writer = broker.writer(name="r.w", transactional=True)
        killed = threading.Event()

        def write_and_kill() -> None:
            with writer.transaction():
                writer.send(UPDATES.of("r"), b"k", b"update")
                writer.flush()
                local.kill()
                killed.set()

        committed = pool.submit(write_and_kill)
        assert killed.wait(120)
        local.restart()
        committed.result(timeout=240)
        assert read(local.bootstrap_servers, UPDATES.of("r"), 1) == [b"update"]
        writer.close()
        broker.close()
