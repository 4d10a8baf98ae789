"""Draws the figures of docs/allocation-study.md, from formulas and the data beside them; trains nothing, takes seconds.

    python -m benchmarks.allocation_figures --folder docs/figures

Reads allocation_runs.json (benchmarks/allocation_data.py, real runs), regimes.json (benchmarks/regimes.py) and
simulate.json (benchmarks/simulate.py); prints the tables of the page. Needs matplotlib.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from allocator.values import PlugIn, p_nonzero, paper_value, rollouts_needed
from benchmarks.results import mean_and_range
from benchmarks.theorem import expected_rollouts, least_rollouts, rollouts_enough
from stream.console import make_console

MODES = ("uniform", "paper", "bayes", "p_nonzero", "variance")
COLOURS = {
    "uniform": "#6b7280",
    "paper": "#d97706",
    "bayes": "#2563eb",
    "p_nonzero": "#dc2626",
    "variance": "#0e7490",
    "choose": "#059669",
    "choose 8": "#b83280",
    "rehearse": "#7c3aed",
}
SETTINGS = {"": "60 prompts an update", "scarce-": "8 prompts an update"}
SIZES = ((2, 2), (3, 5), (6, 10), (11, 20), (21, 40), (41, 128))
"""Group sizes that are shown together."""
CONFIDENCE = 0.9


# -- numbers ----------------------------------------------------------------------------------------------------------


def rollouts_to_reach(curve: Sequence[Sequence[float]], accuracy: float) -> float | None:
    """Rollouts at which a curve of (rollouts, accuracy) first reaches an accuracy, on straight lines; None if never."""
    for (before, low), (after, high) in itertools.pairwise(curve):
        if low >= accuracy:
            return before
        if high >= accuracy:
            return before + (after - before) * (accuracy - low) / (high - low)
    return curve[-1][0] if curve[-1][1] >= accuracy else None


def size_shares(sizes: Mapping[str, int]) -> tuple[list[float], list[float]]:
    """Shares of the groups, and of their rollouts, in each range of SIZES, from the number of groups of each size."""
    groups = [sum(n for size, n in sizes.items() if low <= int(size) <= high) for low, high in SIZES]
    rollouts = [sum(n * int(size) for size, n in sizes.items() if low <= int(size) <= high) for low, high in SIZES]
    return [n / sum(groups) for n in groups], [n / sum(rollouts) for n in rollouts]


def simulated_p_nonzero(p: float, num_rollouts: int, groups: int, rng: np.random.Generator) -> float:
    """Share of simulated groups that hold both outcomes."""
    solved = (rng.random((groups, num_rollouts)) < p).sum(axis=1)
    return float(((solved > 0) & (solved < num_rollouts)).mean())


# -- figures ----------------------------------------------------------------------------------------------------------


def theorem(plt: Any) -> Any:
    """Theorem 1: its bound, the exact number and the sufficient bound, and what each gives."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    p = np.linspace(0.03, 0.97, 471)
    bounds = {
        "Theorem 1 (necessary)": (np.ceil(rollouts_needed(p, CONFIDENCE) - 1e-9), "#d97706", "-"),
        "exact": (least_rollouts(p, CONFIDENCE), "#111827", ":"),
        "sufficient": (np.ceil(rollouts_enough(p, CONFIDENCE) - 1e-9), "#2563eb", "-"),
    }
    rng = np.random.default_rng(0)
    at = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    for name, (rollouts, colour, line) in bounds.items():
        left.step(p, rollouts, where="mid", color=colour, linestyle=line, label=name, linewidth=1.5)
        if name != "exact":
            right.plot(p, p_nonzero(p, rollouts), color=colour, linewidth=1, label=name)
            sizes = [int(rollouts[np.argmin(abs(p - x))]) for x in at]
            shares = [simulated_p_nonzero(x, n, 20_000, rng) for x, n in zip(at, sizes, strict=True)]
            right.plot(at, shares, "o", color=colour, markersize=4)
    right.axhline(CONFIDENCE, color="#111827", linestyle=":", linewidth=1)
    left.set(yscale="log", xlabel="success rate p", ylabel="rollouts N", title=f"for P(both outcomes) >= {CONFIDENCE}")
    right.set(
        xlabel="success rate p", ylabel="P(both outcomes)", title="what they give (dots: 20,000 simulated groups)"
    )
    left.legend()
    return figure


