"""Runs one broker process: starts it in a session of its own, finds it again by its pid file, ends and reaps it.

A pid alone proves nothing, as pids are used again: a process is ours where its command line names our properties
file, which holds across reboots and changes of the clock.
"""

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from stream.parent_death import command_that_dies_with_parent

_POLL_S = 0.05


class BrokerProcess:
    """The process of one node, started by this object or by another one before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.properties = folder / "server.properties"
        self.log = folder / "broker.log"
        self._pid_file = folder / "broker.pid"
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self, java: list[str], die_with_parent: bool) -> None:
        """Start the broker; its output is added to its log."""
        command = [*java, "kafka.Kafka", str(self.properties)]
        if die_with_parent:
            command = command_that_dies_with_parent(command)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._child = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._pid_file.write_text(str(self._child.pid))

    def find(self) -> psutil.Process | None:
        """The running broker process, None where there is none."""
        try:
            process = psutil.Process(int(self._pid_file.read_text()))
            return process if self._is_ours(process) else None
        except (OSError, ValueError, psutil.Error):
            return None

    @property
    def stopped(self) -> bool:
        """Whether it runs and is held by a SIGSTOP."""
        process = self.find()
        try:
            return process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.Error:  # it has just ended
            return False

    def _is_ours(self, process: psutil.Process) -> bool:
        if self._child is not None and self._child.pid == process.pid:
            return self._child.poll() is None  # reaps it: a killed child is not taken for a running one
        if command := process.cmdline():
            return str(self.properties) in command
        # Its memory is gone, so it ends, but what it holds open, such as the lock of its data, may not be closed yet.
        return bool(process.name() == "java" and process.status() != psutil.STATUS_ZOMBIE)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the broker if it runs."""
        process = self.find()
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the broker's end; True where it has ended, and then its pid file is gone."""
        # Asked again and again, as nothing else serves a broker that another process started: where the init
        # process does not reap, the dead broker's pid stays for good.
        if not wait_until(lambda: self.find() is None, timeout_s):
            return False
        self._pid_file.unlink(missing_ok=True)
        return True

    def last_error(self) -> str:
        """What the log gives as the reason for the end of the last start."""
        lines = self._last_log()
        errors = [line for line in lines if " ERROR " in line or "Exception" in line or line.startswith("Error")]
        return "\n".join(errors[:3] or lines[-5:])

    def _last_log(self) -> list[str]:
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace").splitlines()


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Ask until the condition holds, as another process sends no event; False if it does not within the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
