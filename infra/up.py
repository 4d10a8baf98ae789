"""Runs `rucksack up CONFIG`: checks, broker, workers, screen, report; answers `status`, `scale` and `down` meanwhile."""

import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from infra.board import Board
from infra.control import Control
from infra.placement import SCALABLE, Placement, visible_gpus
from infra.restarts import Restarts
from infra.run_folder import claimed
from infra.screen import Screen, WorkerRow, screen_for
from infra.supervisor import Supervisor
from localkafka.local import LocalKafka
from prompts.sources import load_prompts
from stream.broker import Broker, Reader
from stream.codec import decode
from stream.config import Config, load
from stream.errors import BadRecord, BrokerUnavailable, RucksackError, UserError
from stream.launch import ADDRESS_FILE, KAFKA_FOLDER, Stop, connect, stop_on_signals
from stream.snapshot import messages
from stream.topics import EVALUATIONS, HEARTBEATS, JOBS, TOPICS, TRAJECTORIES, UPDATES, topic_of

log = logging.getLogger(__name__)

CONSUMER_GROUPS = {JOBS: "producers", TRAJECTORIES: "verifiers"}
LAG_EVERY_S = 2.0
ALIASES = {f"{role}s": role for role in SCALABLE} | {role: role for role in SCALABLE}


def up(recipe: Path, overrides: Sequence[str], console: Console) -> int:
    """Run a recipe to its end; returns the exit code (0 done, 1 given up, 130 or 143 stopped by a signal).

    Raises:
        UserError: something that the recipe names is not there or not as it must be.
        BrokerUnavailable: the broker does not answer.

    """
    config = load(recipe, list(overrides))
    check(config)
    stop = stop_on_signals()
    with ExitStack() as stack:
        folder = stack.enter_context(claimed(config))
        stack.enter_context(logging_to(folder / "logs" / "up.log"))
        kafka = stack.enter_context(local_broker(config, folder, console))
        broker = connect(config)
        stack.callback(broker.close)
        broker.create_topics(config.run.name, TOPICS, config.broker.partitions)
        if is_done(config, broker):
            text = f"run {config.run.name} is done already: nothing is started; choose another run.name to train again"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
            report(config, broker, folder, console)
            return 0
        placement = Placement(config, recipe, overrides, visible_gpus())
        run = Run(config, broker, kafka, placement, folder, screen_for(console))
        code = run.until_over(stop)
        if code == 0:
            report(config, broker, folder, console)
        return code


def is_done(config: Config, broker: Broker) -> bool:
    """Whether the last update is made, the model saved, and, where there is an evaluator, its last evaluations there."""
    name = config.run.name
    if not (config.run.path / "model").is_dir() or not any(u.final for u in messages(broker, name, UPDATES)):
        return False
    wanted = {"heldout", "pool"} if config.evaluator.pool else {"heldout"}
    found = {evaluation.name for evaluation in messages(broker, name, EVALUATIONS) if evaluation.final}
    return not config.evaluator.enabled or wanted <= found


def check(config: Config) -> None:
    """Find what is missing before anything is started.

    Raises:
        UserError: no such model, no prompts, a prompt without an answer, ...

    """
    from verifier.graders import check_name

    if not (Path(config.run.model) / "config.json").is_file():
        raise UserError(
            f"run.model is {config.run.model!r}, which is not a folder with a config.json; want a model in transformers' "
            "format, e.g. demo/base (paths are relative to the current folder; one from the hub is put into a folder by "
            "`hf download NAME --local-dir FOLDER`)"
        )
    pool, heldout = load_prompts(config)
    for grader in sorted({prompt.grader for prompt in (*pool, *heldout)}):
        check_name(grader)
    if config.evaluator.enabled and not heldout:
        raise UserError(
            f"there is no held-out prompt to evaluate on: prompts.num_heldout is {config.prompts.num_heldout}, and of a "
            "file no more than a fifth is held out; give more prompts, prompts.heldout_source, or evaluator.enabled = false"
        )


