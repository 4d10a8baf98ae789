"""Nodes of a run's own broker that stand still."""

import os
import signal
import time
from pathlib import Path

import pytest

from infra import broker_nodes
from infra.broker_nodes import BrokerNodes
from localkafka.local import LocalKafka
from localkafka.process import wait_until
from stream.config import UpTable
from stream.kafka import KafkaBroker


class Stopped:
    """Two nodes, of which some are stopped."""

    def __init__(self) -> None:
        self.stopped: list[int] = []
        self.killed: list[int] = []

    def dead_nodes(self) -> list[int]:
        return []

    def stopped_nodes(self) -> list[int]:
        return self.stopped

    def pid(self, node: int) -> int:
        return 100 + node

    def kill(self, node: int) -> None:
        self.killed.append(node)
        self.stopped = [other for other in self.stopped if other != node]


def test_a_node_that_goes_on_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kafka, events = Stopped(), []
    nodes = BrokerNodes(kafka, UpTable(), events.append)  # type: ignore[arg-type]
    kafka.stopped = [2]
    nodes.step()
    assert events == [
        "broker node 2 is stopped (SIGSTOP): killed and restarted in 20 s unless it goes on (kill -CONT 102)"
    ]
    now, kafka.stopped = 19.0, []
    nodes.step()
    now, kafka.stopped = 25.0, [2]  # again: the time begins anew
    nodes.step()
    now = 44.0
    nodes.step()
    assert kafka.killed == []
    now = 45.0
    nodes.step()
    assert kafka.killed == [2]
    assert len(events) == 2


class Unstartable(Stopped):
    """A node that is dead, on a disk that is full for its first starts."""

    def __init__(self, full_for: int) -> None:
        super().__init__()
        self.full_for, self.starts = full_for, 0

    def dead_nodes(self) -> list[int]:
        return [] if self.starts > self.full_for else [2]

    def restart(self, node: int, wait: bool) -> None:
        self.starts += 1
        if self.starts <= self.full_for:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("full_for", "failure"), [(2, None), (9, "broker node 2 keeps dying; it cannot be started")])
def test_a_node_on_a_full_disk_is_tried_again(
    full_for: int, failure: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kafka, events = Unstartable(full_for), []
    nodes = BrokerNodes(kafka, UpTable(max_restarts=4), events.append)  # type: ignore[arg-type]
    while nodes.failure is None and kafka.dead_nodes():
        nodes.step()
        now += 1.0
    assert nodes.failure is failure or (failure and nodes.failure and nodes.failure.startswith(failure))
    assert events[:2] == [
        "broker node 2 died; restarted in 1.0 s",
        "broker node 2 cannot be started ([Errno 28] No space left on device); restarted in 2.0 s",
    ]


@pytest.mark.kafka
def test_a_broker_that_is_stopped_is_noticed_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_nodes, "STOPPED_S", 0.2)
    events: list[str] = []
    with LocalKafka(tmp_path / "kafka") as kafka:
        nodes = BrokerNodes(kafka, UpTable(backoff_s=0.1), events.append)
        first = kafka.pid(1)
        assert first is not None
        nodes.step()
        os.kill(first, signal.SIGSTOP)

        def is_replaced() -> bool:
            nodes.step()
            return kafka.pid(1) not in (first, None)

        assert wait_until(is_replaced, 60)
        KafkaBroker(kafka.bootstrap_servers, timeout_s=60).close()  # it answers
    assert [event.split(" (")[0].split(";")[0] for event in events] == [
        "broker node 1 is stopped", "broker node 1 died",
    ]  # fmt: skip
