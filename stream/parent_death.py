"""Ends a process together with its parent, even one killed by SIGKILL (on Linux; elsewhere nothing happens).

Imports only the standard library, as the file is also run as a script: PARENT_PID COMMAND ... becomes the command.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Have the system kill this process when the *thread* that started it ends; exit now if the parent is gone already.

    A later change of user would undo it.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "prctl"):
        return
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def command_that_dies_with_parent(command: Sequence[str]) -> list[str]:
    """The command to start instead, so that it dies with us. Its first word is an absolute path.

    Not Popen's preexec_fn, which runs Python between fork and exec of a process with threads.
    """
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), *command]


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
