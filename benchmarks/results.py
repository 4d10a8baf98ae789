"""Keeps what benchmarks find: the machine they ran on, a log of finished runs that is resumed, and JSON; ends them on SIGTERM."""

import importlib.metadata
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def exit_on_sigterm() -> None:
    """Have SIGTERM raise SystemExit(143) in the main thread, so that `with` and `finally` end what was started.

    Once: `timeout` sends it twice, and the second must not break off the ending.
    """

    def leave(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def machine(*distributions: str) -> dict[str, Any]:
    """The machine and the versions that figures hold for, of what is installed. No load, no time: it is the same whenever asked."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    facts = {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    for name in distributions:
        with suppress(importlib.metadata.PackageNotFoundError):
            facts[name] = importlib.metadata.version(name)
    return facts


def load() -> float:
    """Processes that wanted a core in the last minute, on average."""
    return round(os.getloadavg()[0], 1)


def as_line(values: Mapping[str, Any]) -> str:
    """One line for people."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


def finished_runs(log: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs in a log that were made under the same settings."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [run for run, run_settings in map(json.loads, lines) if run_settings == settings]


def append_run(log: Path, run: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Add a finished run to the log, which is a line of JSON for each."""
    with log.open("a") as file:
        file.write(json.dumps([run, settings]) + "\n")


def write_rows(out: Path, settings: Mapping[str, Any], key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write settings and rows as JSON, a line for each row, so that a new row is one line of a diff."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    out.write_text(f'{{"settings": {json.dumps(settings)},\n"{key}": [\n{lines}\n]}}\n')


def mean_and_range(values: Sequence[float]) -> str:
    """Mean, lowest and highest, e.g. `0.648 (0.641-0.662)`."""
    return f"{statistics.fmean(values):.3f} ({min(values):.3f}-{max(values):.3f})"