def needed(plt: Any) -> Any:
    """The paper's Fig. 3: rollouts needed for a gradient."""
    figure, panel = plt.subplots(figsize=(5.4, 3.6))
    p = np.linspace(0.01, 0.99, 491)
    for confidence, shade in ((0.5, "#93c5fd"), (0.9, "#2563eb"), (0.99, "#1e3a8a")):
        panel.plot(p, least_rollouts(p, confidence), color=shade, label=f"in {confidence:.0%} of groups")
    panel.plot(p, expected_rollouts(p), color="#d97706", linestyle="--", label="on average: 1/p + 1/q - 1")
    panel.axhline(8, color="#6b7280", linestyle=":", linewidth=1, label="uniform: 8")
    panel.set(yscale="log", xlabel="success rate p", ylabel="rollouts for a non-zero gradient")
    panel.legend(loc="upper center")
    return figure


def value(plt: Any) -> Any:
    """The paper's Fig. 4: value over success rate and rollouts, and what a price buys."""
    figure, (field, curves, bought) = plt.subplots(1, 3, figsize=(11.5, 3.5))
    p, sizes = np.linspace(0.005, 0.995, 199), np.unique(np.geomspace(2, 128, 60).astype(np.int64))
    values = np.array([paper_value(p, np.full(p.size, n)) for n in sizes])
    filled = field.contourf(p, sizes, values, levels=np.arange(0, 0.16, 0.015), cmap="Blues")
    field.set(yscale="log", xlabel="success rate p", ylabel="rollouts N", title="V(N) of the paper")
    field.set_yticks([2, 4, 8, 16, 32, 64, 128], labels=["2", "4", "8", "16", "32", "64", "128"])
    figure.colorbar(filled, ax=field)
    shades = ["#bfdbfe", "#93c5fd", "#60a5fa", "#3b82f6", "#1d4ed8", "#1e3a8a"]
    for n, shade in zip((2, 4, 8, 16, 32, 128), shades, strict=True):
        curves.plot(p, paper_value(p, np.full(p.size, n)), color=shade, label=f"N = {n}")
    curves.set(xlabel="success rate p", title="V by success rate")
    curves.legend(fontsize=7)
    known = PlugIn(p)
    for price, shade in ((1e-2, shades[1]), (1e-3, shades[3]), (1e-4, shades[5])):
        more = [known.marginal(np.arange(p.size), np.full(p.size, n)) >= price for n in range(2, 128)]
        bought.step(p, 2 + np.sum(more, axis=0), where="mid", color=shade, label=f"{price:g}")
    bought.set(yscale="log", xlabel="success rate p", title="N of the optimum, by price of a rollout")
    bought.set_yticks([2, 4, 8, 16, 32, 64, 128], labels=["2", "4", "8", "16", "32", "64", "128"])
    bought.legend(fontsize=7)
    return figure


def ratios(plt: Any, runs: Mapping[str, Any]) -> Any:
    """The paper's Fig. 2: gradient ratios over training, by samples and by prompts, and accuracy beside them."""
    figure, rows = plt.subplots(2, 3, figsize=(11.5, 6.2), sharex="row")
    for row, (prefix, title) in zip(rows, SETTINGS.items(), strict=True):
        for mode in MODES:
            seeds = seeds_of(runs, f"{prefix}{mode}")
            if not seeds:
                continue
            for panel, key in zip(row, ("samples", "prompts"), strict=False):
                band(panel, seeds[0]["stretches"]["rollouts"], [run["stretches"][key] for run in seeds], mode)
            band(row[2], [x for x, _ in seeds[0]["heldout"]], [[y for _, y in r["heldout"]] for r in seeds], mode)
        top = row[0].get_ylim()[1]
        row[0].set(ylim=(0, top), ylabel=title, title="gradient ratio, of samples")
        row[1].set(ylim=(0, top), title="gradient ratio, of prompts")
        row[2].set(title="held-out accuracy")
    for panel in rows[1]:
        panel.set_xlabel("rollouts")
    rows[0][0].legend()
    return figure


def seeds_of(runs: Mapping[str, Any], name: str) -> list[Any]:
    """The runs of a name, by seed."""
    return [runs[key] for key in sorted(runs) if key.rpartition("-")[0] == name]


