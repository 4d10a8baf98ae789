"""Finds the broker that holds a run's topics: the one that answers now, or the run's own, started while it is read.

A port found in a run's folder may by now belong to the broker of another run, so an address counts only if the run's
topics are there.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stream.broker import Broker
from stream.errors import BrokerUnavailable, UserError
from stream.launch import ADDRESS_FILE, KAFKA_FOLDER
from stream.topics import UPDATES

log = logging.getLogger(__name__)

_QUICK_S = 5.0


@dataclass(frozen=True, slots=True)
class Location:
    """Where to look for runs and brokers, as the command line has it."""

    folder: Path
    """Holds the runs' folders."""
    bootstrap_servers: str = ""
    """Broker to read from; empty finds it by the run's folder."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """For kafka-python: SASL, TLS, ..."""

    def path_of(self, run: str) -> Path:
        """Folder of a run, given by name or as a path."""
        named = self.folder / run
        return Path(run) if not named.is_dir() and Path(run).is_dir() else named


@contextmanager
def open_run(location: Location, run: str, *, start: bool = True) -> Iterator[tuple[Broker, str, Path]]:
    """The run's broker, its name in the topics, and its folder.

    Args:
        start: start the run's own broker if none answers, and stop it on leaving.

    Raises:
        UserError: there is no such run.
        BrokerUnavailable: its broker does not answer and cannot be started here, or is not to be.

    """
    path = location.path_of(run)
    name = path.resolve().name
    if location.bootstrap_servers:
        with _closing(_connect(location.bootstrap_servers, location.settings, 30.0)) as broker:
            if not _holds(broker, name):
                raise UserError(f"run {name!r} has no topics at {location.bootstrap_servers}{_hint(location)}")
            yield broker, name, path
        return
    if not path.is_dir():
        raise UserError(f"there is no run {run!r} in {location.folder}{_hint(location)}")
    answering = _answering(location, path, name)
    if answering is not None:
        with _closing(answering):
            yield answering, name, path
        return
    if not start:
        raise BrokerUnavailable(f"the broker of run {name} does not answer")
    with _started(location, path) as broker:
        yield broker, name, path


def known_runs(folder: Path) -> list[str]:
    """Names of the runs in a folder."""
    if not folder.is_dir():
        return []
    marks = (ADDRESS_FILE, KAFKA_FOLDER)
    return sorted(path.name for path in folder.iterdir() if any((path / mark).exists() for mark in marks))


def _hint(location: Location) -> str:
    runs = known_runs(location.folder)
    return (
        f"; runs in {location.folder}: {', '.join(runs)}" if runs else f"; {location.folder} holds no runs (see --dir)"
    )


def _answering(location: Location, path: Path, name: str) -> Broker | None:
    for servers in _addresses(path):
        try:
            broker = _connect(servers, location.settings, _QUICK_S)
        except BrokerUnavailable:
            log.debug("no broker answers address=%s", servers)
            continue
        if _holds(broker, name):
            return broker
        broker.close()
    return None


def _addresses(path: Path) -> Iterator[str]:
    if (path / ADDRESS_FILE).is_file():
        yield (path / ADDRESS_FILE).read_text().strip()
    if (path / KAFKA_FOLDER / "cluster.json").is_file():
        from localkafka.local import LocalKafka

        cluster = LocalKafka.attach(path / KAFKA_FOLDER)
        if len(cluster.dead_nodes()) < len(cluster.nodes):
            yield cluster.bootstrap_servers


@contextmanager
def _started(location: Location, path: Path) -> Iterator[Broker]:
    from localkafka.local import LocalKafka

    if not (path / KAFKA_FOLDER / "cluster.json").is_file():
        raise BrokerUnavailable(
            f"the broker of run {path.name} does not answer and {path / KAFKA_FOLDER} holds no local one to start; "
            "give its address with --bootstrap-servers, or its recipe with --config"
        )
    nodes = len(LocalKafka.attach(path / KAFKA_FOLDER).nodes)
    kafka = LocalKafka(path / KAFKA_FOLDER, nodes=nodes)
    with kafka, _closing(_connect(kafka.bootstrap_servers, location.settings, 30.0)) as broker:
        yield broker


def _connect(servers: str, settings: Mapping[str, Any], timeout_s: float) -> Broker:
    from stream.kafka import KafkaBroker

    return KafkaBroker(servers, settings, timeout_s=timeout_s)


def _holds(broker: Broker, run: str) -> bool:
    return bool(broker.partitions(UPDATES.of(run)))


@contextmanager
def _closing(broker: Broker) -> Iterator[Broker]:
    try:
        yield broker
    finally:
        broker.close()
