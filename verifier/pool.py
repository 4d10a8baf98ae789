"""Grades answers in worker processes, so that no answer can hurt another: answers in, grades out.

    Pool --orders--> forkserver --fork--> worker, worker, ...
      |<------------- tasks and results, one socket per worker ------------->|

Each worker grades its tasks in order, so the first task without a result is the one it is working on. If a worker dies
or overruns its deadline, that one task gets the outcome `error` or `timeout`, for good; the tasks behind it go to another
worker. No lock and no queue is shared with a worker.
"""

import select
import time
from collections import deque

import msgspec

from stream.errors import RucksackError
from verifier.clients import ForkserverClient, Item, WorkerClient
from verifier.frames import Result, bytes_of
from verifier.grade import Grade
from verifier.graders import LIGHT

MAX_TEXT = 1_000_000
"""Longest answer that is graded, in characters."""
RECYCLE_AFTER = 4000
"""Tasks of one worker before it is replaced: what an answer may have left in it ends with it. A start costs some 6 ms."""
KILL_GRACE_S = 1.0
"""From a worker's own alarm to its SIGKILL."""
START_S = 60.0
"""Time a worker has until it is ready."""
MAX_FAILED_STARTS = 5
"""Workers in a row that die before they are ready: then the installation is at fault, not an answer."""
_MAX_STEP_S = 0.25
"""Most time between two steps that counts against a deadline: while this process was stopped, results may have come."""


class _BadReply(Exception):
    """A worker sent what no worker sends."""


class Pool:
    """Workers that grade. Not for use from several threads at once.

    Args:
        workers: processes that grade side by side.
        timeout_s: whole seconds one answer may take; a worker that overruns it is killed a second later.
        max_tasks: tasks of a worker before it is replaced.

    """

    def __init__(self, workers: int = 1, timeout_s: int = 2, max_tasks: int = RECYCLE_AFTER) -> None:
        if workers < 1 or timeout_s < 1:
            raise ValueError(f"workers is {workers}, timeout_s {timeout_s}; want at least 1 of each")
        self._timeout_s = int(timeout_s)
        self._max_tasks = max_tasks
        self._forkserver = ForkserverClient(self._timeout_s)
        self._workers = [WorkerClient(self._forkserver) for _ in range(workers)]
        self._queue: deque[Item] = deque()
        self._done: list[tuple[str, Grade, float]] = []
        self._num_pending = 0
        self._num_failed_starts = 0
        self._last_step_s = time.monotonic()

    @property
    def num_pending(self) -> int:
        """Answers without a result."""
        return self._num_pending

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that are ready."""
        return [worker.pid for worker in self._workers if worker.pid]

    @property
    def forkserver_pid(self) -> int:
        """Process id of the process that forks the workers."""
        return self._forkserver.pid

    def submit(self, key: str, grader: str, gold: str, answer: str) -> None:
        """Queue one answer; its result comes with this key."""
        if len(answer) > MAX_TEXT or len(gold) > MAX_TEXT:
            self._done.append((key, _too_long(gold, answer), 0.0))
        else:
            if grader not in LIGHT and not self._forkserver.is_loaded:
                self._load()
            self._queue.append(Item(key, grader, bytes_of(gold), bytes_of(answer)))
        self._num_pending += 1

    def results(self, timeout_s: float) -> list[tuple[str, Grade, float]]:
        """Results that have come: (key, grade, seconds it took), waiting up to `timeout_s` for the first."""
        deadline = time.monotonic() + timeout_s
        self._feed()
        while True:
            wait_s = 0.0 if self._done else max(0.0, deadline - time.monotonic())
            self._step(self._readable(min(wait_s, _MAX_STEP_S / 2)))
            if self._done or wait_s == 0.0:
                break
        done, self._done = self._done, []
        self._num_pending -= len(done)
        return done

    def wait_for_all(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` until every answer has its result."""
        deadline = time.monotonic() + timeout_s
        self._feed()
        while len(self._done) < self._num_pending and (left_s := deadline - time.monotonic()) > 0:
            self._step(self._readable(min(left_s, _MAX_STEP_S / 2)))

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.socket.close()
        self._forkserver.close()

    def _load(self) -> None:
        """Have sympy loaded, and have the workers that were forked without it replaced once they are idle."""
        self._forkserver.load()
        for worker in self._workers:
            worker.num_tasks = self._max_tasks

    def _readable(self, timeout_s: float) -> set[int]:
        """Descriptors of the workers that have sent something, or died, within this time."""
        sockets = select.poll()
        for worker in self._workers:
            sockets.register(worker.socket, select.POLLIN | (select.POLLOUT if worker.outgoing else 0))
        return {fd for fd, event in sockets.poll(1000 * timeout_s) if event != select.POLLOUT}

    def _step(self, readable: set[int]) -> None:
        """Take results, check deadlines, feed workers; replace those that are dead, late or worn out."""
        now = time.monotonic()
        passed_s = min(now - self._last_step_s, _MAX_STEP_S)
        self._last_step_s = now
        for index, worker in enumerate(self._workers):
            last_grade = self._check(worker, worker.socket.fileno() in readable, passed_s)
            if last_grade is not None:
                self._end(worker, last_grade)
                self._workers[index] = WorkerClient(self._forkserver)
        self._feed()

    def _check(self, worker: WorkerClient, is_readable: bool, passed_s: float) -> Grade | None:
        """None while the worker may go on; else the grade of the task that it is working on, if there is one."""
        try:
            for result in worker.receive() if is_readable else ():
                self._take(worker, result)
        except (OSError, EOFError) as error:
            return Grade("error", 0.0, f"the worker died while it graded this answer {error}".rstrip())
        except (_BadReply, msgspec.MsgspecError) as error:
            return Grade("error", 0.0, f"the worker sent no grade that can be used: {error}")
        if worker.pid and not worker.items:
            worker.head_age_s = 0.0
            return Grade("error", 0.0, "worn out") if worker.num_tasks >= self._max_tasks else None
        worker.head_age_s += passed_s
        if worker.head_age_s > (self._timeout_s + KILL_GRACE_S if worker.pid else START_S):
            return Grade("timeout", 0.0, f"no verdict within {self._timeout_s} s; worker killed")
        return None

    def _take(self, worker: WorkerClient, result: Result) -> None:
        """Note a worker's result of its oldest task."""
        if not worker.items or result.number != worker.items[0].number:
            raise _BadReply("it answered what it was not asked")
        if not 0.0 <= result.grade.reward <= 1.0:
            raise _BadReply(f"it sent reward {result.grade.reward}")
        worker.head_age_s = 0.0
        worker.task_s += 0.1 * (max(result.elapsed_s, 1e-6) - worker.task_s)
        self._done.append((worker.items.popleft().key, result.grade, result.elapsed_s))

    def _end(self, worker: WorkerClient, grade: Grade) -> None:
        """End a worker. Its current task gets this grade, those behind it go back to the head of the queue."""
        if worker.pid:
            self._num_failed_starts = 0
            self._forkserver.kill(worker.pid)
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


def _too_long(gold: str, answer: str) -> Grade:
    name = "answer" if len(answer) > MAX_TEXT else "gold"
    reason = f"the {name} is {max(len(answer), len(gold)):,} characters long; want at most {MAX_TEXT:,}"
    return Grade("unparsable" if name == "answer" else "error", 0.0, reason)
