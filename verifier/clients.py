"""Talks to the forkserver and to its workers, from the pool's side: one socket each, and no call that waits.

`ForkserverClient` starts the forkserver, anew if it dies, and orders workers from it; `WorkerClient` feeds one worker and
knows what that worker still owes.
"""

import json
import os
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from verifier.frames import FORK, KILL, LOAD, Ready, Result, Task, frame_of, take_frames

MAX_DEPTH = 64
DEPTH_S = 0.05
"""A worker is given tasks for about this long in advance: at least 2, so that it need not wait, at most MAX_DEPTH."""
CLOSE_S = 1.0
"""Time the forkserver has to end by itself."""
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "SYMPY_GROUND_TYPES": "python", "MPMATH_NOGMPY": "1"}
"""Nothing of ours, which may hold passwords. gmpy2 would compute (10^9)! in C, deaf to the alarm."""
_START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from verifier.forkserver import main; main()"
_READY, _RESULT = msgspec.msgpack.Decoder(Ready), msgspec.msgpack.Decoder(Result)


@dataclass(slots=True)
class Item:
    """One answer that waits for its grade."""

    key: str
    grader: str
    gold: bytes
    answer: bytes
    number: int = 0
    """Its number among the worker's tasks, from 1."""


class ForkserverClient:
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


class WorkerClient:
    """Our end of one worker."""

    def __init__(self, forkserver: ForkserverClient) -> None:
        self.socket = forkserver.fork()
        self.socket.setblocking(False)
        self.pid = 0
        """0 until the worker has sent that it is ready."""
        self.items: deque[Item] = deque()
        """Given and not answered, oldest first."""
        self.num_tasks = 0
        self.head_age_s = 0.0
        """Time on its oldest task; until it is ready, time since it was ordered."""
        self.task_s = DEPTH_S / 8
        """Recent mean time of a task."""
        self.outgoing = bytearray()
        self._incoming = bytearray()

    @property
    def depth(self) -> int:
        """Tasks that it should have."""
        return min(MAX_DEPTH, 2 + int(DEPTH_S / self.task_s))

    def give(self, item: Item) -> None:
        """Append a task to what the worker will get."""
        self.num_tasks += 1
        item.number = self.num_tasks
        self.items.append(item)
        self.outgoing += frame_of(Task(item.number, item.grader, item.gold, item.answer))

    def send(self) -> None:
        """Send what the socket takes now. A dead worker is noticed when we read."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self.outgoing:
                del self.outgoing[: self.socket.send(self.outgoing)]

    def receive(self) -> list[Result]:
        """Results that have come.

        Raises:
            EOFError, OSError: the worker is dead, and all that it sent was returned before.
            msgspec.MsgspecError: what came is no result.

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
