"""Says what each worker did with its time: shares of every stretch, one lane a worker. Pure.

Heartbeats and updates enter, lanes leave. A stretch in which a worker sent nothing is empty: it was away. Legend: B stretches.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from replay.series import Floats
from replay.traces import Figure, Trace, axes, values

NUM_STRETCHES = 90
ALONE_S = 10.0
"""What a heartbeat stands for that follows none of its process."""
LONGEST_S = 60.0
"""Heartbeats further apart leave a gap."""
MOST_LANES = 24
KINDS = {
    "sampling": "@blue",
    "grading": "@teal",
    "training": "@orange",
    "swapping weights": "@violet",
    "saving": "@yellow",
    "not measured": "@step1",
    "waiting": "@gray~",
}
"""What a worker may do, with its colour."""

Shares = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat, as far as it tells of time."""

    worker: str
    created_s: float
    pid: int
    state: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Training:
    """An update, as far as it tells of time."""

    created_s: float
    update_s: float
    idle_share: float
    """Of the time since the update before."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One worker. Shares sum up to at most 1 in each stretch."""

    worker: str
    shares: dict[str, Floats]
    """By kind. [B]"""


@dataclass(frozen=True, slots=True)
class Lanes:
    """All workers over the time of the run."""

    start_s: float
    length_s: float
    """Of one stretch."""
    lanes: list[Lane]


def lanes_of(beats: Sequence[Beat], trainings: Sequence[Training]) -> Lanes:
    """Lanes of all workers, by role and index."""
    times = [beat.created_s for beat in beats] + [training.created_s for training in trainings]
    if not times:
        return Lanes(0.0, 1.0, [])
    start, stop = min(times) - ALONE_S, max(times)
    length = (stop - start) / NUM_STRETCHES
    by_worker: dict[str, list[Beat]] = {}
    for beat in beats:
        by_worker.setdefault(beat.worker, []).append(beat)
    lanes = []
    for worker in sorted(by_worker, key=_order):
        spans = _spans_of(by_worker[worker])
        if worker.startswith("learner"):
            spans = _spans_of_learner(by_worker[worker], trainings)
        lanes.append(Lane(worker, _spread(spans, start, length)))
    return Lanes(start, length, lanes)


def _order(worker: str) -> tuple[int, str, int]:
    role, _, index = worker.rpartition("-")
    roles = ("allocator", "producer", "verifier", "learner", "evaluator", "tracker")
    place = roles.index(role) if role in roles else len(roles)
    return place, role, int(index) if index.isdecimal() else 0


Span = tuple[float, float, Shares]
"""From, to (seconds since the epoch), and what was done."""


def _spans_of(beats: Iterable[Beat]) -> Iterator[Span]:
    """What a worker did between its heartbeats."""
    before: Beat | None = None
    for beat in sorted(beats, key=lambda beat: beat.created_s):
        follows = before is not None and before.pid == beat.pid and beat.created_s - before.created_s <= LONGEST_S
        start = before.created_s if follows and before is not None else beat.created_s - ALONE_S
        if before is not None:
            start = max(start, before.created_s)
        if beat.created_s > start:
            yield start, beat.created_s, shares_of(before if follows else None, beat, beat.created_s - start)
        before = beat


def shares_of(before: Beat | None, beat: Beat, seconds: float) -> Shares:
    """What a worker did in the seconds up to a heartbeat; `before` is the one before, of the same process."""
    if beat.state == "saving":
        return {"saving": 1.0}
    role, metrics = beat.worker.rpartition("-")[0], beat.metrics
    waiting = _share(metrics.get(f"{role}/idle_share", 0.0))
    if role == "verifier":
        return {"waiting": waiting, "grading": 1 - waiting}
    if role != "producer":
        return {"not measured": 1.0}
    swaps = metrics.get("producer/swaps", 0.0) - (before.metrics.get("producer/swaps", 0.0) if before else 0.0)
    swapping = (
        min(1 - waiting, _share(max(0.0, swaps) * metrics.get("producer/swap_s", 0.0) / seconds)) if before else 0.0
    )
    return {"waiting": waiting, "swapping weights": swapping, "sampling": 1 - waiting - swapping}


