"""Starts workers as processes, watches them, restarts those that die, and leaves none behind."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.placement import WorkerSpec
from infra.restarts import Restarts
from stream.config import UpTable
from stream.errors import Fenced, UserError
from stream.parent_death import command_that_dies_with_parent

log = logging.getLogger(__name__)

FINAL_EXIT_CODES = (UserError.exit_code, Fenced.exit_code)
"""Exit codes of workers that are not restarted: they would end the same way."""
NUM_LOG_LINES = 3
STOPPED_S = 5.0
"""A stopped worker is killed so much later than one whose heartbeats are missed: they say more."""


@dataclass(slots=True)
class Worker:
    """One worker and its process, if it has one."""

    spec: WorkerSpec
    restarts: Restarts
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    start_at: float | None = None
    """When it is started again; None while it runs or is over."""
    exit_code: int | None = None
    """Exit code of the last process."""
    leaving: bool = False
    """It was told to stop, and is forgotten once it has."""
    stopped_at: float | None = None
    """When a SIGSTOP was noticed that holds it."""
    log_start: int = field(default=0)

    @property
    def done(self) -> bool:
        """Its part in the run is over."""
        return self.process is None and self.start_at is None and self.exit_code == 0

    @property
    def state(self) -> str:
        """running, waiting (for its restart), stopping, done, failed."""
        if self.process is not None:
            return "stopping" if self.leaving else "running"
        if self.start_at is not None:
            return "waiting"
        return "done" if self.exit_code == 0 else "failed"


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as people see it."""

    name: str
    state: str
    pid: int | None
    uptime_s: float
    restarts: int


