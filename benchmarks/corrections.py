"""Trains the demo's model on rollouts that are forced to be old, with each off-policy correction.

Every update trains on rollouts that the weights of `staleness` updates before have sampled, all of them, through the
learner's own trainer and the objectives of learner/presets.py, with one weighting and one advantage for all. Accuracy
is the exact probability of the right answer, over the held-out prompts.

    python -m benchmarks.corrections --out docs/figures/corrections.json --plot docs/figures/corrections.svg

Each finished run is a line of `--log`, and is not made again: what was interrupted goes on, and `--only-tables` shows what
is there.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from benchmarks.demo_task import Task, accuracy, graded_groups, has_gradient
from benchmarks.results import append_run, finished_runs, machine, mean_and_range
from learner.model import load_model
from learner.presets import PRESETS
from learner.trainer import Trainer
from stream.config import LearnerTable, Objective
from stream.console import make_console
from stream.weights import digest_of

CORRECTIONS: dict[str, Objective] = {
    "none": PRESETS["reinforce"],
    "ppo clip": PRESETS["grpo"],
    "tis": PRESETS["tis"],
    "icepop": PRESETS["icepop"].replaced(ratio="behavior", trust_region="icepop", correction="none"),
    "cispo": PRESETS["cispo"],
    "gspo": PRESETS["gspo"],
    "gspo .2": PRESETS["gspo"].replaced(clip_low=0.2, clip_high=0.2),
}
"""The presets' trust regions, all on the ratio to the weights that sampled (behavior)."""


