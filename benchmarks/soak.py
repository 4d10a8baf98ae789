"""Runs the demo for a million rollouts with a stand-in for sampling, and looks at what grows: memory by role, bytes by topic.

    python -m benchmarks.soak [--rollouts 1000000] [--out FILE.json] [--picture FILE.svg] [--table.key VALUE ...]
    python -m benchmarks.soak --draw FILE.json --picture FILE.svg

`rucksack up` runs everything but the producer, which is real but for vLLM (benchmarks/stand_in.py); trajectories and
verdicts are kept for `--hours`. Every few seconds the resident memory of each role's processes and the bytes of each
topic's files are noted. At the end each role is killed (SIGKILL) while the run goes on; its restore time is that from the
start of its new process to its first heartbeat `running`, when it has read what it needs and takes work. The broker's is
the time from its new process to the first heartbeat that gets through.

The verdict on each: a line is fitted to the second half of the run (without start and end); flat is what grows in that
half by less than 5 % of its mean, or by less than 2 MiB. A topic of which nothing is ever deleted cannot be.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.table import Table

from benchmarks.pipeline import RECIPE, role_of
from benchmarks.results import as_line, exit_on_sigterm, load, machine
from benchmarks.stand_in import spec
from infra.supervisor import Supervisor
from localkafka.local import LocalKafka
from stream.broker import Reader
from stream.config import Config
from stream.config import load as load_config
from stream.console import make_console
from stream.errors import BrokerUnavailable
from stream.kafka import KafkaBroker
from stream.lag import consumer_lag
from stream.launch import ADDRESS_FILE, KAFKA_FOLDER
from stream.messages import Heartbeat, Update
from stream.snapshot import decode_or_none
from stream.topics import ANSWERS, FOREVER_MS, HEARTBEATS, TOPICS, UPDATES, WEIGHTS, topic_of

MIB = 1 << 20
FLAT = 0.05
"""Growth of the second half, as a share of its mean, that still counts as flat."""
LITTLE_MIB = 2.0
"""The same, where the mean is small."""
FOR_EVER = {topic.name for topic in TOPICS if topic.retention_ms == FOREVER_MS and not topic.compacted} - {
    topic.name for topic in (*ANSWERS, WEIGHTS)
}
"""Topics of which nothing is deleted."""
START_SHARE = 0.05
"""Of the run's time, left out as start."""
MOST_POINTS = 400
"""Of each curve, in the file."""
RESTORED = ("learner", "allocator", "producer", "verifier", "evaluator")
RESTORE_TIMEOUT_S = 180.0


@dataclass
class Sample:
    """A moment of the run."""

    at_s: float
    rollouts: int
    lag: dict[str, int]
    memory_mib: dict[str, float]
    """Resident, by role."""
    topics_mib: dict[str, float]
    """Files of all partitions."""


