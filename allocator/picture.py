"""Draws an allocation as a page: who got how many rollouts. Nothing is decided here."""

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from allocator.budget import Floats
from allocator.modes import Allocation

BLUE, ORANGE, GRAY = "#2a6fbb", "#d9822b", "#8a8f98"
MOST_POINTS = 20_000
UNSEEN = -0.15
"""Where prompts without an estimate are on the axis of success rates."""


def draw(file: Path, allocation: Allocation, trials: Floats, title: str) -> None:
    """Write the page, which needs nothing but a browser."""
    figure = make_subplots(rows=1, cols=2, column_widths=[0.6, 0.4])
    for trace in _rollouts_by_rate(allocation, trials):
        figure.add_trace(trace, row=1, col=1)
    figure.add_trace(_histogram(allocation), row=1, col=2)
    mean = float(allocation.num_rollouts.mean())
    figure.add_vline(mean, line={"color": GRAY, "dash": "dash"}, annotation_text=f"mean {mean:.3g}", row=1, col=2)
    ticks = [UNSEEN, 0.0, 0.25, 0.5, 0.75, 1.0]
    labels = ["unseen", *(f"{tick:.0%}" for tick in ticks[1:])]
    figure.update_xaxes(title="believed success rate", tickvals=ticks, ticktext=labels, row=1, col=1)
    figure.update_yaxes(title="rollouts", rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title="rollouts", row=1, col=2)
    figure.update_yaxes(title="prompts", type="log", row=1, col=2)
    figure.update_layout(title=title, template="simple_white", height=480)
    page: str = figure.to_html(include_plotlyjs=True)
    file.write_text(f"<!doctype html>\n{page}", encoding="utf-8")


def _rollouts_by_rate(allocation: Allocation, trials: Floats) -> list[Any]:
    shown = np.linspace(0, trials.size - 1, min(trials.size, MOST_POINTS)).astype(np.int64)
    rate = np.where(np.isnan(allocation.success_rate), UNSEEN, allocation.success_rate)[shown]
    rollouts, seen = allocation.num_rollouts[shown], trials[shown] > 0
    return [
        go.Scattergl(
            x=rate[kind],
            y=rollouts[kind],
            mode="markers",
            name=name,
            marker={"color": color, "opacity": 0.5, "size": 5},
        )
        for kind, color, name in ((seen, BLUE, "seen before"), (~seen, ORANGE, "never seen"))
        if kind.any()
    ]


def _histogram(allocation: Allocation) -> Any:
    rollouts = allocation.num_rollouts
    width = max(1, int(np.ptp(rollouts)) // 40 + 1)
    edges = np.arange(rollouts.min(), rollouts.max() + width + 1, width)
    counts, _ = np.histogram(rollouts, bins=edges - 0.5)
    return go.Bar(x=edges[:-1] + (width - 1) / 2, y=counts, width=width, marker={"color": BLUE}, showlegend=False)
