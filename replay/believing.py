"""Draws how good the beliefs were: what they said against what came, and what each band of them was worth."""

from collections.abc import Sequence

import numpy as np

from replay.figures import View, label_of
from replay.traces import Figure, Floats, Trace, axes, noisy, values
from stream.forecasts import BINS, Bin, reliability

LABELS = tuple(f"{i / BINS:.1f}-{(i + 1) / BINS:.1f}" for i in range(BINS))


def signal(views: Sequence[View]) -> Figure:
    """Where the rollouts went, and the variance of rewards that they found there, by believed success rate."""
    traces: list[Trace] = []
    for view in views:
        bins = reliability(view.forecasts.believed, view.forecasts.rewards)
        if bins:
            traces += _bars_of_bands(view, views, bins)
    layout = axes("believed success rate E[p]", "share; mean reward", tickformat=".0%", rangemode="tozero")
    layout["xaxis"] |= {"type": "category", "categoryorder": "array", "categoryarray": list(LABELS)}
    note = (
        "Bars: share of the rollouts, and of the signal, the variance of their rewards, n p(1-p) with the p that came. "
        "Points: mean reward."
    )
    return Figure("Rollouts and signal per band", note, traces, layout | {"barmode": "group"})


def _bars_of_bands(view: View, views: Sequence[View], bins: Sequence[Bin]) -> list[Trace]:
    num, reward = np.array([(b.num, b.reward) for b in bins]).T
    found = num * reward * (1 - reward)
    x = [LABELS[b.number] for b in bins]
    alone = len(views) == 1
    traces: list[Trace] = []
    for name, share, count, colour in (
        ("rollouts", num / num.sum(), num, view.colour),
        ("signal", found / max(found.sum(), 1e-9), found, "@teal" if alone else view.colour + "~"),
    ):
        trace: Trace = {"type": "bar", "name": label_of(view, views, name), "marker": {"color": colour}, "x": x}
        hover = {"customdata": values(count), "hovertemplate": "%{y:.1%} (%{customdata:,.0f})"}
        traces.append(trace | hover | {"y": values(share)})
    marker = {"color": "@orange" if alone else view.colour, "size": 9, "symbol": "diamond"}
    name = label_of(view, views, "mean reward")
    points: Trace = {"type": "scatter", "mode": "markers", "name": name, "x": x, "y": values(reward), "marker": marker}
    return [*traces, points]


def calibration(views: Sequence[View]) -> Figure:
    """What was believed against what came: a reliability plot."""
    traces: list[Trace] = []
    for view in views:
        found = view.forecasts
        parts = (("whole run", found.believed, found.rewards, "solid"), ("last quarter", *found.last_quarter(), "dot"))
        for name, believed, rewards, dash in parts:
            traces += _points(label_of(view, views, name), reliability(believed, rewards), view.colour, dash)
    layout = axes("believed success rate E[p]", "mean reward", range=[-0.02, 1.02])
    layout["hovermode"] = "closest"
    note = "On the diagonal beliefs are right. Points are tenths of the belief; large ones hold many rollouts."
    return Figure("Calibration of the beliefs", note, [_diagonal(), *traces] if traces else [], layout)


def _points(name: str, bins: Sequence[Bin], colour: str, dash: str) -> list[Trace]:
    if not bins:
        return []
    most = max(b.num for b in bins)
    size = [4 + 12 * (b.num / most) ** 0.5 for b in bins]
    hollow = "circle-open" if dash == "dot" else "circle"
    trace: Trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": values(np.array([b.forecast for b in bins])),
        "y": values(np.array([b.reward for b in bins])),
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"size": size, "color": colour, "symbol": hollow},
        "customdata": [b.num for b in bins],
        "hovertemplate": "believed %{x:.2f}, came %{y:.2f}, %{customdata:,} rollouts",
    }
    return [trace]


def _diagonal() -> Trace:
    style = {"color": "@gray", "width": 1, "dash": "dash"}
    return {"type": "scatter", "mode": "lines", "name": "as believed", "x": [0, 1], "y": [0, 1], "line": style}


def loss(views: Sequence[View]) -> Figure:
    """Log loss of the beliefs over updates, beside that of one forecast for all."""
    traces: list[Trace] = []
    for view in views:
        step: Floats = view.updates.step
        of_beliefs, of_mean = view.forecasts.losses()
        traces += noisy(label_of(view, views, "beliefs"), step, of_beliefs, view.colour)
        colour = view.colour if len(views) > 1 else "@gray"
        traces += noisy(label_of(view, views, "the update's mean for all"), step, of_mean, colour, dash="dot")
    note = "In nats a rollout. The lower the better the allocator tells prompts apart; right beliefs reach the entropy of the rewards."
    return Figure("Beliefs as forecasts", note, traces, axes("update", "log loss", rangemode="tozero"))