@dataclass
class World:
    """The run as it is seen from outside."""

    config: Config
    broker: KafkaBroker
    reader: Reader
    supervisor: Supervisor
    up: "subprocess.Popen[bytes]"
    rollouts: int = 0
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)

    def step(self) -> list[Heartbeat]:
        """Read what has come, and keep the producer alive; the new heartbeats.

        Raises:
            RuntimeError: the run has ended.

        """
        if self.up.poll() is not None:
            raise RuntimeError(f"`rucksack up` ended with {self.up.returncode} after {self.rollouts} rollouts")
        self.supervisor.step(endless=("producer",))
        came = []
        with suppress(BrokerUnavailable):
            for record in self.reader.poll(0.2):
                match decode_or_none(record, topic_of(record.topic)):
                    case Heartbeat() as heartbeat:
                        self.heartbeats[heartbeat.worker] = heartbeat
                        came.append(heartbeat)
                    case Update() as update:
                        self.rollouts = int(update.metrics.get("learner/num_rollouts", self.rollouts))
        return came

    def until(self, condition: Callable[[Heartbeat], bool], timeout_s: float) -> Heartbeat:
        """The first new heartbeat that meets a condition."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for heartbeat in self.step():
                if condition(heartbeat):
                    return heartbeat
        raise TimeoutError(f"no such heartbeat for {timeout_s:.0f} s")


@contextmanager
def running(config: Config, arguments: Sequence[str], stand_in: Sequence[str]) -> Iterator[World]:
    """The run while inside: `rucksack up`, and the producer beside it."""
    with ExitStack() as stack:
        log = stack.enter_context((config.run.dir / "up.txt").open("wb"))
        command = [sys.executable, "-m", "infra.cli", "up", *arguments]
        up = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(end, up)
        address = config.run.path / ADDRESS_FILE
        while not address.is_file():
            if up.poll() is not None:
                raise RuntimeError(f"`rucksack up` ended with {up.returncode}; see {log.name}")
            time.sleep(0.2)
        broker = KafkaBroker(address.read_text().strip())
        stack.callback(broker.close)
        names = [topic.of(config.run.name) for topic in (UPDATES, HEARTBEATS)]
        while not all(map(broker.partitions, names)):
            time.sleep(0.2)
        supervisor = Supervisor(config.up, print)
        supervisor.add(spec(config, 0, [*arguments, *stand_in]))
        stack.callback(supervisor.stop, 10)
        reader = broker.reader(names)
        stack.callback(reader.close)
        yield World(config, broker, reader, supervisor, up)


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and SIGKILL after a minute."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()


def measured(world: World, started_at: float) -> Sample:
    """The sizes now."""
    memory: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, IndexError):  # it has just ended
            role = role_of(process)
            memory[role] = memory.get(role, 0.0) + process.memory_info().rss / MIB
    lag: dict[str, int] = {}
    with suppress(BrokerUnavailable):
        lag = consumer_lag(world.broker, world.config.run.name)
    topics = topic_sizes(world.config.run.path / KAFKA_FOLDER, world.config.run.name)
    return Sample(time.monotonic() - started_at, world.rollouts, lag, memory, topics)


def topic_sizes(folder: Path, run: str) -> dict[str, float]:
    """MiB of the files of each topic of a run, all nodes together; Kafka's own topics are `__`."""
    sizes = dict.fromkeys([topic.name for topic in TOPICS], 0.0)
    for partition in folder.glob("node-*/**/*-[0-9]*/"):
        name = partition.name.rpartition("-")[0]
        known = name.removeprefix(f"{run}.")
        key = known if name != known and known in sizes else "__"
        for file in partition.iterdir():
            with suppress(OSError):  # deleted meanwhile
                sizes[key] = sizes.get(key, 0.0) + file.stat().st_blocks * 512 / MIB
    return sizes


def soak(world: World, rollouts: int, minutes: float, every_s: float) -> Iterator[Sample]:
    """Samples until so many rollouts are trained, or so much time is over."""
    started_at = next_at = time.monotonic()
    while world.rollouts < rollouts and time.monotonic() - started_at < 60 * minutes:
        world.step()
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + every_s
            yield measured(world, started_at)


# -- restore ----------------------------------------------------------------------------------------------------------


def restores(world: World) -> dict[str, float]:
    """Seconds that each role needs after SIGKILL, without the supervisor's wait, one after the other."""
    seconds = {role: restore(world, f"{role}-0") for role in RESTORED}
    return seconds | {"kafka": restore_broker(world)}


def restore(world: World, worker: str) -> float:
    """From the start of the new process to its first heartbeat `running`."""
    old = world.heartbeats[worker].pid
    os.kill(old, 9)
    back = world.until(lambda h: h.worker == worker and h.pid != old and h.state == "running", RESTORE_TIMEOUT_S)
    started_s: float = psutil.Process(back.pid).create_time()
    return back.created_s - started_s


def restore_broker(world: World) -> float:
    """From the start of the new broker to the first heartbeat that is read from it."""
    kafka = LocalKafka.attach(world.config.run.path / KAFKA_FOLDER)
    old = kafka.pid(1)
    assert old is not None, "the broker runs"
    os.kill(old, 9)
    deadline = time.monotonic() + RESTORE_TIMEOUT_S
    while (new := kafka.pid(1)) in (None, old) and time.monotonic() < deadline:
        time.sleep(0.05)
    started_s: float = psutil.Process(new).create_time()
    world.until(lambda h: h.created_s > started_s, RESTORE_TIMEOUT_S)
    return time.time() - started_s


# -- what has grown ---------------------------------------------------------------------------------------------------


def growth(at_s: Sequence[float], sizes: Sequence[float]) -> tuple[float, float]:
    """By how much a fitted line grows over the second half of a run, and the mean of that half."""
    at, size = np.array(at_s), np.array(sizes)
    late = at >= (at[0] + at[-1]) / 2
    slope = np.polyfit(at[late], size[late], 1)[0] if late.sum() > 1 else 0.0
    return float(slope * (at[-1] - at[late][0])), float(size[late].mean())


