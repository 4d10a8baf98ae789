"""Starts and stops a local Apache Kafka of one node or three, as ordinary processes with their data in one folder.

data_dir/cluster.json         cluster id, number of nodes, ports: the same after a restart
data_dir/node-1/data/         what the broker keeps
data_dir/node-1/broker.log    what it says
data_dir/node-1/broker.pid    its process, while it runs
"""

import logging
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from localkafka import cluster as disk
from localkafka.cluster import Cluster
from localkafka.jars import resolve_jars
from localkafka.java import find_java
from localkafka.ports import choose_ports
from localkafka.process import BrokerProcess, wait_until
from localkafka.ready import known_nodes
from localkafka.settings import HEAP_MB, HOST, java_command
from stream.errors import BrokerUnavailable, UserError

log = logging.getLogger(__name__)

_READY_TIMEOUT_S = 120.0
_KILLED_S = 30.0


class LocalKafka:
    """Starts, stops and restarts the brokers of one folder."""

    def __init__(
        self,
        data_dir: Path,
        nodes: int = 1,
        ports: list[int] | None = None,
        heap_mb: int = HEAP_MB,
        detached: bool = False,
        host: str = HOST,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        """`detached` brokers outlive this process; others die with the *thread* that starts them.

        Linux watches the thread, not the process: start and restart them in the main thread, or in one that lives as
        long as they shall. On another `host` than this machine alone everyone who reaches it may do everything: it is for
        networks that are trusted. `properties` of the server replace ours: tests add a listener that asks for logins.
        """
        if nodes not in (1, 3):
            raise UserError(f"nodes: got {nodes}, expected 1 or 3")
        if ports is not None and len(set(ports)) != nodes:
            raise UserError(f"ports: got {ports}, expected as many different ports as nodes, {nodes}")
        self.data_dir = data_dir.absolute()
        self.nodes = list(range(1, nodes + 1))
        self._wanted_ports = ports
        self._heap_mb = heap_mb
        self._detached = detached
        self._host = host
        self._properties = dict(properties or {})
        self._java: list[str] = []
        self._cluster = disk.load(self.data_dir)
        self._processes = {n: BrokerProcess(self.data_dir / f"node-{n}") for n in self.nodes}

    @classmethod
    def attach(cls, data_dir: Path) -> Self:
        """The cluster of a folder as it is, running or not, to look at it or to stop it.

        Raises: UserError where the folder holds none.
        """
        cluster = disk.load(data_dir)
        if cluster is None:
            raise UserError(f"data_dir: {data_dir} holds no local broker, expected the folder of one that was started")
        return cls(data_dir, nodes=len(cluster.ports), detached=True, host=cluster.host)

    @property
    def bootstrap_servers(self) -> str:
        """What a client needs to connect: host:port of every node."""
        if self._cluster is None:
            raise BrokerUnavailable(f"the broker of {self.data_dir} was never started")
        return ",".join(f"{self._cluster.host}:{ports.broker}" for ports in self._cluster.ports.values())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def take_ports(self) -> None:
        """Settle where the nodes will answer, so that others may be told before they do.

        Raises: UserError for a port in use, a folder of another size or one whose brokers run already.
        """
        self._refuse_what_is_there()
        self._cluster = self._choose_cluster()
        disk.save(self.data_dir, self._cluster)

    def start(self) -> None:
        """Start all nodes and return when clients can use every one of them.

        Raises: UserError as `take_ports` does; BrokerUnavailable where a broker ends or does not answer in time.
        """
        java = self._java_command()
        self.take_ports()
        assert self._cluster is not None
        try:
            self._prepare(self._cluster, java)
            for process in self._processes.values():
                process.start(java, die_with_parent=not self._detached)
            for node in self.nodes:
                self._await_ready(node, set(self.nodes))
        except BaseException:
            self.stop(grace_s=0)
            raise

    def stop(self, grace_s: float = 20.0) -> None:
        """End all nodes: SIGTERM, and SIGKILL for what is left after the grace period."""
        if grace_s > 0:
            self._signal_all(signal.SIGTERM)
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            ended = list(pool.map(lambda process: process.wait(grace_s), self._processes.values()))
        if not all(ended):
            self._signal_all(signal.SIGKILL)
            for process in self._processes.values():
                process.wait(_KILLED_S)

    def pid(self, node: int) -> int | None:
        """The process id of a node, None where it does not run."""
        process = self._processes[node].find()
        return process.pid if process else None

    def dead_nodes(self) -> list[int]:
        """The nodes that do not run: what a supervisor has to restart."""
        return [node for node in self.nodes if self.pid(node) is None]

    def stopped_nodes(self) -> list[int]:
        """The nodes that a SIGSTOP holds: they run, and answer nobody."""
        return [node for node in self.nodes if self._processes[node].stopped]

    def last_error(self, node: int = 1) -> str:
        """What a node that has ended gives as its reason, and where it says more."""
        process = self._processes[node]
        return f"{process.last_error()} (see {process.log})"

    def kill(self, node: int = 1) -> None:
        """End one node as a crash would, by SIGKILL."""
        self._processes[node].signal(signal.SIGKILL)
        self._processes[node].wait(_KILLED_S)

    def restart(self, node: int = 1, wait: bool = True) -> None:
        """Start one node again on its port and data, ending it first if it runs.

        Returns when it answers, or at once without `wait`, for a supervisor that has others to look after.
        """
        process = self._processes[node]
        process.signal(signal.SIGTERM)
        if not process.wait(20):
            self.kill(node)
        process.start(self._java_command(), die_with_parent=not self._detached)
        if wait:
            self._await_ready(node, {node})

    def _refuse_what_is_there(self) -> None:
        if self._cluster and len(self._cluster.ports) != len(self.nodes):
            raise UserError(
                f"nodes: got {len(self.nodes)}, expected {len(self._cluster.ports)}, the size of the cluster in "
                f"{self.data_dir}; ask for that, or take another folder"
            )
        running = [pid for pid in map(self.pid, self.nodes) if pid]
        if running:
            raise UserError(
                f"data_dir: {self.data_dir} is in use by a running broker (pid {running[0]}), expected a folder "
                f"whose broker is stopped; use that broker, at {self.bootstrap_servers}, or stop it with "
                "`rucksack broker stop`"
            )

    def _java_command(self) -> list[str]:
        self._java = self._java or java_command(find_java(), resolve_jars(), self._heap_mb)
        return self._java

    def _choose_cluster(self) -> Cluster:
        before = self._cluster
        ports = choose_ports(self.nodes, self._wanted_ports, before.ports if before else None)
        cluster_id = before.cluster_id if before else disk.new_cluster_id()
        return Cluster(cluster_id=cluster_id, ports=ports, host=self._host)

    def _prepare(self, cluster: Cluster, java: list[str]) -> None:
        """Format what is new, all nodes at the same time: most of it is Java starting."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            folders = [process.folder for process in self._processes.values()]
            prepare = partial(disk.prepare_node, cluster=cluster, java=java, own=self._properties)
            list(pool.map(prepare, folders, self.nodes))

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            process.signal(number)

    def _await_ready(self, node: int, expected: set[int]) -> None:
        """Wait until the node answers and knows the expected nodes."""
        assert self._cluster is not None
        port, process = self._cluster.ports[node].broker, self._processes[node]
        if not wait_until(
            lambda: process.find() is None or known_nodes(port, self._host) >= expected, _READY_TIMEOUT_S
        ):
            raise BrokerUnavailable(f"broker node {node}: no answer within {_READY_TIMEOUT_S:.0f} s; see {process.log}")
        if process.find() is None:
            raise BrokerUnavailable(
                f"broker node {node} ended while starting; {process.log} says:\n{process.last_error()}"
            )
