"""Forks the workers that grade, with sympy loaded if it is needed: a fork takes milliseconds, a fresh start a second.

`verifier.pool` starts it with one socket and sends it orders. When its starter dies it reads end of file and ends, and
the workers die with it. Unlike multiprocessing's forkserver it does not import the starter's main module, and it hands
down neither the environment nor descriptors.
"""

import gc
import logging
import os
import signal
import socket
import sys
import time

import msgspec

from verifier import sandbox
from verifier.frames import LOAD, Ready, Result, Task, frame_of, take_frames, text_of
from verifier.grade import Grade
from verifier.graders import grade, preload

MAX_REASON = 500
"""Longest reason that a worker sends, in characters."""
MAX_ANSWER = 200
"""Longest answer that a worker sends, in characters."""


class TimeUp(BaseException):
    """The alarm rang. Not an Exception, so that no `except Exception` on the way swallows it."""


def main() -> None:
    """Serve orders on the socket that is standard input, until its other end is closed."""
    orders = socket.socket(fileno=os.dup(0))
    timeout_s = int(sys.argv[1])
    _silence()
    own_pid = os.getpid()
    children: set[int] = set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _freeze()
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
                _serve_and_exit(fds[0], timeout_s, own_pid)
            os.close(fds[0])
            children.add(pid)
        elif data == LOAD:
            preload()
            _freeze()
        elif (pid := int(data[1:])) in children:
            os.kill(pid, signal.SIGKILL)


def _freeze() -> None:
    """Keep what is loaded out of the collections of every worker."""
    gc.collect()
    gc.freeze()


def _reap(children: set[int]) -> None:
    """Wait for the dead. Until then a pid is not used again, so an order to kill never hits a stranger."""
    for pid in list(children):
        if os.waitpid(pid, os.WNOHANG)[0]:
            children.discard(pid)


def _end(children: set[int]) -> None:
    """Kill all children and wait for them, so that our own exit accounts for the time they used."""
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _silence() -> None:
    """Close logging and standard input and output: grading has nothing to print, and a worker may not write."""
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
        tasks.sendall(frame_of(Ready(os.getpid(), sandbox.enter(parent))))
        serve(tasks, timeout_s)
        status = 0
    finally:
        os._exit(status)


def serve(tasks: socket.socket, timeout_s: int) -> None:
    """Grade tasks in order, one result each, until the other end is closed."""
    signal.signal(signal.SIGALRM, _ring)
    decoder = msgspec.msgpack.Decoder(Task)
    buffer = bytearray()
    while chunk := tasks.recv(1 << 18):
        buffer += chunk
        for frame in take_frames(buffer):
            tasks.sendall(frame_of(_result_of(decoder.decode(frame), timeout_s)))


def _result_of(task: Task, timeout_s: int) -> Result:
    sandbox.limit_cpu(timeout_s + 2)
    started = time.perf_counter()
    try:
        signal.alarm(timeout_s)
        try:
            result = grade(task.grader, text_of(task.gold), text_of(task.answer))
        finally:
            signal.alarm(0)
    except TimeUp:
        result = Grade("timeout", 0.0, f"no verdict within {timeout_s} s")
    except MemoryError:
        result = Grade("error", 0.0, f"needs more than {sandbox.MEMORY_BYTES >> 20} MB of memory")
    except Exception as error:  # a fault of the grader, or one that an answer provokes, is an outcome
        result = Grade("error", 0.0, _described(error))
    elapsed_s = time.perf_counter() - started
    return Result(task.number, _sendable(result), elapsed_s)


def _sendable(grade: Grade) -> Grade:
    reason, answer = _utf8(grade.reason[:MAX_REASON]), _utf8(grade.answer[:MAX_ANSWER])
    return Grade(grade.outcome, float(grade.reward), reason, grade.found_by, answer, grade.rule)


def _utf8(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _described(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # its text is made by the code that failed
        return type(error).__name__


def _ring(_number: int, _frame: object) -> None:
    raise TimeUp
