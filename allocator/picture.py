"""A picture of an allocation: who got how many rollouts. What is drawn is data; nothing is decided here."""

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from allocator.budget import Floats
from allocator.modes import Allocation

BLUE, ORANGE, GRAY = "#2a6fbb", "#d9822b", "#8a8f98"
MOST_POINTS = 20_000
UNSEEN = -0.15
"""Where prompts without an estimate stand on the axis of success rates."""


def draw(file: Path, allocation: Allocation, trials: Floats, title: str) -> None:
    """Write the picture; the name's end gives the kind, .html being a page with the .svg in it."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _rollouts_by_rate(left, allocation, trials)
    _histogram(right, allocation)
    if file.suffix != ".html":
        figure.savefig(file, dpi=150)
        return
    picture = io.StringIO()
    figure.savefig(picture, format="svg")
    svg = picture.getvalue()
    page = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n{svg[svg.index("<svg") :]}</html>\n'
    file.write_text(page, encoding="utf-8")


def _rollouts_by_rate(axes: Axes, allocation: Allocation, trials: Floats) -> None:
    shown = np.linspace(0, trials.size - 1, min(trials.size, MOST_POINTS)).astype(np.int64)
    rate = np.where(np.isnan(allocation.success_rate), UNSEEN, allocation.success_rate)[shown]
    rollouts, seen = allocation.num_rollouts[shown], trials[shown] > 0
    for kind, colour, label in ((seen, BLUE, "seen before"), (~seen, ORANGE, "never seen")):
        if kind.any():
            axes.scatter(rate[kind], rollouts[kind], s=14, color=colour, alpha=0.5, linewidths=0, label=label)
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    labels = [f"{tick:.0%}" for tick in ticks]
    if (rate == UNSEEN).any():
        ticks, labels = [UNSEEN, *ticks], ["unseen", *labels]
    axes.set_xticks(ticks, labels)
    axes.set_xlim(min(ticks) - 0.04, 1.04)
    axes.set_ylim(0, None)
    axes.set(xlabel="believed success rate", ylabel="rollouts")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    _plain(axes)


def _histogram(axes: Axes, allocation: Allocation) -> None:
    rollouts = allocation.num_rollouts
    width = max(1, int(np.ptp(rollouts)) // 40 + 1)
    edges = np.arange(rollouts.min(), rollouts.max() + width + 1, width) - 0.5
    axes.hist(rollouts, bins=edges.tolist(), color=BLUE)
    axes.axvline(float(rollouts.mean()), color=GRAY, linestyle="--", label=f"mean {rollouts.mean():.3g}")
    axes.set(xlabel="rollouts", ylabel="prompts", yscale="log")
    axes.set_ylim(0.8, None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
