"""Producers start before there is a broker, and do not outlive a run that never begins."""

import sys
from pathlib import Path

import psutil
from rich.console import Console

from infra.placement import Placement, WorkerSpec
from infra.run import Run
from infra.screen import LineScreen
from stream.config import Config


class Sleepers(Placement):
    """Every worker only waits."""

    def spec(self, role: str, index: int) -> WorkerSpec:
        command = (sys.executable, "-c", "import signal; signal.pause()")
        return WorkerSpec(role, index, command, {}, self._config.run.path / f"{role}-{index}.log")


def make_run(folder: Path) -> Run:
    config = Config(run={"name": "r", "dir": folder}, producer={"replicas": 2})
    return Run(config, Sleepers(config, folder, []), folder, LineScreen(Console(quiet=True)))


def test_producers_alone_start_early_and_end_with_a_run_that_does_not_begin(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.start_producers()
    workers = run.answer({"command": "status"})["workers"]
    assert [(worker["name"], worker["state"]) for worker in workers] == [
        ("producer-0", "running"),
        ("producer-1", "running"),
    ]
    run.kill()
    assert not any(psutil.pid_exists(worker["pid"]) for worker in workers)


def test_none_starts_early_for_a_run_that_may_be_done(tmp_path: Path) -> None:
    (tmp_path / "r" / "model").mkdir(parents=True)
    run = make_run(tmp_path)
    run.start_producers()
    assert run.answer({"command": "status"})["workers"] == []
