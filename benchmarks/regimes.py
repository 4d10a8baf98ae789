"""Measures when allocation pays: accuracy against rollouts on the demo's task, by allocation, weighting and update size.

The learner's own trainer, the allocator's own beliefs and modes (`pool.py`, which also has the rules that choose among
the whole pool), in one process and on-policy.

    nohup python -m benchmarks.regimes --log regimes.jsonl --out docs/figures/regimes.json &

Each finished run is a line of `--log`, and is not made again; `--only-tables` shows what is there.
"""

import argparse
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.demo_task import Task, accuracy, graded_groups, has_gradient
from benchmarks.pool import Pool
from benchmarks.results import append_run, finished_runs, machine, mean_and_range, write_rows
from learner.model import load_model
from learner.presets import PRESETS
from learner.trainer import Trainer
from stream.config import LearnerTable
from stream.console import make_console
from stream.weights import digest_of

GROUP = 8
"""Rollouts a prompt gets on average."""


@dataclass(frozen=True, slots=True)
class Regime:
    """How many prompts' rollouts an update takes, and how many updates there are."""

    prompts: int
    updates: int

    @property
    def rollouts(self) -> int:
        """Rollouts of the whole run."""
        return self.prompts * GROUP * self.updates


REGIMES = {"scarce": Regime(8, 120), "many": Regime(60, 40)}
WEIGHTINGS = {
    "prompt mean": {"advantage": "std", "weighting": "prompt_mean"},
    "token mean": {"advantage": "std", "weighting": "token_mean"},
    "unbiased": {"advantage": "leave_one_out", "weighting": "prompt_mean"},
}
BANDS = {"sure": ("c00", "c12"), "unsure": ("c12", "c36"), "hard": ("c36", "c64")}
"""Codes that the base model gets right nearly always; with probability .9 to .2; .09 to .03 (prompts.codes.codes)."""
CELLS = (
    ("uniform", "prompt mean"),
    ("bayes", "prompt mean"),
    ("choose", "prompt mean"),
    ("choose 8", "prompt mean"),
    ("paper", "prompt mean"),
    ("bayes", "token mean"),
    ("paper", "token mean"),
    ("uniform", "unbiased"),
    ("bayes", "unbiased"),
    ("rehearse", "prompt mean"),
    ("variance", "prompt mean"),
    ("p_nonzero", "prompt mean"),
    ("uniform wide", "prompt mean"),
    ("bayes wide", "prompt mean"),
)
"""Allocation and weighting; with equal groups token mean is prompt mean, or nearly."""


