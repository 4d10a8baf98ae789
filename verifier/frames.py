"""Frames what the pool, its forkserver and its workers say to each other: msgpack of a fixed schema behind a length.

Never pickle: what comes from a worker is data, whatever an answer made of that worker.
"""

import msgspec

from verifier.grade import Grade

FORK, LOAD, KILL = b"F", b"L", b"K"
"""Orders to the forkserver: fork a worker that serves the descriptor that comes along; load sympy; kill the worker whose
pid follows."""
LENGTH_BYTES = 4
"""Bytes of the length before each message."""


class Task(msgspec.Struct, array_like=True, frozen=True):
    """One answer on its way to a worker. Text is bytes, as a lone surrogate must not fail here."""

    number: int
    grader: str
    gold: bytes
    answer: bytes


class Result(msgspec.Struct, array_like=True, frozen=True):
    """A worker's grade of one task."""

    number: int
    grade: Grade
    elapsed_s: float


class Ready(msgspec.Struct, array_like=True, frozen=True):
    """The first message of a worker."""

    pid: int
    given_up: list[str]
    """See `verifier.sandbox.enter`."""


def frame_of(message: msgspec.Struct) -> bytes:
    """A message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


def take_frames(buffer: bytearray) -> list[bytes]:
    """Remove the whole messages at the head of a buffer and return them."""
    frames, start = [], 0
    while len(buffer) - start >= LENGTH_BYTES:
        stop = start + LENGTH_BYTES + int.from_bytes(buffer[start : start + LENGTH_BYTES], "little")
        if stop > len(buffer):
            break
        frames.append(bytes(buffer[start + LENGTH_BYTES : stop]))
        start = stop
    del buffer[:start]
    return frames


def bytes_of(text: str) -> bytes:
    """UTF-8 that also holds lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def text_of(data: bytes) -> str:
    """Undo `bytes_of`."""
    return data.decode("utf-8", "surrogatepass")