@contextmanager
def logging_to(file: Path) -> Iterator[None]:
    """Send our own log lines to a file while inside: the terminal is for the screen."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    before, level = root.handlers, root.level
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("kafka").setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers = before
        root.setLevel(level)
        handler.close()


@contextmanager
def local_broker(config: Config, folder: Path, console: Console) -> Iterator[LocalKafka | None]:
    """The run's own broker while inside, its address in the run's folder; None where the recipe names another one."""
    if config.broker.bootstrap_servers:
        console.print(f"broker: {config.broker.bootstrap_servers} (given)", markup=False, highlight=False)
        yield None
        return
    address = folder / ADDRESS_FILE
    nodes = f"{config.broker.nodes} node" + ("s" if config.broker.nodes > 1 else "")
    kafka = LocalKafka(folder / KAFKA_FOLDER, config.broker.nodes)
    with console.status(f"starting a local Kafka broker ({nodes})"):
        kafka.start()
    try:
        address.write_text(kafka.bootstrap_servers)
        console.print(
            f"broker: local Apache Kafka, {nodes}, at {kafka.bootstrap_servers}", markup=False, highlight=False
        )
        yield kafka
    finally:
        kafka.stop()
        address.unlink(missing_ok=True)


class Run:
    """One run under supervision."""

    def __init__(
        self,
        config: Config,
        broker: Broker,
        kafka: LocalKafka | None,
        placement: Placement,
        folder: Path,
        screen: Screen,
    ) -> None:
        self._config = config
        self._broker = broker
        self._kafka = kafka
        self._placement = placement
        self._folder = folder
        self._screen = screen
        self._board = Board(config.run.name, config.run.num_updates)
        self._supervisor = Supervisor(config.up, self._say)
        self._next_lag = 0.0
        table = config.up
        self._node_restarts: dict[int, Restarts] = defaultdict(
            lambda: Restarts(table.max_restarts, table.restart_window_s, table.backoff_s)
        )
        self._node_due: dict[int, float] = {}
        """Broker nodes that are dead, and when each is started again."""
        self._asked_down = False

    def until_over(self, stop: Stop) -> int:
        """Start the workers and keep them going until the run has ended; returns the exit code."""
        reader = self._broker.reader([topic.of(self._config.run.name) for topic in (UPDATES, EVALUATIONS, HEARTBEATS)])
        with Control(self._folder) as control, self._screen:
            try:
                for spec in self._placement.initial():
                    self._supervisor.add(spec)
                while not (self._over or self._supervisor.failure or stop.is_set() or self._asked_down):
                    self._supervisor.step(endless=SCALABLE)
                    self._watch_broker()
                    self._follow(reader)
                    self._watch_for_hangs()
                    control.poll(self._handle)
                    self._screen.show(self._board, self._rows())
                    stop.wait(0.2)
                self._follow(reader)
                self._screen.show(self._board, self._rows())
                if stop.is_set():
                    self._say("stopping (Ctrl-C again: at once)")
            finally:
                self._supervisor.stop(self._config.up.stop_timeout_s)
                reader.close()
            self._say(self._ending(stop))
        if self._supervisor.failure:
            return 1
        return 128 + stop.signal if stop.signal else 130 if self._asked_down else 0

    @property
    def _over(self) -> bool:
        """Whether all that has an end has come to it."""
        ending = [worker for worker in self._supervisor.workers.values() if worker.spec.role not in SCALABLE]
        return all(worker.done for worker in ending)

    def _ending(self, stop: Stop) -> str:
        if self._supervisor.failure:
            return f"run {self._config.run.name} given up: {self._supervisor.failure}"
        if stop.is_set() or self._asked_down:
            return f"run {self._config.run.name} stopped at update {self._board.step}; the same command resumes it"
        return f"run {self._config.run.name} is done"

    def _say(self, text: str) -> None:
        log.info("%s", text)
        self._screen.say(text)

    # -- what is watched ----------------------------------------------------------------------------------------------

    def _watch_broker(self) -> None:
        if self._kafka is None:
            return
        for node in self._kafka.dead_nodes():
            if node not in self._node_due:
                self._note_dead(self._kafka, node)
            elif time.monotonic() >= self._node_due[node]:
                del self._node_due[node]
                try:
                    self._kafka.restart(node, wait=False)
                except OSError as error:  # a full disk
                    self._supervisor.failure = f"broker node {node} cannot be started: {error}"

    def _note_dead(self, kafka: LocalKafka, node: int) -> None:
        delay = self._node_restarts[node].delay_s(time.monotonic())
        if delay is None:  # a full disk, a broken log: restarting would go on for ever
            self._supervisor.failure = f"broker node {node} keeps dying; it says: {kafka.last_error(node)}"
            return
        self._node_due[node] = time.monotonic() + delay
        self._say(f"broker node {node} died; restarted in {delay:.1f} s")

    def _watch_for_hangs(self) -> None:
        for name, worker in self._supervisor.workers.items():
            if worker.process is None or worker.leaving or worker.process.poll() is not None:
                continue
            silent_s = self._board.silent_s(name, worker.process.pid)
            if silent_s > self._config.up.hang_s:
                self._supervisor.kill(name, f"has sent no heartbeat for {silent_s:.0f} s")

    def _follow(self, reader: Reader) -> None:
        try:
            for record in reader.poll(0.0):
                with contextlib.suppress(BadRecord):  # the role that reads it sends it to `deadletters`
                    self._board.note(decode(record.value, topic_of(record.topic).message_type))
            if time.monotonic() >= self._next_lag:
                self._next_lag = time.monotonic() + LAG_EVERY_S
                self._board.lag = {topic.name: self._lag(topic.name, group) for topic, group in CONSUMER_GROUPS.items()}
        except BrokerUnavailable as error:  # the workers wait for it, and so do we
            log.warning("broker does not answer error=%s", error)

    def _lag(self, topic: str, consumer_group: str) -> int:
        name = f"{self._config.run.name}.{topic}"
        done = self._broker.group_offsets(f"{self._config.run.name}.{consumer_group}")
        ends = self._broker.end_offsets(name)
        return sum(max(0, end - done.get((name, partition), 0)) for partition, end in ends.items())

    def _rows(self) -> list[WorkerRow]:
        now = time.monotonic()
        return [
            WorkerRow(
                name=name,
                state=worker.state,
                pid=worker.process.pid if worker.process else None,
                uptime_s=now - worker.started,
                restarts=worker.restarts.total,
            )
            for name, worker in sorted(self._supervisor.workers.items())
        ]

    # -- what is asked ------------------------------------------------------------------------------------------------

    def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        command = request.get("command")
        if command == "status":
            rows = [
                {
                    "name": row.name,
                    "state": row.state,
                    "pid": row.pid,
                    "uptime_s": row.uptime_s,
                    "restarts": row.restarts,
                }
                for row in self._rows()
            ]
            return {"status": self._board.status(), "workers": rows}
        if command == "scale":
            return self._scale(request.get("role"), request.get("replicas"))
        if command == "down":
            self._asked_down = True
            return {"stopping": self._config.run.name}
        raise UserError(f"command is {command!r}; want status, scale or down")

    def _scale(self, role_name: object, replicas: object) -> dict[str, Any]:
        role = ALIASES.get(str(role_name))
        if role is None:
            raise UserError(f"role is {role_name!r}; want producers or verifiers: of the others there is one")
        if not isinstance(replicas, int) or not 0 <= replicas <= 1024:
            raise UserError(f"{role}s={replicas!r}; want a whole number from 0 to 1024")
        workers = self._supervisor.of_role(role)
        taken = {w.spec.index for w in self._supervisor.workers.values() if w.spec.role == role}
        free = (index for index in range(len(taken) + replicas + 1) if index not in taken)
        for _ in range(replicas - len(workers)):
            self._supervisor.add(self._placement.spec(role, next(free)))
        for worker in workers[replicas:]:
            self._supervisor.remove(worker.spec.name)
        self._say(f"{role}s: {len(workers)} -> {replicas}")
        reply: dict[str, Any] = {"role": role, "before": len(workers), "replicas": replicas}
        if replicas > self._config.broker.partitions:
            reply["warning"] = (
                f"the topics have {self._config.broker.partitions} partitions: no more {role}s than that have work "
                "(broker.partitions, for a new run)"
            )
        return reply


def report(config: Config, broker: Broker, folder: Path, console: Console) -> None:
    """The report and the summary of a run that is over."""
    from replay.load import read_run
    from replay.report import write_report
    from replay.summary import print_summary, summarize

    try:
        data = read_run(broker, config.run.name)
        if config.up.report:
            with console.status("writing the report"):
                write_report([data], folder / "report.html")
        print_summary(summarize(data, folder), console)
    except RucksackError as error:
        console.print(f"no report: {error}; try `rucksack replay report {config.run.name}`", markup=False)
