"""Simulates when allocation pays: prompts alike or not, skills that carry over or not, many settings in minutes.

The allocator is the product's own code (`pool.py`), the advantages and weights are the learner's own
(`learner.advantages`); only the model is made up, so that learning itself is exact and cheap:

    p_i = sigmoid(sqrt(1 - r) theta_k(i) + sqrt(r) u_i - d_i),    theta = F s

    d_i  difficulty of prompt i, fixed: spread x (sqrt(1 - v) z_k(i) + sqrt(v) z_i) + mean, z standard normal. v is its
         private share: 0, all prompts of a kind are equally hard; 1, a kind tells nothing of its prompts.
    s    what prompts of a kind k share, u_i what is learned of a prompt by heart. r is the private share of skill: one
         step on a prompt moves its own logit by as much whatever r is, and that of its kin by 1 - r of it. r = 0:
         all carries over; r = 1: nothing does. (The model is linear in (s, u); its kernel is (1 - r) [same kind] + r [i = j].)
    F    unit rows. Identity with width 0: kinds do not touch each other. Else random directions in `width` dimensions:
         a step on one kind moves every other by 1 / sqrt(width) or so, up or down. That is what forgets.

A rollout is right with probability p_i. The gradient is the policy gradient of what was drawn, on-policy, groups without
variance left out: sum_j w_j A_j (r_j - p_i) for the logit of prompt i. The step is Adam's, but with one second
moment for all parameters (the norm of the gradient): a network's weights serve all prompts, and Adam's scale of each
parameter by its own history would undo r. Or plain gradient ascent (`sgd`).
Held-out accuracy is exact: fresh prompts of the same kinds, with u = 0. Of a seed, all allocations have the same prompts.

What it leaves out: tokens, staleness, exploration (a prompt at p = .001 gets nothing but its kin's help), and any likeness
of kinds. `demo` has the demo's difficulties and sizes, `lr` and `width` picked to fit runs of the real model
(docs/allocation-study.md).

Besides pool.py's rules: a name that ends in `/2` or `x16` has half or 16 times the rollouts in every update, and as many
updates. `uniform x16` comes near the exact gradient of the prompts whose turn it is: no way of sharing out rollouts
among them can bring much more.

    python -m benchmarks.simulate --out docs/figures/simulate.json
    python -m benchmarks.simulate --quick
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from allocator.budget import Floats, Ints
from allocator.forgetting import PER_VERSION
from benchmarks.allocation_figures import rollouts_to_reach
from benchmarks.pool import BELIEF_RULES, Pool
from benchmarks.results import machine, mean_and_range, write_rows
from benchmarks.simulated_learner import HELDOUT, Optimizer, Regime, Skills, belief_logit_gradient, logit_gradient
from stream.console import make_console
from stream.messages import Prompt
from stream.sequential import SEQUENTIAL

POINTS = 10
"""Measurements of a run."""
SCALES = {"/2": 0.5, "x16": 16.0}
ALLOCATIONS = (
    "uniform", "paper", "bayes", "p_nonzero", "variance", "oracle", "uniform x16", "uniform /2", "bayes /2",
    "uniform wide", "bayes wide", "choose", "rehearse", "oracle choose", "sequential", "sequential wide",
    "sequential threefold", "turns", "learnability",
)  # fmt: skip
"""What is run in every regime: how many rollouts; which prompts, too."""


def prompts_of(skills: Skills, told: bool) -> list[Prompt]:
    """The pool, as the allocator sees it."""
    return [
        Prompt(prompt_id=f"{number}", text="", answer="", grader="", level=f"{kind}" if told else "")
        for number, kind in enumerate(skills.kind)
    ]


def scaled(regime: Regime, allocation: str) -> tuple[Regime, str]:
    """The regime and the rule behind a name: `bayes /2` is bayes with groups of half the rollouts."""
    rule, _, by = allocation.rpartition(" ")
    if by not in SCALES:
        return regime, allocation
    return replace(regime, group=round(regime.group * SCALES[by])), rule


def played(pool: Pool, rule: str, prompts: int, rates: Floats, rng: np.random.Generator) -> tuple[dict[str, int], Ints]:
    """The groups of an update: rollouts by prompt, and how many were right. [G]"""
    if rule.startswith(SEQUENTIAL):
        return pool.play(rule, prompts, rates)
    plan = pool.plan(rule, prompts, rates)
    return plan, rng.binomial(list(plan.values()), rates[[pool.index[prompt_id] for prompt_id in plan]])


def run(regime: Regime, allocation: str, seed: int) -> dict[str, Any]:
    """Train once: accuracy on the way, exact, and the gradient ratios of samples and prompts."""
    regime, rule = scaled(regime, allocation)
    skills = Skills(regime, np.random.default_rng([seed, 0]))
    rng = np.random.default_rng([seed, 1])
    pool = Pool(
        prompts_of(skills, regime.told), seed, group=regime.group, low=regime.low, discount=regime.discount,
        high=max(128, regime.group), per_version=PER_VERSION if rule in BELIEF_RULES else (),
    )  # fmt: skip
    optimizer = Optimizer(regime)
    measured = set(np.linspace(0, regime.updates, min(POINTS, regime.updates) + 1).astype(int).tolist())
    curve: list[list[float]] = []
    spent = groups = mixed_groups = mixed_samples = 0
    for update in range(regime.updates + 1):
        rates = skills.rates()
        if update in measured:
            curve.append([spent, float(skills.heldout_rates().mean()), float(rates.mean())])
        if update == regime.updates:
            break
        plan, correct = played(pool, rule, regime.prompts, rates, rng)
        chosen, sizes = np.array([pool.index[i] for i in plan]), np.array(list(plan.values()))
        beliefs = pool.believed(list(plan))
        for prompt_id, right, size in zip(plan, correct.tolist(), sizes.tolist(), strict=True):
            pool.observe(prompt_id, right, size)
        gradient = np.zeros(rates.size)
        if rule in BELIEF_RULES:
            gradient[chosen] = belief_logit_gradient(rates[chosen], correct, sizes, beliefs)
        else:
            gradient[chosen] = logit_gradient(rates[chosen], correct, sizes, regime.advantage, regime.weighting)
        optimizer.step(skills, skills.gradient(gradient))
        pool.advance()
        mixed = (correct > 0) & (correct < sizes)
        spent, groups = spent + int(sizes.sum()), groups + sizes.size
        mixed_groups, mixed_samples = mixed_groups + int(mixed.sum()), mixed_samples + int(sizes[mixed].sum())
    return {"curve": curve, "samples": mixed_samples / spent, "prompts": mixed_groups / groups, "spent": spent}


# -- the sweep --------------------------------------------------------------------------------------------------------

BASE = Regime()
SCARCE, MANY, LONG = "demo: 8 x 8", "demo: 60 x 8", "demo: 60 x 8, 1,920 prompts"
DEMO = Regime(demo=True, private_skill=0.0, width=32, lr=0.5)
REGIMES: dict[str, Regime] = {
    "base": BASE,
    **{
        f"skill {skill:g}, difficulty {difficulty:g}": replace(
            BASE, private_skill=skill, private_difficulty=difficulty
        )
        for skill in (0.0, 0.2, 0.5, 0.8, 1.0)
        for difficulty in ((0.0, 0.5, 1.0) if skill != 0.8 else (0.5,))
        if (skill, difficulty) != (BASE.private_skill, BASE.private_difficulty)
    },
    "8 prompts": replace(BASE, prompts=8, updates=100),
    "128 prompts": replace(BASE, prompts=128, updates=16),
    "groups of 4": replace(BASE, group=4, updates=128),
    "groups of 16": replace(BASE, group=16, updates=32),
    "spread 1": replace(BASE, spread=1.0),
    "spread 5": replace(BASE, spread=5.0),
    "easy": replace(BASE, mean=-2.0),
    "hard": replace(BASE, mean=3.5),
    "all hard": replace(BASE, mean=3.5, spread=1.0),
    "40 % solved, 20 % hopeless": replace(BASE, dead=(0.4, 0.2)),
    "60 % hopeless": replace(BASE, dead=(0.0, 0.6)),
    "90 % dead": replace(BASE, dead=(0.45, 0.45)),
    "token mean": replace(BASE, weighting="token_mean"),
    "unbiased": replace(BASE, advantage="leave_one_out"),
    "Dr. GRPO": replace(BASE, advantage="mean", weighting="constant"),
    "sgd": replace(BASE, optimizer="sgd", lr=3.0),
    "lr / 3": replace(BASE, lr=BASE.lr / 3),
    "lr x 3": replace(BASE, lr=BASE.lr * 3),
    "interference, width 64": replace(BASE, width=64),
    "interference, width 16": replace(BASE, width=16),
    "discount .25": replace(BASE, discount=0.25),
    "discount .8": replace(BASE, discount=0.8),
    "discount 1": replace(BASE, discount=1.0),
    "min_rollouts 4": replace(BASE, low=4),
    "kinds not told": replace(BASE, told=False),
    "8 kinds": replace(BASE, kinds=8, each=80),
    "640 kinds": replace(BASE, kinds=640, each=1),
    "no prompt twice": replace(BASE, each=32),
    SCARCE: replace(DEMO, prompts=8, updates=120),
    MANY: replace(DEMO, prompts=60, updates=40),
    LONG: replace(DEMO, prompts=60, updates=100, each=30),
}  # fmt: skip
QUICK = ("base", "90 % dead", SCARCE)


def measure_of(regime: Regime) -> int:
    """Which accuracy of a curve's points counts: held-out; on the pool where nothing carries over."""
    return 2 if regime.private_skill == 1.0 else 1


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """From one run a seed: mean curve [rollouts, held-out, pool] and both final accuracies of each seed."""
    return {
        "curve": np.mean([run["curve"] for run in runs], axis=0).round(4).tolist(),
        "heldout": [round(run["curve"][-1][1], 4) for run in runs],
        "pool": [round(run["curve"][-1][2], 4) for run in runs],
        "samples": round(statistics.fmean(run["samples"] for run in runs), 4),
        "prompts": round(statistics.fmean(run["prompts"] for run in runs), 4),
    }


