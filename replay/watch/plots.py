"""Chooses the plots of each view of the page, and gives them as JSON for plotly. The plots are those of the report.

Indexes enter, the page's own run first; a list of figures leaves for each view. Numbers that JSON cannot hold become null.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from replay import believing, figures, optimisation
from replay.compare import times_of
from replay.figures import View
from replay.tables import interpolate
from replay.traces import STACKED, Figure, Trace, axes, bars
from replay.watch import lanes
from replay.watch.index import Index
from replay.watch.views import IndexView

Plot = Callable[[Sequence[View]], Figure]

STALE_FROM = ("0", "1", "2", "4", "8", "16")
STALE_LABELS = ("0 versions", "1", "2-3", "4-7", "8-15", "16 or more")
STALE_COLOURS = ("@step1", "@step2", "@step3", "@step4", "@step5", "@red")


def staleness_shares(views: Sequence[View]) -> Figure:
    """Share of tokens by how old they are, from the learner's own histogram."""
    view, traces = views[0], list[Trace]()
    for low, label, colour in zip(STALE_FROM, STALE_LABELS, STALE_COLOURS, strict=True):
        shares = view.updates.metrics.get(f"learner/staleness/share_from_{low}", np.zeros(0))
        if np.nansum(shares) > 0:
            traces += bars(label, view.updates.step, shares, colour)
    layout = axes("update", "share of tokens", tickformat=".0%", range=[0, 1]) | STACKED
    note = f"How many versions behind the trained weights each token's sampling weights were, in {view.name}."
    return Figure("Age of the trained tokens", note, traces, layout)


VIEWS: dict[str, tuple[Plot, ...]] = {
    "learning": (figures.accuracy, figures.reward, believing.signal, figures.ratios),
    "time": (figures.throughput, figures.timings, figures.outcomes, optimisation.idle),
    "staleness": (
        figures.staleness,
        staleness_shares,
        optimisation.importance_ratio,
        optimisation.sample_size,
        optimisation.mismatch,
        optimisation.gradient,
    ),
    "beliefs": (figures.budget, believing.signal, believing.calibration, believing.loss),
}
"""The plots of each view."""


def figures_of(view: str, indexes: Sequence[Index]) -> list[dict[str, Any]]:
    """The figures of one view, ready for JSON."""
    views = [IndexView(index, number) for number, index in enumerate(indexes)]
    drawn = [plot(views) for plot in VIEWS[view]]
    if view == "beliefs" and all(map(figures.by_single_rollouts, views)):
        drawn = drawn[1:]
    if view == "time":
        drawn.insert(0, lanes.figure(lanes.lanes_of(*worker_times(indexes[0]))))
    return [{"title": f.title, "note": f.note, "data": f.data, "layout": f.layout} for f in drawn]


def worker_times(index: Index) -> tuple[list[lanes.Beat], list[lanes.Training]]:
    """What the lanes are made of."""
    beats = [
        lanes.Beat(worker, created_s, pid, state, json.loads(metrics))
        for worker, created_s, pid, state, metrics in index.rows(
            "SELECT worker, created_s, pid, state, metrics FROM heartbeats"
        )
    ]
    trainings = []
    for created_s, text in index.rows("SELECT created_s, metrics FROM updates WHERE num_groups > 0"):
        metrics = json.loads(text)
        update_s, idle = metrics.get("learner/update_s", 0.0), metrics.get("learner/idle_share", 0.0)
        trainings.append(lanes.Training(created_s, update_s, idle))
    return beats, trainings


def standings_of(indexes: Sequence[Index]) -> dict[str, Any]:
    """The runs side by side, all at the number of rollouts that the shortest has spent."""
    views = [IndexView(index, number) for number, index in enumerate(indexes)]
    common = min((max(view.steps.spent.values()) for view in views), default=0)
    rows: list[dict[str, Any]] = []
    for index, view in zip(indexes, views, strict=True):
        points = view.accuracy
        within = [step.row for step in view.steps.steps if step.spent <= common]
        row: dict[str, Any] = {
            "run": index.run,
            "modes": [mode for (mode,) in index.rows("SELECT DISTINCT mode FROM groups WHERE train AND mode != ''")],
            "updates": len(within),
            "heldout_before": interpolate(points["heldout"], 0),
            "heldout": interpolate(points["heldout"], common),
            "pool": interpolate(points["pool"], common),
        }
        for name, part, whole in (
            ("ratio_samples", "num_effective_samples", "num_graded"),
            ("ratio_prompts", "num_effective_prompts", "num_graded_prompts"),
        ):
            total = sum(int(str(r[whole])) for r in within)
            row[name] = sum(int(str(r[part])) for r in within) / total if total else None
            row[f"{name}_times"] = times_of(row[name], (rows[0] if rows else row)[name])
        rows.append(row)
    return {"rollouts": common, "runs": rows}


def as_json(value: object) -> bytes:
    """JSON of plain values; numbers that it cannot hold become null."""
    return json.dumps(_clean(value), allow_nan=False, separators=(",", ":")).encode()


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    return value
