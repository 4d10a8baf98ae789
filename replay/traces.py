"""Builds pieces of plotly figures as plain dicts. Colours are names such as `@blue`, `@blue~` for a see-through one."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Trace = dict[str, Any]

STACKED: dict[str, Any] = {"barmode": "stack", "bargap": 0}
"""Layout of stacked bars without gaps: an area plot that shows where it has no data."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot; without data the page says "no data yet" instead of drawing axes around nothing."""

    title: str
    note: str
    """What it shows, and how to read it."""
    data: list[Trace]
    layout: dict[str, Any] = field(default_factory=dict)


def values(column: Floats) -> list[float | None]:
    """Numbers for JSON: six digits, None for NaN and infinity."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in column]


def line(name: str, x: Floats, y: Floats, colour: str, **more: Any) -> list[Trace]:
    """A line; [] if it has no point."""
    if not np.isfinite(y).any():
        return []
    style = {"color": colour, "width": more.pop("width", 2), "dash": more.pop("dash", "solid")}
    return [{"type": "scatter", "mode": "lines", "name": name, "x": values(x), "y": values(y), "line": style, **more}]


def bars(name: str, x: Floats, y: Floats, colour: str) -> list[Trace]:
    """Bars of one colour; [] if there is none."""
    if not np.isfinite(y).any():
        return []
    return [
        {"type": "bar", "name": name, "x": values(x), "y": values(y), "marker": {"color": colour, "line": {"width": 0}}}
    ]


def noisy(name: str, x: Floats, y: Floats, colour: str, **more: Any) -> list[Trace]:
    """A line's running mean, and, faint behind it, what it is the mean of."""
    if not np.isfinite(y).any():
        return []
    faint = line(name, x, y, colour, width=1, opacity=0.3, showlegend=False, hoverinfo="skip", legendgroup=name)
    return faint + line(name, x, running_mean(y), colour, legendgroup=name, **more)


def running_mean(column: Floats) -> Floats:
    """Centred mean over about a fifteenth of the points, gaps left out."""
    half = len(column) // 30
    padded = np.pad(column, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    known = np.isfinite(windows)
    total, count = np.where(known, windows, 0.0).sum(axis=1), known.sum(axis=1)
    mean: Floats = np.divide(total, count, out=np.full(len(column), np.nan), where=count > 0)
    return mean


def band(name: str, x: Floats, low: Floats, high: Floats, colour: str) -> list[Trace]:
    """The area between two lines, straight across gaps: plotly fills wrongly where a point is missing."""
    known = np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return []
    x, low, high = x[known], low[known], high[known]
    edge = {"type": "scatter", "mode": "lines", "x": values(x), "line": {"width": 0}, "legendgroup": name}
    below = {**edge, "y": values(low), "showlegend": False, "name": f"{name}, min"}
    return [below, {**edge, "y": values(high), "fill": "tonexty", "fillcolor": f"{colour}~", "name": name}]


def axes(x: str, y: str, **more: Any) -> dict[str, Any]:
    """Layout of a plot with these axis titles."""
    return {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}, **more}}
