"""A supervisor of worker processes: answers in, grades out, and no answer can hurt another.

Each worker is fed through a socket of its own and grades in order, so the first task without a result is the one it is
at. If a worker dies or overstays its deadline, that one task gets the outcome `error` or `timeout`, for good; the tasks
behind it go to another worker. No lock and no queue is shared with a worker.
"""

import json
import logging
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import get_args

import msgspec

from stream.errors import RucksackError
from stream.messages import Outcome
from verifier.forkserver import FORK, KILL, LOAD, Ready, Result, Task, frame_of, take_frames
from verifier.grade import Grade
from verifier.graders import LIGHT

log = logging.getLogger(__name__)

MAX_TEXT = 1_000_000
"""Longest answer that is graded, in characters."""
MAX_DEPTH = 64
DEPTH_S = 0.05
"""A worker is given tasks for about this long in advance: at least 2, so that it need not wait, at most MAX_DEPTH."""
RECYCLE_AFTER = 1000
"""Tasks of one worker before it is replaced: sympy's caches grow."""
KILL_GRACE_S = 1.0
"""From a worker's own alarm to its SIGKILL."""
_LOOK_S = 0.25
"""Most time that counts against a deadline between two looks: while this process was stopped, results may have come."""
START_S = 60.0
"""Time a worker has until it is ready."""
CLOSE_S = 1.0
"""Time the forkserver has to end by itself."""
MAX_FAILED_STARTS = 5
"""Workers in a row that die before they are ready: then something is wrong with the installation, not with an answer."""
_OUTCOMES = frozenset(get_args(Outcome))
_READY, _RESULT = msgspec.msgpack.Decoder(Ready), msgspec.msgpack.Decoder(Result)
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "SYMPY_GROUND_TYPES": "python", "MPMATH_NOGMPY": "1"}
"""Nothing of ours, which may hold passwords. gmpy2 would compute (10^9)! in C, deaf to the alarm."""
_START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from verifier.forkserver import main; main()"


class _Nonsense(Exception):
    """What a worker said is not what a worker says."""


