"""Keeps what benchmarks find: the machine they ran on, a log of finished runs that is resumed, and JSON."""

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def machine(*distributions: str) -> dict[str, Any]:
    """The machine and the versions that figures hold for. It is the same whenever asked: no load, no time."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in distributions},
    }


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