def _spans_of_learner(beats: Sequence[Beat], trainings: Sequence[Training]) -> Iterator[Span]:
    """What the learner did: its updates say so better than its heartbeats, which stop while it trains."""
    before: float | None = None
    for training in sorted(trainings, key=lambda training: training.created_s):
        if before is not None and training.created_s > before:
            seconds = training.created_s - before
            trained = _share(training.update_s / seconds)
            waiting = min(1 - trained, _share(training.idle_share))
            yield (
                before,
                training.created_s,
                {
                    "training": trained,
                    "waiting": waiting,
                    "not measured": 1 - trained - waiting,
                },
            )
        before = training.created_s
    yield from ((start, stop, shares) for start, stop, shares in _spans_of(beats) if before is None or start >= before)


def _share(value: float) -> float:
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0


def _spread(spans: Iterable[Span], start: float, length: float) -> dict[str, Floats]:
    """Shares of each stretch. [B]"""
    shares = {kind: np.zeros(NUM_STRETCHES) for kind in KINDS}
    for begin, end, done in spans:
        first = max(0, int((begin - start) / length))
        for stretch in range(first, min(NUM_STRETCHES, int((end - start) / length) + 1)):
            low = max(begin, start + stretch * length)
            part = (min(end, start + (stretch + 1) * length) - low) / length
            for kind, share in done.items():
                shares[kind][stretch] += max(0.0, part) * share
    # Times since the epoch are coarse beside a short stretch: no stretch is more than full.
    full = np.maximum(1.0, sum(shares.values(), np.zeros(NUM_STRETCHES)))
    return {kind: column / full for kind, column in shares.items() if column.any()}


def figure(lanes: Lanes) -> Figure:
    """The lanes as a plot, the first on top."""
    shown = lanes.lanes[:MOST_LANES]
    minutes = (np.arange(NUM_STRETCHES) + 0.5) * lanes.length_s / 60
    traces: list[Trace] = []
    layout = axes("minutes since the first sign of life", "")
    named: set[str] = set()
    for number, lane in enumerate(shown):
        own = "" if number == 0 else str(number + 1)
        for kind, share in lane.shares.items():
            trace: Trace = {"type": "bar", "name": kind, "legendgroup": kind, "showlegend": kind not in named}
            trace |= {"x": values(minutes), "y": values(share), "yaxis": f"y{own}", "width": lanes.length_s / 60}
            trace |= {"marker": {"color": KINDS[kind], "line": {"width": 0}}}
            trace |= {"hovertemplate": f"{kind} %{{y:.0%}}<extra>{_plain(lane.worker)}</extra>"}
            traces.append(trace)
            named.add(kind)
        top = 1 - number / len(shown)
        layout[f"yaxis{own}"] = {
            "domain": [top - 0.86 / len(shown), top],
            "range": [0, 1],
            "showticklabels": False,
            "ticks": "",
            "showgrid": False,
            "title": {"text": ""},
        }
        layout.setdefault("annotations", []).append(
            {
                "text": _plain(lane.worker),
                "xref": "paper",
                "x": 0,
                "xanchor": "right",
                "xshift": -8,
                "yref": "paper",
                "y": top - 0.43 / len(shown),
                "yanchor": "middle",
                "showarrow": False,
            }
        )
    layout |= {"barmode": "stack", "bargap": 0, "height": 110 + 46 * len(shown), "margin": {"l": 110}}
    layout["xaxis"] |= {"anchor": "free", "position": 0}
    note = "Share of each stretch of time, from the workers' heartbeats and the learner's updates; empty where a worker sent nothing."
    if len(lanes.lanes) > MOST_LANES:
        note += f" The first {MOST_LANES} of {len(lanes.lanes)} workers."
    return Figure("What every worker did", note, traces, layout)


def _plain(name: str) -> str:
    """A worker's name without what plotly takes for markup; the log may hold any."""
    return "".join(c for c in name if c.isalnum() or c in "-_.")[:40]
