"""Keeps one run going until it is over: workers, broker, screen, and the requests of `status`, `scale` and `down`."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra.board import Board
from infra.board_reader import BoardReader
from infra.broker_nodes import BrokerNodes
from infra.control import Control
from infra.placement import SCALABLE, Placement
from infra.screen import Screen
from infra.supervisor import Supervisor
from localkafka.local import LocalKafka
from stream.broker import Broker
from stream.config import Config
from stream.errors import UserError
from stream.launch import Stop

log = logging.getLogger(__name__)

STEP_S = 0.2
MAX_REPLICAS = 1024
ASKED_DOWN = 130
"""Exit code after `rucksack down`, the same as after Ctrl-C."""
ROLE_NAMES = {f"{role}s": role for role in SCALABLE} | {role: role for role in SCALABLE}


class Run:
    """One run under supervision."""

    def __init__(self, config: Config, placement: Placement, folder: Path, screen: Screen) -> None:
        self._config = config
        self._placement = placement
        self._folder = folder
        self._screen = screen
        self._board = Board(config.run.name, config.run.num_updates)
        self._supervisor = Supervisor(config.up, self._say)
        self._broker_nodes: BrokerNodes | None = None
        self._asked_down = False

    def start_producers(self) -> None:
        """Start those that take longest to start, before there is a broker, which they wait for. Not for a run that may be done."""
        if not (self._config.run.path / "model").is_dir():
            for spec in self._placement.initial():
                if spec.role == "producer":
                    self._supervisor.add(spec)

    def kill(self) -> None:
        """SIGKILL to the workers that still run: the run ends before it has begun."""
        self._supervisor.kill_all()

    def until_over(self, broker: Broker, kafka: LocalKafka | None, stop: Stop) -> int:
        """Start the workers and keep them going until the run has ended; returns the exit code.

        Args:
            kafka: the run's own broker, which is restarted when it dies; None for a broker that others look after.

        """
        if kafka is not None:
            self._broker_nodes = BrokerNodes(kafka, self._config.up, self._say)
        board_reader = BoardReader(broker, self._board)
        with Control(self._folder) as control, self._screen:
            try:
                for spec in self._placement.initial():
                    if spec.name not in self._supervisor.workers:
                        self._supervisor.add(spec)
                while not (self._over or self._failure or stop.is_set() or self._asked_down):
                    self._step(control, board_reader)
                    stop.wait(STEP_S)
                board_reader.step()
                self._show()
                if stop.is_set():
                    self._say("stopping (Ctrl-C again: at once)")
            finally:
                self._supervisor.stop(self._config.up.stop_timeout_s)
                board_reader.close()
            self._say(self._ending(stop))
        if self._failure:
            return 1
        return 128 + stop.signal if stop.signal else ASKED_DOWN if self._asked_down else 0

    def _step(self, control: Control, board_reader: BoardReader) -> None:
        self._supervisor.step(endless=SCALABLE)
        if self._broker_nodes is not None:
            self._broker_nodes.step()
        board_reader.step()
        self._kill_silent_workers()
        control.poll(self.answer)
        self._show()

    def _show(self) -> None:
        self._screen.show(self._board, self._supervisor.rows())

    def _kill_silent_workers(self) -> None:
        """Kill workers that run and send no heartbeat: they hang."""
        for name, pid in self._supervisor.running():
            silent_s = self._board.silent_s(name, pid)
            if silent_s > self._config.up.hang_s:
                self._supervisor.kill(name, f"has sent no heartbeat for {silent_s:.0f} s")

    @property
    def _over(self) -> bool:
        """Whether every worker that comes to an end by itself has done so."""
        workers = self._supervisor.workers.values()
        return all(worker.done for worker in workers if worker.spec.role not in SCALABLE)

    @property
    def _failure(self) -> str | None:
        """Why the run cannot go on."""
        return self._supervisor.failure or (self._broker_nodes.failure if self._broker_nodes is not None else None)

    def _ending(self, stop: Stop) -> str:
        name = self._config.run.name
        if self._failure:
            return f"run {name} given up: {self._failure}"
        if stop.is_set() or self._asked_down:
            return f"run {name} stopped at update {self._board.step}; the same command resumes it"
        return f"run {name} is done"

    def _say(self, text: str) -> None:
        log.info("%s", text)
        self._screen.say(text)

    # -- requests -----------------------------------------------------------------------------------------------------

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request that came over the control socket.

        Raises:
            UserError: it cannot be met.

        """
        command = request.get("command")
        if command == "status":
            return {"status": self._board.status(), "workers": [asdict(row) for row in self._supervisor.rows()]}
        if command == "scale":
            return self._scale(request.get("role"), request.get("replicas"))
        if command == "down":
            self._asked_down = True
            return {"stopping": self._config.run.name}
        raise UserError(f"command is {command!r}; want status, scale or down")

    def _scale(self, role_name: object, replicas: object) -> dict[str, Any]:
        role = ROLE_NAMES.get(str(role_name))
        if role is None:
            raise UserError(f"role is {role_name!r}; want producers or verifiers: every other role has one worker")
        if not isinstance(replicas, int) or not 0 <= replicas <= MAX_REPLICAS:
            raise UserError(f"{role}s={replicas!r}; want a whole number from 0 to {MAX_REPLICAS}")
        most = self._config.broker.partitions
        workers = self._supervisor.of_role(role)
        if replicas > max(most, len(workers)):
            raise UserError(
                f"{role}s={replicas}; want at most {most}, which is broker.partitions: no more have work. Start a new run with more "
                "partitions"
            )
        for index in self._free_indices(role, replicas - len(workers)):
            self._supervisor.add(self._placement.spec(role, index))
        for worker in workers[replicas:]:
            self._supervisor.remove(worker.spec.name)
        self._say(f"{role}s: {len(workers)} -> {replicas}")
        return {"role": role, "before": len(workers), "replicas": replicas}

    def _free_indices(self, role: str, count: int) -> Sequence[int]:
        """The lowest `count` indices that no worker of the role has, one that is stopping included; none if count <= 0."""
        taken = {worker.spec.index for worker in self._supervisor.workers.values() if worker.spec.role == role}
        free = [index for index in range(len(taken) + max(0, count)) if index not in taken]
        return free[: max(0, count)]
