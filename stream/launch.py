"""Starts one role as a process: configuration, logging, broker, signals, exit code.

rucksack learner configs/demo.toml --learner.lr 3e-4        or        python -m learner configs/demo.toml
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

from stream.broker import Broker
from stream.command import exit_code_of
from stream.config import Config, help_text, load
from stream.errors import BrokerUnavailable, UserError
from stream.metrics import serve
from stream.run_topics import RunTopics
from stream.topics import kept_for, topics_of

log = logging.getLogger(__name__)

ADDRESS_FILE = "broker.address"
"""In a run's folder: where its local broker answers, written by whoever started it."""
KAFKA_FOLDER = "kafka"
"""In a run's folder: what its local broker keeps."""
WORKER_VARIABLE = "RUCKSACK_WORKER"
"""Environment variable with the worker's name, set by the supervisor."""
METRICS_VARIABLE = "RUCKSACK_METRICS_PORT"
"""Environment variable with the port of the worker's Prometheus endpoint; none without it."""

PATIENCE_S = 30.0
"""For how long a role asks again what a broker that has lost a node does not answer. Not `up`, which has to restart the node."""
PORT_S = 0.05
"""Between two looks whether a local broker listens."""
SAME_PRESS_S = 0.5
"""One Ctrl-C may come twice: from the terminal, and from a parent that passes it on."""

RoleMain = Callable[[Config, RunTopics, threading.Event], None]


def run_role(
    role: str, main: RoleMain, argv: Sequence[str] | None = None, prepare: Callable[[], None] | None = None
) -> int:
    """Run one role to its end; returns the process's exit code.

    0 done, 2 a user's mistake, 3 no broker, 4 fenced, 130 or 143 stopped by SIGINT or SIGTERM before it was done.

    Args:
        main: takes the configuration, the run's topics and an event that is set on SIGTERM and SIGINT.
        prepare: called before the broker is waited for, where `up` has started the process.

    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    worker = os.environ.get(WORKER_VARIABLE) or f"{role}-{socket.gethostname()}-{os.getpid()}"
    set_up_logging()
    return exit_code_of(role, lambda: _run_role(role, worker, main, arguments, prepare))


def _run_role(role: str, worker: str, main: RoleMain, arguments: list[str], prepare: Callable[[], None] | None) -> int:
    stop = stop_on_signals()
    if {"-h", "--help"} & set(arguments):
        print(help_text(f"rucksack {role} CONFIG"))
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise UserError(f"{role} got no configuration file; usage: rucksack {role} CONFIG [--table.key VALUE ...]")
    config = load(arguments[0], arguments[1:])
    if prepare is not None and WORKER_VARIABLE in os.environ:
        prepare()
    broker = connect(config, patience_s=PATIENCE_S)
    broker.create_topics(
        config.run.name, kept_for(config.broker.answers_hours, topics_of(role)), config.broker.partitions
    )
    topics = RunTopics(broker, config.run.name, worker)
    if METRICS_VARIABLE in os.environ:
        topics.metrics = serve(int(os.environ[METRICS_VARIABLE]), worker, config.up.hang_s)
    log.info("started worker=%s run=%s pid=%d", worker, config.run.name, os.getpid())
    try:
        main(config, topics, stop)
    except OSError:
        log.exception("the system refused something")  # only one line is printed: keep the traceback in the log
        raise
    topics.writer.close()
    log.info("ended worker=%s", worker)
    return 128 + stop.signal if stop.signal else 0


def connect(config: Config, patience_s: float = 0.0) -> Broker:
    """The run's broker: the configured one, or the local one whose address is in the run's folder.

    Args:
        patience_s: for how long it is asked again what it does not answer.

    Raises:
        BrokerUnavailable: nothing answers within broker.timeout_s, or no local broker was started.

    """
    from stream.kafka import KafkaBroker

    servers = config.broker.bootstrap_servers
    address = config.run.path / ADDRESS_FILE
    deadline = time.monotonic() + config.broker.timeout_s
    if not servers and address.is_file():
        servers = address.read_text().strip()
        _await_port(servers, deadline)
    if not servers:
        raise BrokerUnavailable(
            f"run {config.run.name} has no broker: broker.bootstrap_servers is empty and {address} does not exist; "
            "use `rucksack up`, or start one with `rucksack broker start` and give its address"
        )
    while True:
        try:
            return KafkaBroker(
                servers, config.broker.settings, timeout_s=min(10.0, config.broker.timeout_s), patience_s=patience_s
            )
        except BrokerUnavailable:
            if time.monotonic() > deadline:
                raise


def _await_port(servers: str, deadline: float) -> None:
    """Return when something listens at one of these addresses, or it is too late: `up` tells of a broker that is still starting.

    kafka-python would write a line for every attempt.
    """
    while time.monotonic() < deadline:
        for server in servers.split(","):
            host, _, port = server.rpartition(":")
            try:
                socket.create_connection((host, int(port)), timeout=1.0).close()
            except OSError:
                continue
            return
        time.sleep(PORT_S)


class Stop(threading.Event):
    """Set by SIGTERM and SIGINT."""

    signal: int = 0
    """The first that came; 0 if none has."""
    came: float = 0.0
    """When, on the monotonic clock."""


def stop_on_signals() -> Stop:
    """An event that SIGTERM and SIGINT set. A second Ctrl-C ends the process at once, whatever it waits for."""
    stop = Stop()

    def note(number: int, _: object) -> None:
        now = time.monotonic()
        if stop.signal == number == signal.SIGINT and now - stop.came > SAME_PRESS_S:
            _end_at_once()
        if not stop.signal:
            stop.signal, stop.came = number, now
        stop.set()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, note)
    return stop


def _end_at_once() -> None:
    """End as if killed; what the process has started ends with it."""
    show_cursor = "\033[?25h" if sys.stderr.isatty() else ""
    print(
        f"{show_cursor}\nended at once; nothing is lost: what was not yet committed is done again after a restart",
        file=sys.stderr,
        flush=True,
    )
    os._exit(128 + signal.SIGINT)


def set_up_logging() -> None:
    """Log lines to standard error: time, level, module, key=value."""
    logging.basicConfig(
        level=os.environ.get("RUCKSACK_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("kafka").setLevel(logging.WARNING)