def run(options: argparse.Namespace, task: Task, correction: str, staleness: int, seed: int) -> dict[str, Any]:
    """Train once; returns accuracies on the way and what the ratios looked like."""
    torch.manual_seed(seed)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    trainer = Trainer(load_model(options.model, torch.device("cpu")), LearnerTable(lr=options.lr))
    trainer.objective = CORRECTIONS[correction].replaced(advantage="std", weighting="prompt_mean")
    sampler = load_model(options.model, torch.device("cpu"))
    kept = [{name: value.clone() for name, value in sampler.state_dict().items()}]
    curve, figures = [], []
    started = time.monotonic()
    for step in range(options.updates):
        sampler.load_state_dict(kept[max(0, len(kept) - 1 - staleness)])
        chosen = [task.pool[i] for i in rng.choice(len(task.pool), options.prompts, replace=False)]
        sizes = [options.rollouts] * options.prompts
        groups = graded_groups(sampler, max(0, step - staleness), chosen, sizes, task.end, generator)
        figures.append(trainer.update(list(filter(has_gradient, groups)), version=step, step=step))
        kept.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        del kept[: -staleness - 1]
        if (step + 1) % options.every == 0:
            curve.append(accuracy(trainer.model, task.heldout))
    used = [f for f in figures if f["learner/num_tokens"]]

    def late(key: str) -> float:
        return statistics.fmean(f[f"learner/{key}"] for f in used[len(used) // 2 :])

    return {
        "correction": correction, "staleness": staleness, "seed": seed, "accuracy": curve,
        "seconds": time.monotonic() - started,
        "ess": late("ess"), "mismatch_k3": late("mismatch_k3"), "truncated": late("truncated_fraction"),
        "rejected": late("rejected_fraction"), "grad_norm": late("grad_norm"),
    }  # fmt: skip


def plan(options: argparse.Namespace) -> list[tuple[str, int, int]]:
    """What is run. Without staleness all ratios are 1 and all corrections the same: it is run once a seed."""
    runs = []
    for seed in range(options.seeds):  # outermost: what is cut short has whole seeds
        for staleness in options.staleness:
            runs += [(name, staleness, seed) for name in (options.corrections if staleness else ["tis"])]
    return runs


def table_of(results: Sequence[dict[str, Any]], options: argparse.Namespace) -> Table:
    """Accuracy at the end, mean of the seeds, lowest and highest in brackets; behind it the mean over the whole run."""
    num_seeds = len({r["seed"] for r in results})
    rollouts = options.updates * options.prompts * options.rollouts
    table = Table(title=f"held-out accuracy after {rollouts:,} rollouts, and on the way there; {num_seeds} seeds")
    table.add_column("correction")
    for staleness in options.staleness:
        table.add_column(f"staleness {staleness}", justify="right")
    for name in options.corrections:
        cells = []
        for staleness in options.staleness:
            runs = select(results, name, staleness)
            last = [run["accuracy"][-1] for run in runs]
            way = statistics.fmean(statistics.fmean(run["accuracy"]) for run in runs) if runs else 0.0
            cells.append(f"{mean_and_range(last)} {way:.3f}" if runs else "-")
        table.add_row(name, *cells)
    return table


def select(results: Iterable[dict[str, Any]], name: str, staleness: int) -> list[dict[str, Any]]:
    """The runs of a correction at a staleness; at 0 they are shared."""
    return [
        r
        for r in results
        if r["staleness"] == staleness and r["correction"] in (name, "tis" if not staleness else name)
    ]


def plot(results: Sequence[dict[str, Any]], options: argparse.Namespace, base: float, file: Path) -> None:
    """Learning curves, one panel a staleness."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rucksack"
    from matplotlib import pyplot

    stale = [s for s in options.staleness if s]
    figure, panels = pyplot.subplots(1, len(stale), figsize=(4 * len(stale), 3.6), sharey=True, squeeze=False)
    rollouts = [
        0,
        *(np.arange(1, options.updates // options.every + 1) * options.every * options.prompts * options.rollouts),
    ]
    for panel, staleness in zip(panels[0], stale, strict=True):
        curves = [[base, *r["accuracy"]] for r in select(results, "tis", 0)]
        panel.plot(rollouts, np.mean(curves, axis=0), color="black", linestyle=":", label="on-policy")
        for number, name in enumerate(options.corrections):
            curves = [[base, *r["accuracy"]] for r in select(results, name, staleness)]
            if curves:
                panel.plot(rollouts, np.mean(curves, axis=0), label=name, color=f"C{number}")
                panel.fill_between(
                    rollouts, np.min(curves, axis=0), np.max(curves, axis=0), alpha=0.12, color=f"C{number}"
                )
        panel.set_title(f"staleness {staleness}")
        panel.set_xlabel("rollouts")
    panels[0][0].set_ylabel("held-out accuracy")
    panels[0][-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo/base", help="folder of the demo's base model")
    parser.add_argument("--updates", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=16, help="prompts of an update")
    parser.add_argument("--rollouts", type=int, default=8, help="rollouts of a prompt")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--staleness", type=int, nargs="+", default=[0, 2, 8, 32])
    parser.add_argument("--corrections", nargs="+", default=list(CORRECTIONS), choices=CORRECTIONS, metavar="NAME")
    parser.add_argument("--every", type=int, default=8, help="updates between two measurements of the accuracy")
    parser.add_argument("--log", type=Path, default=Path("corrections.jsonl"), help="a line for each finished run")
    parser.add_argument("--only-tables", action="store_true", help="train nothing: show what is in the log")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--plot", type=Path, help="draw the learning curves (SVG; needs matplotlib)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = make_console()
    task = Task(options.model, num_pool=640, num_heldout=256)
    base = accuracy(load_model(options.model, torch.device("cpu")), task.heldout)
    settings = {name: getattr(options, name) for name in ("model", "updates", "prompts", "rollouts", "lr", "every")}
    settings |= {"model_digest": digest_of(options.model)[:16], "machine": machine("torch")}
    console.print(f"base {base:.4f}; {settings}")
    results = [run for run in finished_runs(options.log, settings) if run["seed"] < options.seeds]
    done = {(r["correction"], r["staleness"], r["seed"]) for r in results}
    todo = [] if options.only_tables else [cell for cell in plan(options) if cell not in done]
    for number, (name, staleness, seed) in enumerate(todo, 1):
        results.append(last := run(options, task, name, staleness, seed))
        append_run(options.log, last, settings)
        console.print(
            f"{number}/{len(todo)} {name} staleness={staleness} seed={seed} accuracy={last['accuracy'][-1]:.4f} "
            f"ess={last['ess']:.3f} truncated={last['truncated']:.3f} rejected={last['rejected']:.3f} {last['seconds']:.0f} s"
        )
    if options.out:
        options.out.write_text(json.dumps({"settings": settings, "base": base, "runs": results}, indent=1))
    console.print(table_of(results, options))
    if options.plot:
        plot(results, options, base, options.plot)


if __name__ == "__main__":
    main()