def verdicts(samples: Sequence[Mapping[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    """Growth in the second half of each curve, MiB, and whether that is flat."""
    steady = samples[int(START_SHARE * len(samples)) :]
    at, found = [sample["at_s"] for sample in steady], {}
    for name in sorted({name for sample in steady for name in sample[key]}):
        grown, mean = growth(at, [sample[key].get(name, 0.0) for sample in steady])
        found[name] = {"mean": round(mean, 1), "grown": round(grown, 2), "flat": grown <= max(FLAT * mean, LITTLE_MIB)}
    return found


def rounded(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """At most MOST_POINTS of them, for the file."""
    step = max(1, len(samples) // MOST_POINTS)
    return [
        {
            "at_s": round(sample.at_s, 1),
            "rollouts": sample.rollouts,
            "lag": sample.lag,
            "memory_mib": {name: round(size, 1) for name, size in sorted(sample.memory_mib.items())},
            "topics_mib": {name: round(size, 2) for name, size in sorted(sample.topics_mib.items())},
        }
        for sample in samples[::step]
    ]


def show(figures: Mapping[str, Any]) -> None:
    """Print the tables."""
    console = make_console()
    for key, title in (("memory_mib", "Resident memory, MiB"), ("topics_mib", "Topics, MiB")):
        table = Table(title=f"{title}; {figures['rollouts']:,} rollouts in {figures['seconds']:.0f} s")
        for column in ("", "mean of the second half", "grown in it", "", "restored in, s"):
            table.add_column(column, justify="right" if column else "left")
        for name, row in figures["verdicts"][key].items():
            restored = figures["restore_s"].get(name) if key == "memory_mib" else None
            cells = (
                f"{row['mean']:.1f}",
                f"{row['grown']:+.2f}",
                "flat" if row["flat"] else "kept for ever" if name in FOR_EVER else "GROWS",
            )
            table.add_row(name, *cells, "" if restored is None else f"{restored:.1f}")
        console.print(table)


def draw(figures: Mapping[str, Any], out: Path) -> None:
    """Memory above, topics below, over rollouts."""
    import matplotlib.pyplot as plt

    samples = figures["samples"]
    rollouts = [sample["rollouts"] / 1000 for sample in samples]
    figure, panels = plt.subplots(2, 1, figsize=(8, 7.5), sharex=True)
    for panel, key, label in zip(
        panels, ("memory_mib", "topics_mib"), ("resident memory, MiB", "files of the topic, MiB"), strict=True
    ):
        means = {name: row["mean"] for name, row in figures["verdicts"][key].items()}
        for name in sorted(means, key=lambda name: -means[name]):
            if means[name] >= 1:
                panel.plot(rollouts, [sample[key].get(name) for sample in samples], label=name, linewidth=1.2)
        panel.set_ylabel(label)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    panels[1].set_xlabel("thousand rollouts trained")
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    """Entry point."""
    exit_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=600.0, help="after which it is enough")
    parser.add_argument("--hours", type=float, default=0.05, help="that trajectories and verdicts are kept for")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two looks")
    parser.add_argument("--tokens-per-s", type=float, default=5000.0, help="that the stand-in samples")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="run nothing: take the figures from here")
    parser.add_argument("--picture", type=Path, help="draw them")
    options, keys = parser.parse_known_args()
    figures = json.loads(options.draw.read_text()) if options.draw else run(options, keys)
    if options.out:
        options.out.write_text(json.dumps(figures) + "\n")
    show(figures)
    if options.picture:
        draw(figures, options.picture)


def run(options: argparse.Namespace, keys: Sequence[str]) -> dict[str, Any]:
    """The whole run, and its figures."""
    facts = machine("kafka-python", "torch") | {"rollouts": options.rollouts, "hours": options.hours, "keys": keys}
    make_console().print(as_line(facts))
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        arguments = [RECIPE, "--run.name=soak", f"--run.dir={folder}", "--producer.replicas=0", "--up.report=false",
                     f"--broker.answers_hours={options.hours}", "--run.num_updates=1000000", *keys]  # fmt: skip
        config = load_config(arguments[0], arguments[1:])
        with running(config, arguments, [f"--tokens-per-s={options.tokens_per_s}"]) as world:
            samples = []
            for sample in soak(world, options.rollouts, options.minutes, options.every):
                samples.append(sample)
                if len(samples) % 24 == 1:
                    print(f"{sample.at_s:.0f} s, {sample.rollouts} rollouts, {sample.memory_mib}", flush=True)
                    if options.out:
                        options.out.with_suffix(".part.json").write_text(json.dumps(rounded(samples)))
            restore_s = restores(world)
    series = rounded(samples)
    return {
        "machine": facts,
        "load": load(),
        "rollouts": samples[-1].rollouts,
        "seconds": round(samples[-1].at_s, 1),
        "restore_s": {role: round(seconds, 2) for role, seconds in restore_s.items()},
        "verdicts": {key: verdicts(series, key) for key in ("memory_mib", "topics_mib")},
        "samples": series,
    }


if __name__ == "__main__":
    main()
