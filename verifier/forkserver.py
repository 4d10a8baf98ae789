"""The process that forks workers, with sympy loaded if it is needed: a fork takes milliseconds, a fresh start a second.

It is started by `verifier.pool`, with a socket as its only tie, and does what it is told by it. When its starter dies it
reads end of file and ends, and the workers die with it. Unlike multiprocessing's forkserver it does not import the
starter's main module, and it hands down neither the environment nor descriptors.
"""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time

import msgspec

from verifier import cage
from verifier.grade import Grade
from verifier.graders import grade, preload, preload_light

FORK, LOAD, KILL = b"F", b"L", b"K"
"""Orders: fork a worker that serves the descriptor that comes along; load sympy; kill the worker whose pid follows."""
FRAME = 4
"""Bytes of the length before each message."""


class Task(msgspec.Struct, array_like=True, frozen=True):
    """One answer, as it goes to a worker. Text is bytes: a lone surrogate is no reason to fail here."""

    number: int
    grader: str
    gold: bytes
    answer: bytes


class Result(msgspec.Struct, array_like=True, frozen=True):
    """What a worker says of it."""

    number: int
    outcome: str
    reward: float
    reason: str
    elapsed_s: float


class Ready(msgspec.Struct, array_like=True, frozen=True):
    """A worker's first words."""

    pid: int
    given_up: list[str]
    """See `verifier.cage.enter`."""


class TimeUp(BaseException):
    """The alarm rang. No Exception, so that no `except Exception` on the way swallows it."""


def main() -> None:
    """Serve orders on the socket that is standard input, until its other end is closed."""
    orders = socket.socket(fileno=os.dup(0))
    timeout_s = int(sys.argv[1])
    _silence()
    preload_light()
    me = os.getpid()
    children: set[int] = set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        data, fds, _flags, _address = socket.recv_fds(orders, 64, 1)
        _reap(children)
        if not data:
            _end(children)
            return
        if fds:
            pid = os.fork()
            if pid == 0:
                orders.close()
                _serve_and_exit(fds[0], timeout_s, me)
            os.close(fds[0])
            children.add(pid)
        elif data == LOAD:
            preload()
            gc.collect()
            gc.freeze()
        elif (pid := int(data[1:])) in children:
            os.kill(pid, signal.SIGKILL)


def _reap(children: set[int]) -> None:
    """Bury the dead. A pid is known until then, so an order to kill never hits a stranger."""
    for pid in list(children):
        if os.waitpid(pid, os.WNOHANG)[0]:
            children.discard(pid)


def _end(children: set[int]) -> None:
    """Kill all children, and bury them: who waits for us then knows what they have used."""
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _silence() -> None:
    """Nothing that grading says belongs on a terminal, and a worker may not write to a log file."""
    logging.disable(logging.CRITICAL)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _serve_and_exit(fd: int, timeout_s: int, parent: int) -> None:
    status = 1
    try:
        os.dup2(1, 2)
        tasks = socket.socket(fileno=fd)
        tasks.sendall(frame_of(Ready(os.getpid(), cage.enter(parent))))
        serve(tasks, timeout_s)
        status = 0
    finally:
        os._exit(status)


def serve(tasks: socket.socket, timeout_s: int) -> None:
    """Grade what comes, in order, one answer to each task, until the other end is closed."""
    signal.signal(signal.SIGALRM, _ring)
    decoder = msgspec.msgpack.Decoder(Task)
    buffer = bytearray()
    while chunk := tasks.recv(1 << 18):
        buffer += chunk
        for frame in take_frames(buffer):
            task = decoder.decode(frame)
            tasks.sendall(frame_of(_grade(task, timeout_s)))


def _grade(task: Task, timeout_s: int) -> Result:
    cage.limit_cpu(timeout_s + 2)
    started = time.perf_counter()
    try:
        signal.alarm(timeout_s)
        try:
            found = grade(task.grader, _text(task.gold), _text(task.answer))
        finally:
            signal.alarm(0)
    except TimeUp:
        found = Grade("timeout", 0.0, f"no verdict within {timeout_s} s")
    except MemoryError:
        found = Grade("error", 0.0, f"needs more than {cage.MEMORY_BYTES >> 20} MB of memory")
    except Exception as error:  # a grader's mistake, or an answer that brings one out, is an outcome
        with contextlib.suppress(Exception):
            found = Grade("error", 0.0, f"{type(error).__name__}: {error}")
    elapsed_s = time.perf_counter() - started
    reason = found.reason[:500].encode("utf-8", "backslashreplace").decode()
    return Result(task.number, found.outcome, float(found.reward), reason, elapsed_s)


def _ring(_number: int, _frame: object) -> None:
    raise TimeUp


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def frame_of(message: msgspec.Struct) -> bytes:
    """A message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(FRAME, "little") + body


def take_frames(buffer: bytearray) -> list[bytes]:
    """The whole messages at the head of a buffer, which they are taken from."""
    frames, start = [], 0
    while len(buffer) - start >= FRAME:
        stop = start + FRAME + int.from_bytes(buffer[start : start + FRAME], "little")
        if stop > len(buffer):
            break
        frames.append(bytes(buffer[start + FRAME : stop]))
        start = stop
    del buffer[:start]
    return frames
