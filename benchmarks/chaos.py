"""Deals blows to a run of the demo's job, lets it end, and audits it from its log: nothing lost, nothing twice.

    python -m benchmarks.chaos --kills N [--seed S] [--every S] [--engine stand-in|vllm] [--out FILE.json] [--table.key VALUE ...]

`rucksack up` runs the job on its own broker of three nodes. After a calm start, in which the undisturbed rate is measured,
N blows are dealt, in an order that the seed gives, to all workers and all broker nodes (benchmarks/chaos_plan.py); then
the run goes on to its end. What this machine does not allow is left out, with a line that says so. Exit code 1, with a
sentence for each fault, if the audit fails, something did not come back, or the run does not end well by itself.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import chaos_machine as machine
from benchmarks.chaos_plan import plan
from benchmarks.chaos_report import Costs, costs, table_of
from benchmarks.chaos_strikes import DISKS, Striker
from benchmarks.chaos_up import CLOCKS_FOLDER, LIBRARY_VARIABLE, TOKENS_VARIABLE
from benchmarks.chaos_world import World, seen_at
from benchmarks.results import as_line
from benchmarks.results import machine as machine_facts
from replay.audit import Audit, Expected, audit_run
from replay.source import Location, open_run
from stream.config import Config, load
from stream.console import make_console
from stream.errors import RucksackError
from stream.launch import ADDRESS_FILE, PATIENCE_S, connect
from stream.parent_death import command_that_dies_with_parent

RECIPE = "configs/demo.toml"
RUN = "chaos"
WORKERS = ("allocator-0", "producer-0", "verifier-0", "learner-0", "evaluator-0", "tracker-0")
DISK_SIZES = {"learner-0": "512m", "node-1": "4g"}
TOKENS_PER_S = 1500.0
"""Of the stand-in: an update takes a second and a half, and leaves most of two cores to what has to start again."""
UPDATES_PER_S = 0.3
"""At which a run under blows went on here; the last blow must come before the last update."""
START_UPDATES = 3
"""Left out of the undisturbed rate."""
SETTINGS = (
    f"--run.name={RUN}",
    "--broker.nodes=3",
    '--tracking.to=["jsonl"]',
    "--evaluator.base_samples=0",
    "--evaluator.pool=false",
    "--evaluator.every=50",
    "--learner.checkpoint_every=2",
    "--allocator.lease_s=20",
    "--producer.hang_s=15",
    "--up.hang_s=30",
    "--up.max_restarts=1000000",
    "--up.healthy_s=5",
    "--up.report=false",
)


def abilities(config: Config, engine: str, tell: Callable[[str], None]) -> dict[tuple[Any, str], Sequence[str]]:
    """What can be struck here and how; tells what cannot."""
    workers = (*WORKERS, "engine") if engine == "vllm" else WORKERS
    nodes = [f"node-{number}" for number in range(1, config.broker.nodes + 1)]
    folder = config.run.path
    targets: dict[tuple[Any, str], Sequence[str]] = {}
    clocks = folder / CLOCKS_FOLDER
    clocks.mkdir()
    for worker in WORKERS:
        machine.set_clock(clocks / worker, 0)
    for kind in ("kill", "stop", "hang"):
        targets |= {(kind, "worker"): workers, (kind, "node"): nodes}
    if reason := machine.why_no_cuts():
        tell(f"left out: cut: {reason}")
    else:
        targets |= {("cut", "worker"): WORKERS, ("cut", "node"): nodes}
    if machine.build_clock(clocks) is None:
        tell("left out: clock: there is no C compiler (cc)")
    else:
        targets |= {("clock", "worker"): WORKERS}
    if reason := machine.why_no_mounts(folder):
        tell(f"left out: disk: {reason}")
    else:
        targets |= {("disk", "worker"): ["learner-0"], ("disk", "node"): ["node-1"]}
    return targets


@contextmanager
def running(arguments: Sequence[str], folder: Path, options: argparse.Namespace) -> Iterator["subprocess.Popen[bytes]"]:
    """`rucksack up` while inside; its output goes to `up.txt` beside the run's folder."""
    environment = dict(os.environ)
    if options.engine == "stand-in":
        environment[TOKENS_VARIABLE] = str(options.tokens_per_s)
    clocks = folder / CLOCKS_FOLDER
    if (clocks / "clock.so").is_file():
        environment[LIBRARY_VARIABLE] = str(clocks / "clock.so")
    with (folder.parent / "up.txt").open("wb") as output:
        command = command_that_dies_with_parent([sys.executable, "-m", "benchmarks.chaos_up", RECIPE, *arguments])
        up = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield up
    finally:
        if up.poll() is None:
            up.send_signal(signal.SIGTERM)
            try:
                up.wait(60)
            except subprocess.TimeoutExpired:
                up.kill()
                up.wait()


