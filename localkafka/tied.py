"""Children that die with us, also when we are killed by SIGKILL: nothing may stay behind on the machine."""

import os
import sys

# Runs in the process that becomes the command. Not preexec_fn, which runs Python between fork and exec of a process with
# threads. The parent may have died before prctl: then its pid is no longer ours to see.
_TIE = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if hasattr(ctypes.CDLL(None), "prctl"):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def tied(command: list[str]) -> list[str]:
    """The command, to be started so that it is killed when the *thread* that starts it ends (Linux; elsewhere it is not).

    Its first word is an absolute path.
    """
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]