def compare(regime: Regime, cell: Mapping[str, Any], uniform: Mapping[str, Any]) -> dict[str, Any]:
    """Difference to uniform at the same seeds, its standard error, and the share of uniform's rollouts that it takes to
    get to uniform's final accuracy, by the mean curves (None: not in this run).
    """
    measure = measure_of(regime)
    key = ("heldout", "pool")[measure - 1]
    differences = np.subtract(cell[key], uniform[key])
    curves = [[(point[0], point[measure]) for point in each["curve"]] for each in (cell, uniform)]
    reached = rollouts_to_reach(curves[0], curves[1][-1][1])
    return {
        "difference": round(float(differences.mean()), 5),
        "error": round(float(differences.std(ddof=1) / np.sqrt(differences.size)), 5),
        "reach": None if reached is None else round(reached / uniform["curve"][-1][0], 3),
    }


def sweep(names: Sequence[str], seeds: int, console: Console) -> list[dict[str, Any]]:
    """Every allocation in the regimes named, beside uniform."""
    cells = []
    for number, name in enumerate(names, 1):
        started, regime = time.process_time(), REGIMES[name]
        summaries = {
            allocation: summary([run(regime, allocation, seed) for seed in range(seeds)])
            for allocation in (*ALLOCATIONS, *(("choose 8",) if regime.demo else ()))
        }
        for allocation, cell in summaries.items():
            beside = compare(regime, cell, summaries["uniform"])
            cells.append({"regime": name, "allocation": allocation, **cell, **beside})
        console.print(f"{number}/{len(names)} {name}: {time.process_time() - started:.0f} s of CPU", highlight=False)
    return cells


