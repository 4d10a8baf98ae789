"""Signals, sent to real processes."""

import signal
import subprocess
import sys

import pytest

WAITS_FOR_EVER = (
    "import threading\n"
    "from stream.launch import stop_on_signals\n"
    "stop = stop_on_signals()\n"
    "print('ready', flush=True)\n"
    "stop.wait()\n"
    "print(f'told to stop by {stop.signal}', flush=True)\n"
    "threading.Event().wait()\n"  # as for a broker that is away
)


@pytest.fixture
def process():
    command = [sys.executable, "-c", WAITS_FOR_EVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout.readline() == "ready\n"
        yield started
        started.kill()


def signalled_until_it_ends(process: "subprocess.Popen[str]", number: int) -> bool:
    for _ in range(100):
        process.send_signal(number)
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
        return True
    return False


def test_a_second_ctrl_c_ends_a_process_that_waits(process):
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "told to stop by 2\n"
    assert signalled_until_it_ends(process, signal.SIGINT)
    assert process.returncode == 130
    assert "nothing is lost" in process.stderr.read()


def test_a_supervisor_may_ask_twice(process):
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "told to stop by 15\n"
    assert process.poll() is None
