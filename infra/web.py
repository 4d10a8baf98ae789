"""Shows the run's page beside it: `rucksack up --web` starts `rucksack watch` as a process of its own, and ends it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from replay.watch.cli import HOST, PORT
from stream.config import Config
from stream.parent_death import command_that_dies_with_parent

STOP_S = 10.0


@contextmanager
def web_page(config: Config, recipe: Path, console: Console) -> Iterator[None]:
    """The page of a run while inside. Its process dies with us; if it dies before, the run goes on without it."""
    port = free_port(PORT)
    with (config.run.path / "logs" / "watch.log").open("ab") as log:
        process = subprocess.Popen(watch_command(config, recipe, port), stdout=log, stderr=subprocess.STDOUT)
    console.print(f"page: http://{HOST}:{port}", markup=False, highlight=False)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def watch_command(config: Config, recipe: Path, port: int) -> list[str]:
    """How the page is started. The recipe says how to reach the broker: what it takes to log in is in no command line."""
    command = [sys.executable, "-m", "replay.watch", config.run.name, "--dir", str(config.run.dir), "--port", str(port)]
    if config.broker.bootstrap_servers:
        command += ["--config", str(recipe), "--bootstrap-servers", config.broker.bootstrap_servers]
    return command_that_dies_with_parent(command)


def free_port(wanted: int) -> int:
    """The wanted port of this machine, or some other one if it is in use."""
    for port in (wanted, 0):
        try:
            with socket.create_server((HOST, port)) as listener:
                return int(listener.getsockname()[1])
        except OSError:
            continue
    return wanted