def band(panel: Any, x: Sequence[float], curves: Sequence[Sequence[float]], name: str) -> None:
    """Mean of the seeds, lowest to highest shaded."""
    panel.plot(x, np.mean(curves, axis=0), color=COLOURS[name], label=name)
    panel.fill_between(x, np.min(curves, axis=0), np.max(curves, axis=0), color=COLOURS[name], alpha=0.15, linewidth=0)


def sizes(plt: Any, runs: Mapping[str, Any]) -> Any:
    """The paper's Fig. 5: how rollouts are spread over the prompts, by quarter of training."""
    figure, rows = plt.subplots(2, 3, figsize=(11.5, 6.2))
    shades = ["#dbeafe", "#bfdbfe", "#93c5fd", "#3b82f6", "#1d4ed8", "#1e3a8a"]
    for row, mode in zip(rows, ("paper", "bayes"), strict=True):
        seeds = seeds_of(runs, mode)
        shares = [[size_shares(run["sizes"][quarter]) for run in seeds] for quarter in range(4)]
        for panel, which, of in ((row[0], 0, "groups"), (row[1], 1, "rollouts")):
            heights = np.array([np.mean([share[which] for share in quarter], axis=0) for quarter in shares])
            bottom = np.zeros(4)
            for number, (low, high) in enumerate(SIZES):
                label = f"{low}" if low == high else f"{low}-{high}"
                panel.bar(range(1, 5), heights[:, number], 0.8, bottom, color=shades[number], label=label)
                bottom += heights[:, number]
            panel.set(ylim=(0, 1), xticks=range(1, 5), ylabel=mode if of == "groups" else "")
            panel.set_title(f"share of {of}, by size of the group")
        for quarter, shade in ((1, shades[2]), (2, shades[3]), (3, shades[5])):
            points = by_belief([run["by_belief"][quarter] for run in seeds])
            row[2].plot(*zip(*points, strict=True), "o-", color=shade, markersize=3, label=f"quarter {quarter + 1}")
        row[2].axhline(8, color=COLOURS["uniform"], linestyle=":", linewidth=1)
        row[2].set(xlim=(-0.03, 1.03), ylim=(0, None), title="mean rollouts, by believed success rate")
    rows[1][0].set_xlabel("quarter of training")
    rows[1][1].set_xlabel("quarter of training")
    rows[1][2].set_xlabel("believed success rate (of prompts seen before)")
    rows[0][1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), title="rollouts", title_fontsize=7)
    rows[0][2].legend(fontsize=7)
    return figure


def by_belief(bins: Sequence[Mapping[str, Sequence[float]]]) -> list[tuple[float, float]]:
    """(middle of the bin of believed success rates, mean rollouts) over several runs; unseen prompts are left out."""
    total: dict[float, list[float]] = {}
    for run in bins:
        for label, (groups, mean) in run.items():
            if label != "unseen":
                low, _, high = label.partition("-")
                entry = total.setdefault((float(low) + float(high or low)) / 2, [0.0, 0.0])
                entry[0] += groups
                entry[1] += groups * mean
    return [(middle, rollouts / groups) for middle, (groups, rollouts) in sorted(total.items())]


def regimes(plt: Any, data: Mapping[str, Any]) -> Any:
    """Accuracy against rollouts by allocation in both regimes, and against the gradient ratio."""
    figure, panels = plt.subplots(1, 3, figsize=(11.5, 3.7))
    names = [name for name in COLOURS if any(r["allocation"] == name for r in data["runs"])]
    for panel, (regime, (prompts, _)) in zip(panels, data["settings"]["regimes"].items(), strict=False):
        for name in names:
            cell_runs = runs_of(data, name, "prompt mean", regime)
            if cell_runs:
                base = data["settings"]["base"]
                band(panel, [0, *cell_runs[0]["rollouts"]], [[base, *r["accuracy"]] for r in cell_runs], name)
        panel.set(title=f"{regime}: {prompts} prompts an update", xlabel="rollouts", ylabel="held-out accuracy")
        for name in names:
            for run in runs_of(data, name, "prompt mean", regime):
                at = statistics.fmean(run["samples"]), run["accuracy"][-1]
                panels[2].plot(*at, "o" if regime == "scarce" else "s", color=COLOURS[name], markersize=5)
    panels[2].set(
        title="a higher ratio is not learning", xlabel="gradient ratio, of samples", ylabel="accuracy at the end"
    )
    panels[2].plot([], [], "o", color="#111827", label="scarce")
    panels[2].plot([], [], "s", color="#111827", label="many")
    panels[0].legend(fontsize=7)
    panels[2].legend(fontsize=7)
    return figure


