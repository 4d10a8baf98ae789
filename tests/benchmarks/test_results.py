import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.results import machine

PROGRAM = """
import signal, sys
from benchmarks.results import exit_on_sigterm
exit_on_sigterm()
try:
    print("started", flush=True)
    signal.pause()
finally:
    print("ending", flush=True)
    sys.stdin.read()
    print("ended", flush=True)
"""


def test_sigterm_ends_what_was_started_and_a_second_does_not_break_that_off() -> None:
    command = [sys.executable, "-c", PROGRAM]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for line in ("started\n", "ending\n"):
            assert process.stdout.readline() == line
            process.send_signal(signal.SIGTERM)
        process.stdin.close()
        assert process.stdout.read() == "ended\n"
    assert process.returncode == 143


def test_a_machine_names_the_versions_of_what_is_installed_and_no_others() -> None:
    assert list(machine("numpy", "no-such-distribution")) == ["cpu", "cores", "python", "numpy"]