def run(task: Task, model: str, lr: float, every: int, cell: dict[str, Any]) -> dict[str, Any]:
    """Train once; returns accuracy on the way and both gradient ratios of every stretch between two measurements."""
    regime, seed = REGIMES[cell["regime"]], cell["seed"]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    trainer = Trainer(load_model(model, torch.device("cpu")), LearnerTable(lr=lr))
    trainer.objective = PRESETS["tis"].replaced(**WEIGHTINGS[cell["weighting"]])
    pool = Pool([prompt for prompt, _, _ in task.pool], seed, group=GROUP)
    curve: dict[str, list[float]] = {"rollouts": [], "accuracy": [], "samples": [], "prompts": [], "largest": []}
    graded = mixed_samples = groups_seen = mixed_groups = largest = 0
    started = time.monotonic()
    for step in range(regime.updates):
        plan = pool.plan(cell["allocation"], regime.prompts)
        items = [task.pool[pool.index[prompt_id]] for prompt_id in plan]
        groups = graded_groups(trainer.model, step, items, list(plan.values()), task.end, generator)
        for group in groups:
            pool.observe(group.group_id, sum(verdict.reward for verdict in group.graded), len(group.graded))
        mixed = [group for group in groups if has_gradient(group)]
        trainer.update(mixed, version=step, step=step)
        graded += sum(plan.values())
        mixed_samples += sum(g.num_rollouts for g in mixed)
        groups_seen, mixed_groups = groups_seen + len(groups), mixed_groups + len(mixed)
        largest = max(largest, *plan.values())
        if (step + 1) % (regime.updates // every) == 0:
            curve["rollouts"].append((step + 1) * regime.prompts * GROUP)
            curve["accuracy"].append(round(accuracy(trainer.model, task.heldout), 4))
            curve["samples"].append(round(mixed_samples / graded, 4))
            curve["prompts"].append(round(mixed_groups / groups_seen, 4))
            curve["largest"].append(largest)
            graded = mixed_samples = groups_seen = mixed_groups = largest = 0
    bands = [
        round(accuracy(trainer.model, [item for item in task.heldout if low <= item[0].level < high]), 4)
        for low, high in BANDS.values()
    ]
    return {**cell, **curve, "bands": bands, "seconds": round(time.monotonic() - started, 1)}


def plan_cells(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What is run; seeds outermost, so that what is cut short has whole seeds."""
    return [
        {"allocation": allocation, "weighting": weighting, "regime": regime, "seed": seed}
        for seed in range(options.seeds)
        for allocation, weighting in CELLS
        if allocation in options.allocations and weighting in options.weightings
        for regime in options.regimes
    ]


def select(results: Iterable[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """The runs that have these values."""
    return [r for r in results if all(r[key] == value for key, value in wanted.items())]


def table_of(results: Sequence[dict[str, Any]], regime: str) -> Table:
    """Means over the seeds; lowest and highest in brackets."""
    table = Table(title=f"{regime}: held-out accuracy after {REGIMES[regime].rollouts:,} rollouts and after half")
    for column in ("allocation", "weighting", "seeds", "half", "end", "samples", "prompts", "largest"):
        table.add_column(column, justify="left" if column in ("allocation", "weighting") else "right")
    for allocation, weighting in CELLS:
        runs = select(results, allocation=allocation, weighting=weighting, regime=regime)
        if not runs:
            continue
        accuracies = [[r["accuracy"][i] for r in runs] for i in (len(runs[0]["accuracy"]) // 2 - 1, -1)]
        ratios = [statistics.fmean(statistics.fmean(r[key]) for r in runs) for key in ("samples", "prompts")]
        table.add_row(
            allocation, weighting, str(len(runs)),
            *map(mean_and_range, accuracies),
            *(f"{ratio:.3f}" for ratio in ratios), str(max(max(r["largest"]) for r in runs)),
        )  # fmt: skip
    return table


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo/base", help="folder of the demo's base model")
    parser.add_argument("--pool", type=int, default=640, help="prompts to choose from")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=REGIMES)
    parser.add_argument("--allocations", nargs="+", default=[name for name, _ in CELLS], metavar="NAME")
    parser.add_argument("--weightings", nargs="+", default=list(WEIGHTINGS), choices=WEIGHTINGS)
    parser.add_argument("--every", type=int, default=10, help="measurements of the accuracy in a run")
    parser.add_argument("--log", type=Path, default=Path("regimes.jsonl"), help="a line for each finished run")
    parser.add_argument("--only-tables", action="store_true", help="train nothing: show what is in the log")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = make_console()
    task = Task(options.model, num_pool=options.pool, num_heldout=640)
    settings = {name: getattr(options, name) for name in ("pool", "lr", "every")}
    settings |= {
        "base": round(accuracy(load_model(options.model, torch.device("cpu")), task.heldout), 4),
        "model_digest": digest_of(options.model)[:16], "machine": machine("torch"),
        "regimes": {name: [r.prompts, r.updates] for name, r in REGIMES.items()},
    }  # fmt: skip
    console.print(settings)
    results = finished_runs(options.log, settings)
    done = [{key: r[key] for key in ("allocation", "weighting", "regime", "seed")} for r in results]
    todo = [] if options.only_tables else [cell for cell in plan_cells(options) if cell not in done]
    for number, cell in enumerate(todo, 1):
        results.append(last := run(task, options.model, options.lr, options.every, cell))
        append_run(options.log, last, settings)
        console.print(f"{number}/{len(todo)} {cell} accuracy={last['accuracy'][-1]:.4f} {last['seconds']:.0f} s")
    for regime in options.regimes:
        console.print(table_of(results, regime))
    if options.out:
        write_rows(options.out, settings, "runs", results)


if __name__ == "__main__":
    main()