class Ended(Exception):
    """The run ended, or did not go on, when it was not to."""


def until(
    condition: Callable[[], bool], world: World, up: "subprocess.Popen[bytes]", limit_s: float, what: str
) -> None:
    """Follow the run until something holds.

    Raises:
        Ended: the run is over before, or it takes too long.

    """
    deadline = time.monotonic() + limit_s
    while not condition():
        if up.poll() is not None:
            remedy = "" if up.returncode else "; give it more --updates"
            raise Ended(f"the run ended with exit code {up.returncode} before {what}, at update {world.step}{remedy}")
        if time.monotonic() > deadline:
            raise Ended(f"{what}: not within {limit_s:.0f} s, at update {world.step}")
        world.follow()


def disturb(
    config: Config, options: argparse.Namespace, targets: dict[tuple[Any, str], Sequence[str]], up: "subprocess.Popen[bytes]",
    tell: Callable[[str], None],
) -> tuple[Striker, World]:  # fmt: skip
    """Deal all blows, and see the run to its end.

    Raises:
        Ended: it did not end well.

    """
    folder = config.run.path
    while not (folder / ADDRESS_FILE).is_file():
        if up.poll() is not None:
            raise Ended(f"the run ended with exit code {up.returncode} before it began")
        time.sleep(0.1)
    from stream.topics import TOPICS

    with closing(connect(config, patience_s=PATIENCE_S)) as patient:  # a node may be late
        patient.create_topics(config.run.name, TOPICS, config.broker.partitions)
    broker = connect(config)
    world = World(folder, broker)
    striker = Striker(world, [], options.every, tell)
    try:
        until(lambda: world.step >= START_UPDATES and world.nodes.whole(), world, up, 300, "the start")
        calm_until = time.monotonic() + options.calm
        until(lambda: time.monotonic() > calm_until, world, up, options.calm + 60, "the first blow")
        striker = Striker(world, plan(options.kills, options.seed, targets), options.every, tell)
        tell(f"first blow at update {world.step}")

        def dealt() -> bool:
            striker.step()
            return striker.over

        until(dealt, world, up, 60 * options.kills + 600, "the last blow")
        tell(f"last blow is over at update {world.step}")
        deadline = time.monotonic() + options.finish
        while up.poll() is None:
            if time.monotonic() > deadline:
                raise Ended(f"the run has not ended {options.finish:.0f} s after the last blow, at update {world.step}")
            world.follow()
        if up.returncode:
            raise Ended(f"the run ended with exit code {up.returncode}")
        return striker, world
    finally:
        striker.heal_all()
        world.close()
        broker.close()


def audit(config: Config) -> Audit:
    """What the log says, read by this process."""
    run = config.run
    expected = Expected(num_updates=run.num_updates, num_rollouts=run.num_updates * run.budget)
    with open_run(Location(run.path.parent), run.name) as (broker, name, _):
        return audit_run(broker, name, expected)