def runs_of(data: Mapping[str, Any], allocation: str, weighting: str, regime: str) -> list[Any]:
    """The runs of a cell."""
    wanted = {"allocation": allocation, "weighting": weighting, "regime": regime}
    return [run for run in data["runs"] if wanted.items() <= run.items()]


MARKS = {
    "bayes": ("#2563eb", "o"),
    "uniform x16": ("#111827", "|"),
    "uniform wide": ("#6b7280", "D"),
    "bayes wide": ("#0891b2", "d"),
    "choose": ("#059669", "^"),
    "rehearse": ("#7c3aed", "v"),
    "oracle choose": ("#d97706", "*"),
}
"""Colours and markers of the simulator's allocations."""
TAKEN_TOGETHER = {"paper": ("#d97706", "s"), "p_nonzero": ("#111827", "x"), "variance": ("#6b7280", "+")}
"""Colours and markers of three modes whose rows are drawn together."""
PRIVATE = {0.0: "skill 0, difficulty 0.5", 0.2: "base", 0.5: "skill 0.5, difficulty 0.5",
           0.8: "skill 0.8, difficulty 0.5", 1.0: "skill 1, difficulty 0.5"}  # fmt: skip
"""Regimes by the private share of skill."""
SHOWN = (
    "base", "8 prompts", "128 prompts", "groups of 4", "groups of 16", "spread 1", "spread 5", "easy", "hard", "all hard",
    "40 % solved, 20 % hopeless", "60 % hopeless", "90 % dead", "token mean", "sgd", "lr / 3", "lr x 3",
    "interference, width 16", "kinds not told", "no prompt twice",
)  # fmt: skip
BOTH = {"scarce": ("demo: 8 x 8", "o"), "many": ("demo: 60 x 8", "s")}
"""The real model's regimes, and their likes in the simulator."""


def simulator(plt: Any, simulated: Mapping[str, Any], real: Mapping[str, Any]) -> Any:
    """Difference to uniform and share of its rollouts by regime; by how private skill is; and beside the real model."""
    cells = {(cell["regime"], cell["allocation"]): cell for cell in simulated["cells"]}
    figure = plt.figure(figsize=(11.5, 10.5))
    grid = figure.add_gridspec(2, 2, height_ratios=(1.75, 1))
    far, reach, private, beside = (figure.add_subplot(grid[cell]) for cell in ((0, 0), (0, 1), (1, 0), (1, 1)))
    rows = range(len(SHOWN))
    for name, (colour, marker) in MARKS.items():
        shown = [cells[regime, name] for regime in SHOWN]
        style = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 9 if marker in "|*" else 5}
        far.errorbar([100 * cell["difference"] for cell in shown], rows, xerr=[100 * c["error"] for c in shown],
                     elinewidth=0.8, label=name, **style)  # fmt: skip
        if name != "uniform x16":
            reach.plot([1.1 if cell["reach"] is None else cell["reach"] for cell in shown], rows, **style)
        by_private = [cells[regime, name] for regime in PRIVATE.values()]
        gains = [
            100 * float(np.mean(np.subtract(c["pool"], cells[c["regime"], "uniform"]["pool"]))) for c in by_private
        ]
        private.plot(list(PRIVATE), gains, color=colour, marker=marker, markersize=style["markersize"], linewidth=1)
    far.axvline(0, color=COLOURS["uniform"], linewidth=1)
    far.set(yticks=rows, yticklabels=SHOWN, title="final accuracy against uniform, points (and standard error)")
    reach.axvline(0.5, color="#111827", linestyle=":", linewidth=1)
    reach.axvline(1.0, color=COLOURS["uniform"], linewidth=1)
    reach.set(
        yticks=rows, yticklabels=[], title="share of uniform's rollouts to reach its accuracy (dotted: the target)"
    )
    reach.set_xticks([0.25, 0.5, 0.75, 1.0, 1.1], labels=["1/4", "1/2", "3/4", "1", "never"])
    for panel in (far, reach):
        panel.set_ylim(len(SHOWN) - 0.5, -0.5)
        panel.grid(axis="y", color="#e5e7eb", linewidth=0.6)
    reach.legend(*far.get_legend_handles_labels(), fontsize=8, loc="lower left")
    private.axhline(0, color=COLOURS["uniform"], linewidth=1)
    private.set(
        xlabel="private share of skill (1: nothing carries over)", ylabel="points", title="accuracy on the pool against uniform"
    )  # fmt: skip
    for regime, (name, shape) in BOTH.items():
        for allocation, (colour, _) in {**MARKS, **TAKEN_TOGETHER, "choose 8": (COLOURS["choose 8"], "")}.items():
            pairs = [
                run["accuracy"][-1] - uniform["accuracy"][-1]
                for run in runs_of(real, allocation, "prompt mean", regime)
                for uniform in runs_of(real, "uniform", "prompt mean", regime)
                if run["seed"] == uniform["seed"]
            ]
            if pairs:
                cell = cells[name, allocation]
                at = 100 * statistics.fmean(pairs), 100 * cell["difference"]
                beside.errorbar(*at, 100 * cell["error"], color=colour, marker=shape, markersize=5, elinewidth=0.8)
                if allocation.startswith(("choose", "rehearse", "uniform")):  # the modes lie on one another
                    beside.annotate(allocation, at, (-4, 6), textcoords="offset points", fontsize=7, color=colour)
        beside.plot([], [], marker=shape, linestyle="none", color="#111827", label=regime)
    beside.axline((0, 0), slope=1, color="#9ca3af", linestyle=":", linewidth=1)
    beside.set(
        xlabel="real model, points against uniform", ylabel="simulator", title="the demo: simulated and real (near 0: the modes)"
    )  # fmt: skip
    beside.legend(fontsize=8)
    return figure