# -- what is shown ----------------------------------------------------------------------------------------------------


def cells_of(cells: Sequence[Mapping[str, Any]], regime: str) -> dict[str, Mapping[str, Any]]:
    """The cells of a regime by allocation."""
    return {cell["allocation"]: cell for cell in cells if cell["regime"] == regime}


def table_of(cells: Sequence[Mapping[str, Any]], name: str) -> Table:
    """A regime."""
    regime = REGIMES[name]
    changed = {f.name: getattr(regime, f.name) for f in fields(regime) if getattr(regime, f.name) != f.default}
    table = Table(title=f"{name}: {regime.rollouts:,} rollouts {changed or ''}")
    for column in ("allocation", "held-out", "pool", "to uniform", "reach", "samples", "prompts"):
        table.add_column(column, justify="left" if column == "allocation" else "right")
    for allocation, cell in cells_of(cells, name).items():
        table.add_row(
            allocation,
            mean_and_range(cell["heldout"]), mean_and_range(cell["pool"]),
            f"{100 * cell['difference']:+.1f} +- {100 * cell['error']:.1f}",
            "never" if cell["reach"] is None else f"{cell['reach']:.2f}",
            f"{cell['samples']:.3f}", f"{cell['prompts']:.3f}",
        )  # fmt: skip
    return table