def faults_of(found: Audit, striker: Striker, folder: Path) -> list[str]:
    """All that is wrong with the run."""
    faults = [*found.faults, *(struck.fault for struck in striker.dealt if struck.fault)]
    if not (folder / "model" / "model.safetensors").is_file():
        faults.append("the final policy is not in the run's folder")
    return faults


def as_json(found: Audit) -> dict[str, Any]:
    """The audit's figures."""
    return {
        "updates": found.num_updates,
        "rolled_back": found.num_rolled_back,
        "resumes": found.num_resumes,
        "groups_admitted": found.law.num_admitted,
        "groups_ended": found.law.endings,
        "rollouts": found.num_rollouts,
        "sampled": found.num_sampled,
        "sampled_twice": len(found.sampled_twice),
        "unused": found.num_unused,
        "wasted_share": round(found.wasted_share, 4),
        "dead_letters": found.num_dead_letters,
        "versions_rebuilt": found.versions_rebuilt,
        "restarts_of_the_job": 0,
    }


def show(console: Console, found: Costs, audited: dict[str, Any], faults: Sequence[str]) -> None:
    """Print what was found."""
    console.print(table_of(found))
    console.print(as_line(audited))
    console.print(
        f"undisturbed {found.calm_updates_per_s:.2f} updates/s; lost {found.lost_s:.0f} s to {len(found.each)} blows"
    )
    for fault in faults:
        console.print(f"FAULT: {fault}", markup=False)


def options_of(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="blows of all kinds (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of their order (default: 0)")
    parser.add_argument("--every", type=float, default=2.5, metavar="S", help="seconds between two (default: 2.5)")
    parser.add_argument("--calm", type=float, default=60, metavar="S", help="seconds before the first (default: 60)")
    parser.add_argument("--finish", type=float, default=1800, metavar="S", help="most seconds behind the last")
    parser.add_argument("--updates", type=int, help="of the run (default: enough for the blows)")
    parser.add_argument("--engine", choices=("stand-in", "vllm"), default="stand-in")
    parser.add_argument(
        "--tokens-per-s", type=float, default=TOKENS_PER_S, help="of the stand-in (default: %(default)s)"
    )
    parser.add_argument("--dir", type=Path, help="folder that keeps the run (default: one that is removed)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options, keys = parser.parse_known_args(arguments)
    enough = round((options.calm + options.kills * options.every) * UPDATES_PER_S) + 30
    options.updates = options.updates or enough
    return options, keys


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options, keys = options_of(sys.argv[1:] if argv is None else argv)
    console = make_console()
    began = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"{time.monotonic() - began:7.1f} s  {text}", markup=False, highlight=False)

    with ExitStack() as stack:
        folder = options.dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos")))
        arguments = [*SETTINGS, f"--run.dir={folder}", f"--run.num_updates={options.updates}", *keys]
        config = load(RECIPE, arguments)
        config.run.path.mkdir(parents=True)
        targets = abilities(config, options.engine, tell)
        if ("disk", "node") in targets:
            for target, size in DISK_SIZES.items():
                machine.mount(config.run.path / DISKS[target], size)
                stack.callback(machine.unmount, config.run.path / DISKS[target])
        try:
            with running(arguments, config.run.path, options) as up:
                striker, world = disturb(config, options, targets, up, tell)
            tell("the run is over; reading its log")
            found = audit(config)
        except (Ended, RucksackError) as error:
            tell(f"FAULT: {error}")
            console.print((folder / "up.txt").read_text()[-4000:], markup=False)
            return 1
        twice = (seen_at(world.nodes.ends, partition, offset) for partition, offset in found.sampled_twice)
        cost, audited = costs(striker.dealt, world.steps, options.calm, twice), as_json(found)
        faults = faults_of(found, striker, config.run.path)
        show(console, cost, audited, faults)
        if options.out:
            facts = machine_facts("torch", "kafka-python")
            settings = {key: str(value) for key, value in vars(options).items()} | {"keys": keys}
            figures = {"machine": facts, "settings": settings, "audit": audited, "faults": faults, **asdict(cost)}
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