# -- tables -----------------------------------------------------------------------------------------------------------


def table_of(runs: Mapping[str, Any]) -> Table:
    """Real runs: means of the seeds, lowest and highest in brackets."""
    table = Table(
        "setting", "mode", "seeds", "samples", "prompts", "groups with a gradient", "held-out", "pool", "reach"
    )
    for prefix in (*SETTINGS, "long-"):
        reference = seeds_of(runs, f"{prefix}uniform")
        for mode in MODES:
            seeds = seeds_of(runs, f"{prefix}{mode}")
            if not seeds:
                continue
            reached = [
                rollouts_to_reach(run["heldout"], of["heldout"][-1][1])
                for run, of in zip(seeds, reference, strict=True)
            ]
            table.add_row(
                prefix or "many", mode, str(len(seeds)),
                mean_and_range([run["samples"] for run in seeds]), mean_and_range([run["prompts"] for run in seeds]),
                f"{statistics.fmean(run['mixed_groups'] for run in seeds):.0f}",
                mean_and_range([run["heldout"][-1][1] for run in seeds]), mean_and_range([run["pool"][-1][1] for run in seeds]),
                ", ".join(
                    f"{of / run['rollouts']:.2f}" if of else "never" for of, run in zip(reached, seeds, strict=True)
                ),
            )  # fmt: skip
    return table


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("docs/figures"), help="holds the data, takes the figures")
    options = parser.parse_args()
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({
        "svg.hashsalt": "rucksack", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 9, "legend.frameon": False,
        "axes.spines.top": False, "axes.spines.right": False, "savefig.facecolor": "white",
    })  # fmt: skip
    from matplotlib import pyplot

    runs = json.loads((options.folder / "allocation_runs.json").read_text())
    data = json.loads((options.folder / "regimes.json").read_text())
    simulated = json.loads((options.folder / "simulate.json").read_text())
    figures = {
        "theorem": theorem(pyplot), "needed": needed(pyplot), "value": value(pyplot), "ratios": ratios(pyplot, runs),
        "sizes": sizes(pyplot, runs), "regimes": regimes(pyplot, data),
        "simulator": simulator(pyplot, simulated, data),
    }  # fmt: skip
    console = make_console()
    for name, figure in figures.items():
        figure.tight_layout()
        file = options.folder / f"allocation_{name}.svg"
        figure.savefig(file, metadata={"Date": None})
        console.print(f"{file}: {file.stat().st_size / 1024:.0f} kB")
    console.print(table_of(runs))


if __name__ == "__main__":
    main()
