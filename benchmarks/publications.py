"""Measures whether a run stays as it is over many publications: memory of learner, producer and engine, size of topic and folder.

    python -m benchmarks.publications [--publications 1000] [--rollouts 16] [--out FILE.json]

A whole run of the demo by `rucksack up` (a real Kafka, a real vLLM), with small updates, so that it does little but publish: every
version is a whole state of 3.3 MB. Memory is flat if its mean over the last quarter of the publications is less than 2 % above that of the
second; topic and folder may differ by a quarter: the broker keeps whole files, and frees them now and then.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from benchmarks.results import load, machine, write_rows
from stream.codec import decode
from stream.console import make_console
from stream.kafka import KafkaBroker
from stream.messages import Update
from stream.run_topics import RunTopics
from stream.topics import UPDATES

RUN = "publications"
EVERY_S = 1.0
ROLES = {"learner": "learner", "producers": "producer"}
"""By package."""
MIB = 2**20
MOST_GROWTH = {"learner": 0.02, "producer": 0.02, "engine": 0.02, "topic weights": 0.25, "run's folder": 0.25}


def start(options: argparse.Namespace, folder: Path) -> "subprocess.Popen[str]":
    """The run."""
    settings = {
        "run.name": RUN, "run.dir": folder, "run.num_updates": options.publications, "run.max_staleness": 2,
        "run.rollouts_per_update": options.rollouts, "evaluator.every": options.publications, "evaluator.base_samples": 0,
        "evaluator.pool": "false", "prompts.num_heldout": 8, "learner.checkpoint_every": 50,
    }  # fmt: skip
    arguments = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "infra.cli", "up", "configs/demo.toml", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True)


def resident(run: psutil.Process) -> dict[str, float]:
    """MiB of the roles' processes; the engine is the producer's largest child."""
    sizes: dict[str, float] = {}
    for process in run.children(recursive=True):
        try:
            words = process.cmdline()
            size = process.memory_info().rss / MIB
            parent = process.parent()
            if parent is None:
                continue
            role = next((role for word, role in ROLES.items() if word in words[:4]), "")
            if "producers" in parent.cmdline()[:4]:  # vLLM names its process itself
                role = "engine"
            if role:
                sizes[role] = max(size, sizes.get(role, 0.0))
        except psutil.Error:
            continue
    return sizes


def folder_mib(folder: Path) -> float:
    """Size of the files in a folder, some of which may be deleted meanwhile."""
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return size / MIB


class Updates:
    """The updates of the run, as they come."""

    def __init__(self, run_folder: Path) -> None:
        ports = json.loads((run_folder / "kafka" / "cluster.json").read_text())["ports"]
        broker = KafkaBroker(f"127.0.0.1:{ports['1']['broker']}")
        self._reader = RunTopics(broker, RUN, "bench").reader(UPDATES)
        self.step = 0

    def read(self) -> int:
        """Updates announced so far; waits a second for more."""
        for record in self._reader.poll(EVERY_S):
            self.step = max(self.step, decode(record.value, Update).step)
        return self.step


def samples_of(run: "subprocess.Popen[str]", folder: Path) -> Iterator[dict[str, float]]:
    """Sizes in MiB by the number of updates, until the run is over."""
    process, updates = psutil.Process(run.pid), None
    while run.poll() is None:
        if updates is None:
            time.sleep(EVERY_S)
            if (folder / "checkpoints").exists():
                updates = Updates(folder)
            continue
        step = updates.read()
        topic = folder_mib(folder / "kafka" / "node-1" / "data" / f"{RUN}.weights-0")
        files = folder_mib(folder) - folder_mib(folder / "kafka")
        yield {"step": step, **resident(process), "topic weights": topic, "run's folder": files}


def quarters(samples: Sequence[Mapping[str, float]], row: str, last: float) -> list[float]:
    """Mean of a row over each quarter of the updates."""
    parts: list[list[float]] = [[], [], [], []]
    for sample in samples:
        if row in sample and sample["step"]:
            parts[min(3, int(4 * sample["step"] / (last + 1)))].append(sample[row])
    return [statistics.fmean(part) if part else float("nan") for part in parts]


def show(samples: Sequence[Mapping[str, float]], publications: int) -> list[dict[str, Any]]:
    """Print a line for each row, and return them."""
    table = Table(title=f"MiB over {publications:,} publications, by quarter", title_justify="left")
    for column in ("", "1st", "2nd", "3rd", "4th", "4th / 2nd"):
        table.add_column(column, justify="right" if column else "left")
    rows = []
    for name in MOST_GROWTH:
        means = quarters(samples, name, publications)
        growth = means[3] / means[1] - 1
        rows.append({"row": name, "mib": means, "growth": growth})
        table.add_row(name, *(f"{mean:,.1f}" for mean in means), f"{growth:+.1%}")
    make_console().print(table)
    return rows


def main() -> int:
    """Run the demo, and say what grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publications", type=int, default=1000)
    parser.add_argument("--rollouts", type=int, default=16, help="of an update (default: 16)")
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    options = parser.parse_args()
    began, began_load = time.monotonic(), load()
    with tempfile.TemporaryDirectory() as folder, start(options, Path(folder)) as run:
        samples = list(samples_of(run, Path(folder) / RUN))
    rows = show(samples, options.publications)
    print(f"{time.monotonic() - began:.0f} s, load {began_load} to {load()}, exit code {run.returncode}")
    if options.out:
        write_rows(options.out, {"machine": machine("torch"), "publications": options.publications}, "rows", rows)
    grown = [row["row"] for row in rows if not row["growth"] < MOST_GROWTH[row["row"]]]
    if grown:
        print(f"grows, or was not seen: {', '.join(grown)}", file=sys.stderr)
    return 1 if grown or run.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
