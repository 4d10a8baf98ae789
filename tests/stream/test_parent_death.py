import os
import subprocess
import sys

import psutil
import pytest

from stream.parent_death import command_that_dies_with_parent

SLEEP = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
PARENT = f"""
import signal, subprocess, sys
from stream.parent_death import command_that_dies_with_parent
subprocess.Popen(command_that_dies_with_parent([sys.executable, "-c", {SLEEP!r}]))
signal.pause()
"""


def test_a_child_of_a_parent_that_is_killed_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    # The system's own reaper may be slow: a zombie is as dead as one that is gone.
    gone, alive = psutil.wait_procs([child], timeout=20)
    assert gone or alive[0].status() == psutil.STATUS_ZOMBIE


def test_the_command_keeps_its_pid_arguments_and_exit_code():
    program = "import os, sys; print(os.getpid(), sys.argv[1:]); sys.exit(5)"
    command = command_that_dies_with_parent([sys.executable, "-c", program, "a b", "--c"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate()[0] == f"{process.pid} ['a b', '--c']\n"
    assert process.returncode == 5


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child lives on")
def test_a_command_whose_parent_is_gone_already_does_not_start():
    command = command_that_dies_with_parent([sys.executable, "-c", "print('started')"])
    command[4] = str(os.getpid() + 1)  # as if we were another process than the one that asked for it
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
