"""Carries requests to a running `rucksack up`: over a Unix socket in the run's folder, one JSON line each way.

It is polled by the supervisor's own loop, so a request is handled between two steps, never in the midst of one.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stream.errors import UserError

SOCKET_FILE = "control.sock"
MAX_REQUEST_BYTES = 4096
Handler = Callable[[dict[str, Any]], dict[str, Any]]


class Control:
    """The supervisor's end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / SOCKET_FILE).unlink(missing_ok=True)  # of a supervisor that was killed: the run's lock is ours
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _short(folder) as short:
            self._socket.bind(f"{short}/{SOCKET_FILE}")
        os.chmod(folder / SOCKET_FILE, 0o600)
        self._socket.listen()
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        (self._folder / SOCKET_FILE).unlink(missing_ok=True)

    def poll(self, handle: Handler) -> None:
        """Answer all that wait: with what `handle` returns, or with the error of a request that cannot be met."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            with connection, suppress(OSError):
                connection.settimeout(1.0)
                connection.sendall(json.dumps(_answer(connection, handle)).encode() + b"\n")


def _answer(connection: socket.socket, handle: Handler) -> dict[str, Any]:
    try:
        request = json.loads(_read_line(connection, MAX_REQUEST_BYTES))
        if not isinstance(request, dict):
            raise UserError(f"request is {request!r}; want a JSON object")
        return handle(request)
    except ValueError as error:  # UserError and broken JSON alike
        return {"error": str(error)}


def ask(folder: Path, request: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
    """Ask the supervisor of the run in `folder`.

    Raises:
        UserError: none runs there, or it refuses the request.

    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with _short(folder) as short:
                connection.connect(f"{short}/{SOCKET_FILE}")
            connection.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(_read_line(connection, 1 << 24))
        except FileNotFoundError:
            remedy = (
                "`rucksack up` resumes it" if folder.is_dir() else "there is no such folder; --dir is that of all runs"
            )
            raise UserError(f"no `rucksack up` runs in {folder}: {remedy}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"no `rucksack up` answers in {folder} ({error or type(error).__name__})") from None
    if "error" in reply:
        raise UserError(reply["error"])
    return dict(reply)


def is_up(folder: Path) -> bool:
    """Whether a supervisor listens there; a socket alone may be what one that was killed has left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, suppress(OSError):
        with _short(folder) as short:
            connection.connect(f"{short}/{SOCKET_FILE}")
        return True
    return False


def _read_line(connection: socket.socket, max_bytes: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        chunk = connection.recv(65_536)
        if not chunk:
            break
        line += chunk
        if len(line) > max_bytes:
            raise UserError(f"request is longer than {max_bytes} bytes")
    return line


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A short name of the folder: a socket's path may have 107 bytes at most."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