class Supervisor:
    """The workers of one run. To be used from the main thread: workers are killed when the thread that started them ends."""

    def __init__(self, table: UpTable, say: Callable[[str], None]) -> None:
        """`say` tells people what happened."""
        self._table = table
        self._say = say
        self.workers: dict[str, Worker] = {}
        self.failure: str | None = None
        """Why the run cannot go on."""

    def add(self, spec: WorkerSpec) -> None:
        """Start one more worker."""
        table = self._table
        restarts = Restarts(table.max_restarts, table.restart_window_s, table.backoff_s, table.healthy_s)
        worker = Worker(spec, restarts)
        self.workers[spec.name] = worker
        self._start(worker)

    def remove(self, name: str) -> None:
        """Tell a worker to stop for good; what it had under way goes to the others."""
        worker = self.workers[name]
        worker.leaving, worker.start_at = True, None
        _signal(worker, signal.SIGTERM)
        if worker.process is None:
            del self.workers[name]

    def of_role(self, role: str) -> list[Worker]:
        """The workers of a role that are to stay, by index."""
        workers = [w for w in self.workers.values() if w.spec.role == role and not w.leaving]
        return sorted(workers, key=lambda worker: worker.spec.index)

    def running(self) -> list[tuple[str, int]]:
        """(name, pid) of the workers that run and are to stay."""
        return [
            (name, worker.process.pid)
            for name, worker in self.workers.items()
            if worker.process is not None and not worker.leaving and worker.process.poll() is None
        ]

    def rows(self) -> list[WorkerRow]:
        """All workers, by name."""
        now = time.monotonic()
        return [
            WorkerRow(
                name=name,
                state=worker.state,
                pid=worker.process.pid if worker.process else None,
                uptime_s=now - worker.started,
                restarts=worker.restarts.total,
            )
            for name, worker in sorted(self.workers.items())
        ]

    def step(self, *, endless: Iterable[str] = ()) -> None:
        """Notice workers that died or are held by a SIGSTOP, and start those whose back-off is over.

        Args:
            endless: roles that run until they are told to stop: they are restarted whatever they exit with.

        """
        now = time.monotonic()
        for worker in list(self.workers.values()):
            if worker.process is not None and worker.process.poll() is not None:
                self._ended(worker, now, endless=worker.spec.role in endless)
            self._kill_if_stopped(worker, now)
            if worker.start_at is not None and now >= worker.start_at:
                self._start(worker)

    def _kill_if_stopped(self, worker: Worker, now: float) -> None:
        """Its heartbeats tell of most that hang, but not of one that has sent none yet, saves or ends."""
        if worker.process is None or worker.leaving or not is_stopped(worker.process.pid):
            worker.stopped_at = None
            return
        worker.stopped_at = worker.stopped_at or now
        if now - worker.stopped_at > self._table.hang_s + STOPPED_S:
            worker.stopped_at = None
            self.kill(worker.spec.name, f"is stopped (SIGSTOP) for {self._table.hang_s + STOPPED_S:.0f} s")

    def kill(self, name: str, why: str) -> None:
        """SIGKILL to a worker that hangs; `step` then restarts it."""
        process = self.workers[name].process
        if process is not None:
            self._say(f"{name} {why}: killed")
            _kill_group(process)

    def stop(self, timeout_s: float) -> None:
        """SIGTERM to all, and SIGKILL to what is left after the time-out."""
        for worker in self.workers.values():
            worker.leaving, worker.start_at = True, None
            _signal(worker, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        for worker in self.workers.values():
            if worker.process is None:
                continue
            try:
                worker.exit_code = worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"{worker.spec.name} did not stop within {timeout_s:.0f} s: killed")
            _kill_group(worker.process)
            worker.exit_code = worker.process.wait()
            worker.process = None

    def kill_all(self) -> None:
        """SIGKILL to all that run, at once."""
        for worker in self.workers.values():
            if worker.process is not None:
                _kill_group(worker.process)
                worker.exit_code = worker.process.wait()
                worker.process = None

    # -- one worker ---------------------------------------------------------------------------------------------------

    def _start(self, worker: Worker) -> None:
        spec = worker.spec
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        with spec.log.open("ab") as output:
            worker.log_start = output.tell()
            worker.process = subprocess.Popen(
                command_that_dies_with_parent(spec.command),
                env=os.environ | spec.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is ours to handle, and its helpers can be killed with it
            )
        worker.started, worker.start_at = time.monotonic(), None
        log.info("started worker=%s pid=%d", spec.name, worker.process.pid)

    def _ended(self, worker: Worker, now: float, *, endless: bool) -> None:
        assert worker.process is not None
        _kill_group(worker.process)  # an engine, graders: what it started must not outlive it
        code = worker.exit_code = worker.process.returncode
        worker.process = None
        if worker.leaving:
            del self.workers[worker.spec.name]
            return
        if code == 0 and not endless:
            return
        name = worker.spec.name
        if code in FINAL_EXIT_CODES:
            self.failure = f"{name} gave up: {last_error(worker)}"
            return
        delay = worker.restarts.delay_s(now)
        if delay is None:
            self.failure = (
                f"{name} died {self._table.max_restarts + 1} times within {self._table.restart_window_s:.0f} s, the last "
                f"time {describe(code)}; its log is {worker.spec.log}, and says: {last_error(worker)}"
            )
            return
        worker.start_at = now + delay
        self._say(f"{name} died ({describe(code)}); restarted in {delay:.1f} s, log: {worker.spec.log}")


def is_stopped(pid: int) -> bool:
    """Whether a SIGSTOP holds a process."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:  # it has just ended
        return False


def describe(code: int) -> str:
    """An exit code in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def last_error(worker: Worker) -> str:
    """The worker's own last words: its line `rucksack ROLE: ...`, or the end of its log."""
    lines = last_lines(worker.spec.log, worker.log_start)
    own = [line for line in lines if line.startswith(f"rucksack {worker.spec.role}: ")]
    return own[-1].split(": ", 1)[1] if own else " / ".join(lines[-NUM_LOG_LINES:]) or "nothing"


def last_lines(file: Path, start: int = 0) -> list[str]:
    """The non-empty lines of the last 64 KB of a log, from byte `start` on."""
    if not file.is_file():
        return []
    with file.open("rb") as log_file:
        log_file.seek(max(start, file.stat().st_size - 65_536))
        return [line for line in log_file.read().decode(errors="replace").splitlines() if line.strip()]


def _signal(worker: Worker, number: signal.Signals) -> None:
    if worker.process is not None and worker.process.poll() is None:
        with suppress(ProcessLookupError):
            worker.process.send_signal(number)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to all that is left in the session of a worker."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