class Pool:
    """Workers that grade. Not for use from several threads at once.

    Args:
        workers: processes that grade side by side.
        timeout_s: whole seconds one answer may take; a worker that does not keep to it is killed a second later.
        max_tasks: tasks of a worker before it is replaced.

    """

    def __init__(self, workers: int = 1, timeout_s: int = 2, max_tasks: int = RECYCLE_AFTER) -> None:
        if workers < 1 or timeout_s < 1:
            raise ValueError(f"workers is {workers}, timeout_s {timeout_s}; want at least 1 of each")
        self._timeout_s = int(timeout_s)
        self._max_tasks = max_tasks
        self._nursery = _Nursery(self._timeout_s)
        self._workers = [_Worker(self._nursery) for _ in range(workers)]
        self._queue: deque[_Item] = deque()
        self._done: list[tuple[str, Grade, float]] = []
        self._num_open = 0
        self._num_failed_starts = 0
        self._last_look = time.monotonic()

    @property
    def num_pending(self) -> int:
        """Answers without a result."""
        return self._num_open

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that are ready."""
        return [worker.pid for worker in self._workers if worker.pid]

    @property
    def forkserver_pid(self) -> int:
        """Process id of the process that forks the workers."""
        return self._nursery.pid

    def submit(self, key: str, grader: str, gold: str, answer: str) -> None:
        """Queue one answer; its result comes with this key."""
        if len(answer) > MAX_TEXT or len(gold) > MAX_TEXT:
            what = "answer" if len(answer) > MAX_TEXT else "gold"
            reason = f"the {what} is {max(len(answer), len(gold)):,} characters long; want at most {MAX_TEXT:,}"
            grade = Grade("unparsable" if what == "answer" else "error", 0.0, reason)
            self._done.append((key, grade, 0.0))
        else:
            if grader not in LIGHT and not self._nursery.is_loaded:
                self._load()
            self._queue.append(_Item(key, grader, _bytes(gold), _bytes(answer)))
        self._num_open += 1

    def results(self, timeout_s: float) -> list[tuple[str, Grade, float]]:
        """Results that have come: (key, grade, seconds it took), waiting up to `timeout_s` for the first."""
        deadline = time.monotonic() + timeout_s
        self._feed()
        while True:
            left = 0.0 if self._done else max(0.0, deadline - time.monotonic())
            self._look(self._wait(min(left, _LOOK_S / 2)))
            if self._done or left == 0.0:
                break
        done, self._done = self._done, []
        self._num_open -= len(done)
        return done

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.socket.close()
        self._nursery.close()

    def _load(self) -> None:
        """Have sympy loaded, and have the workers that were forked without it replaced once they are idle."""
        self._nursery.load()
        for worker in self._workers:
            worker.num_tasks = self._max_tasks

    def _wait(self, timeout_s: float) -> set[int]:
        """Descriptors of the workers that have said something, or died, within this time."""
        sockets = select.poll()
        for worker in self._workers:
            sockets.register(worker.socket, select.POLLIN | (select.POLLOUT if worker.outgoing else 0))
        return {fd for fd, event in sockets.poll(1000 * timeout_s) if event != select.POLLOUT}

    def _look(self, speaking: set[int]) -> None:
        """Take results, judge deadlines, feed workers; replace those that are dead, late or worn out."""
        now = time.monotonic()
        passed = min(now - self._last_look, _LOOK_S)
        self._last_look = now
        for index, worker in enumerate(self._workers):
            fate = self._fate(worker, worker.socket.fileno() in speaking, passed)
            if fate is not None:
                self._end(worker, fate)
                self._workers[index] = _Worker(self._nursery)
        self._feed()

    def _fate(self, worker: "_Worker", speaks: bool, passed_s: float) -> Grade | None:
        """None while the worker may go on; else what becomes of the task that it is at, if it is at one."""
        try:
            for result in worker.receive() if speaks else ():
                self._note(worker, result)
        except (OSError, EOFError, _Nonsense, msgspec.MsgspecError) as error:
            return Grade("error", 0.0, f"the worker died while it graded this answer {error}".rstrip())
        if worker.pid and not worker.items:
            worker.head_age_s = 0.0
            return Grade("error", 0.0, "worn out") if worker.num_tasks >= self._max_tasks else None
        worker.head_age_s += passed_s
        if worker.head_age_s > (self._timeout_s + KILL_GRACE_S if worker.pid else START_S):
            return Grade("timeout", 0.0, f"no verdict within {self._timeout_s} s; worker killed")
        return None

    def _note(self, worker: "_Worker", result: Result) -> None:
        if not worker.items or result.number != worker.items[0].number:
            raise _Nonsense("it answered what it was not asked")
        if result.outcome not in _OUTCOMES or not 0.0 <= result.reward <= 1.0:
            raise _Nonsense(f"it said outcome {result.outcome[:50]!r}, reward {result.reward}")
        worker.head_age_s = 0.0
        worker.pace_s += 0.1 * (max(result.elapsed_s, 1e-6) - worker.pace_s)
        grade = Grade(result.outcome, result.reward, result.reason)  # type: ignore[arg-type]
        self._done.append((worker.items.popleft().key, grade, result.elapsed_s))

    def _end(self, worker: "_Worker", grade: Grade) -> None:
        """End a worker. The task that it was at gets this grade, those behind it go back to the head of the queue."""
        if worker.pid:
            self._num_failed_starts = 0
            self._nursery.kill(worker.pid)
            if worker.items:
                self._done.append((worker.items.popleft().key, grade, worker.head_age_s))
        else:
            self._num_failed_starts += 1
            if self._num_failed_starts >= MAX_FAILED_STARTS:
                raise RucksackError(
                    f"{MAX_FAILED_STARTS} grading workers in a row died at their start; see the log above"
                )
        self._queue.extendleft(reversed(worker.items))
        worker.socket.close()

    def _feed(self) -> None:
        """Hand out the queue in turns, so that no answer waits behind a slow one while a worker is idle."""
        free = [worker for worker in self._workers if worker.pid]
        while self._queue and free:
            free = [w for w in free if len(w.items) < w.depth and w.num_tasks < self._max_tasks]
            for worker in free[: len(self._queue)]:
                worker.give(self._queue.popleft())
        for worker in self._workers:
            worker.send()


@dataclass(slots=True)
class _Item:
    key: str
    grader: str
    gold: bytes
    answer: bytes
    number: int = 0


class _Worker:
    """Our end of one worker."""

    def __init__(self, nursery: "_Nursery") -> None:
        self.socket = nursery.fork()
        self.socket.setblocking(False)
        self.pid = 0
        """Known once the worker has said that it is ready."""
        self.items: deque[_Item] = deque()
        """Given and not answered, oldest first."""
        self.num_tasks = 0
        self.head_age_s = 0.0
        """Since it has been at its oldest task, or, if it is not ready, since it was ordered."""
        self.pace_s = DEPTH_S / 8
        """Recent time per task."""
        self.outgoing = bytearray()
        self._incoming = bytearray()

    @property
    def depth(self) -> int:
        """Tasks that it should have."""
        return min(MAX_DEPTH, 2 + int(DEPTH_S / self.pace_s))

    def give(self, item: _Item) -> None:
        """Append a task to what the worker will get."""
        self.num_tasks += 1
        item.number = self.num_tasks
        self.items.append(item)
        self.outgoing += frame_of(Task(item.number, item.grader, item.gold, item.answer))

    def send(self) -> None:
        """Send what the socket takes now. That the worker is dead is noticed when we read."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self.outgoing:
                del self.outgoing[: self.socket.send(self.outgoing)]

    def receive(self) -> list[Result]:
        """Results that have come.

        Raises:
            EOFError, OSError: the worker is dead, and all that it said was returned before.
            msgspec.MsgspecError: it talks nonsense.

        """
        chunk = self.socket.recv(1 << 18)
        if not chunk:
            raise EOFError
        self._incoming += chunk
        frames = take_frames(self._incoming)
        if frames and not self.pid:
            self.head_age_s = 0.0
            self.pid = _READY.decode(frames.pop(0)).pid
        return [_RESULT.decode(frame) for frame in frames]


class _Nursery:
    """Our end of the forkserver, which is started anew if it dies."""

    def __init__(self, timeout_s: int) -> None:
        self._timeout_s = timeout_s
        self.is_loaded = False
        """Whether the workers forked from now on have sympy."""
        self._start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def fork(self) -> socket.socket:
        """Order a worker; returns our end of its socket at once."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._orders, [FORK], [theirs.fileno()])
            except OSError:
                self.close()
                self._start()
                socket.send_fds(self._orders, [FORK], [theirs.fileno()])
        return ours

    def load(self) -> None:
        """Order sympy to be loaded. If the forkserver is dead, the next one will have it."""
        self.is_loaded = True
        with suppress(OSError):
            self._orders.send(LOAD)

    def kill(self, pid: int) -> None:
        """Kill a worker. If the forkserver is dead, so are its workers."""
        with suppress(OSError):
            self._orders.send(KILL + str(pid).encode())

    def close(self) -> None:
        """End the forkserver, and with it the workers."""
        self._orders.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:  # it was still importing, or was stopped
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._process: subprocess.Popen[bytes]
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-c", _START, str(self._timeout_s), json.dumps(sys.path)]
        with theirs:
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), env=_ENVIRONMENT)
        if self.is_loaded:
            self.load()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