def verdicts_of(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """Over all regimes: how often each allocation was ahead of uniform or behind by three standard errors, and how far."""
    table = Table(title=f"{len(names)} regimes, against uniform at the same seeds (points; share of its rollouts)")
    for column in ("allocation", "ahead", "behind", "median", "least", "most", "reach <= .5", "least reach"):
        table.add_column(column, justify="left" if column == "allocation" else "right")
    by_regime = {name: cells_of(cells, name) for name in names}
    for allocation in ALLOCATIONS[1:]:
        cells_by_regime = {name: regime_cells[allocation] for name, regime_cells in by_regime.items()}
        differences = {name: 100 * cell["difference"] for name, cell in cells_by_regime.items()}
        least, most = min(differences, key=differences.__getitem__), max(differences, key=differences.__getitem__)
        reach = {name: cell["reach"] for name, cell in cells_by_regime.items() if cell["reach"] is not None}
        first = min(reach, key=reach.__getitem__, default=None)
        table.add_row(
            allocation,
            str(sum(cell["difference"] > 3 * cell["error"] for cell in cells_by_regime.values())),
            str(sum(cell["difference"] < -3 * cell["error"] for cell in cells_by_regime.values())),
            f"{statistics.median(differences.values()):+.1f}",
            f"{differences[least]:+.1f} ({least})", f"{differences[most]:+.1f} ({most})",
            str(sum(share <= 0.5 for share in reach.values())),
            f"{reach[first]:.2f} ({first})" if first else "never",
        )  # fmt: skip
    return table


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=REGIMES, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help=f"two seeds of {', '.join(QUICK)}".replace("%", "%%"))
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}; want 2 at least, for a standard error")
    names, seeds = (QUICK, 2) if options.quick else (options.regimes, options.seeds)
    console = make_console()
    settings = {
        "seeds": seeds, "heldout": HELDOUT * BASE.kinds, "base": asdict(BASE), "machine": machine("numpy"),
    }  # fmt: skip
    console.print(settings)
    started = time.process_time()
    cells = sweep(names, seeds, console)
    settings["cpu_seconds"] = round(time.process_time() - started)
    for name in names:
        console.print(table_of(cells, name))
    console.print(verdicts_of(cells, names))
    if options.out:
        write_rows(options.out, settings, "cells", cells)


if __name__ == "__main__":
    main()
