"""Draws the plots of the report, as plotly figures in plain dicts. Colours are names (`@blue`): the page knows their values.

Every function takes the runs to show, the report's own run first, and returns a `Figure`; with nothing to show its
data are empty, and the page says "no data yet" instead of drawing axes around nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from replay.accuracy import HELDOUT, POOL
from replay.forecasts import Forecasts, forecasts_of
from replay.load import RunData
from replay.series import (
    BIN_LABELS,
    MAX_GAP,
    BudgetBin,
    TimeSeries,
    UpdateSeries,
    budget_bins,
    time_series,
    update_series,
)
from replay.tables import rollouts_by_version
from replay.traces import STACKED, Figure, Floats, Trace, axes, band, bars, line, noisy, values
from stream.messages import OUTCOMES

RUN_COLOURS = ("@blue", "@orange", "@teal", "@violet", "@yellow", "@pink")
OUTCOME_COLOURS = {
    "correct": "@teal",
    "wrong": "@gray",
    "unparsable": "@yellow",
    "timeout": "@orange",
    "error": "@red",
    "abandoned": "@violet",
}
GAP_COLOURS = ("@step1", "@step2", "@step3", "@step4", "@step5")


class View(Protocol):
    """One run with everything that is plotted of it, wherever it was read."""

    @property
    def name(self) -> str:
        """The run's name."""

    @property
    def colour(self) -> str:
        """Of its lines, where several runs are plotted."""

    @property
    def accuracy(self) -> Mapping[str, Sequence[tuple[float, float]]]:
        """(rollouts spent, accuracy) of the evaluations of a set, in order, by the set's name."""

    @property
    def updates(self) -> UpdateSeries:
        """One value per update."""

    @property
    def times(self) -> TimeSeries:
        """One value per stretch of time."""

    @property
    def budgets(self) -> list[BudgetBin]:
        """Rollouts of a prompt by believed success rate."""

    @property
    def forecasts(self) -> Forecasts:
        """What was believed, beside what came."""


@dataclass(frozen=True, slots=True)
class RunView:
    """The view of a run that was read whole."""

    name: str
    colour: str
    accuracy: Mapping[str, Sequence[tuple[float, float]]]
    updates: UpdateSeries
    times: TimeSeries
    budgets: list[BudgetBin]
    forecasts: Forecasts


def by_single_rollouts(view: View) -> bool:
    """Whether every group has one rollout: then only their number tells how a band was budgeted."""
    return max(budget_bin.max_rollouts for budget_bin in view.budgets) == 1


def view_of(data: RunData, number: int) -> RunView:
    """Work out all columns of a run; `number` gives its colour."""
    return RunView(
        name=data.run,
        colour=colour_of(number),
        accuracy={name: accuracy_points(data, name) for name in (HELDOUT, POOL)},
        updates=update_series(data),
        times=time_series(data),
        budgets=budget_bins(data),
        forecasts=forecasts_of(data),
    )


def colour_of(number: int) -> str:
    """The colour of the run in this place."""
    return RUN_COLOURS[number % len(RUN_COLOURS)]


def label_of(view: View, views: Sequence[View], text: str) -> str:
    """A trace's label; with several runs the run's name comes first."""
    return text if len(views) == 1 else f"{view.name}: {text}"


def accuracy(views: Sequence[View]) -> Figure:
    """Accuracy on both sets over the rollouts spent."""
    traces: list[Trace] = []
    for view in views:
        for name, dash, symbol in ((HELDOUT, "solid", "circle"), (POOL, "dot", "diamond-open")):
            points = np.array(view.accuracy.get(name, [])).reshape(-1, 2)
            colour = view.colour if len(views) > 1 or name == HELDOUT else "@teal"
            marker = {"symbol": symbol, "size": 8, "color": colour}
            label = label_of(view, views, "held-out" if name == HELDOUT else "pool")
            style: Trace = {"mode": "lines+markers", "marker": marker, "dash": dash}
            traces += line(label, points[:, 0], points[:, 1], colour, **style)
    layout = axes("training rollouts", "accuracy", rangemode="tozero", tickformat=".0%")
    return Figure("Accuracy", "Evaluated with the same producers and verifiers as training.", traces, layout)


def accuracy_points(data: RunData, name: str) -> list[tuple[float, float]]:
    """(rollouts spent, accuracy) of the evaluations of one set, in order."""
    spent = rollouts_by_version(data.lineage.surviving)
    evaluations = [e for e in data.surviving_evaluations if e.name == name and e.policy_version in spent]
    return sorted((float(spent[e.policy_version]), e.accuracy) for e in evaluations)


def reward(views: Sequence[View]) -> Figure:
    """Mean reward of the training rollouts."""
    traces: list[Trace] = []
    for view in views:
        traces += noisy(label_of(view, views, "reward"), view.updates.rollouts, view.updates.reward, view.colour)
    note = "Mean over graded rollouts; it moves with the mix of prompts and budgets, so compare runs by accuracy."
    return Figure("Training reward", note, traces, axes("training rollouts", "mean reward", rangemode="tozero"))


def ratios(views: Sequence[View]) -> Figure:
    """Both effective-gradient ratios over updates."""
    traces: list[Trace] = []
    for view in views:
        prompts_colour = view.colour if len(views) > 1 else "@teal"
        step = view.updates.step
        traces += noisy(label_of(view, views, "samples"), step, view.updates.ratio_samples, view.colour)
        traces += noisy(label_of(view, views, "prompts"), step, view.updates.ratio_prompts, prompts_colour, dash="dot")
    note = (
        "Share of graded rollouts, and of prompts, that give a gradient: in groups whose rewards differ, or measured "
        "against beliefs."
    )
    layout = axes("update", "share", tickformat=".0%", range=[0, 1.02])
    return Figure("Effective-gradient ratios", note, traces, layout)


def budget(views: Sequence[View]) -> Figure:
    """Mean rollouts of a prompt by its believed success rate."""
    traces: list[Trace] = []
    for view in views:
        if not any(budget_bin.num_groups for budget_bin in view.budgets):
            continue
        traces.append(
            {
                "type": "bar",
                "name": view.name,
                "marker": {"color": view.colour},
                "x": [budget_bin.label for budget_bin in view.budgets],
                "y": values(np.array([budget_bin.mean_rollouts for budget_bin in view.budgets])),
                "customdata": [[budget_bin.num_groups, budget_bin.max_rollouts] for budget_bin in view.budgets],
                "hovertemplate": "%{y:.1f} rollouts on average, at most %{customdata[1]}, %{customdata[0]} groups",
            }
        )
    layout = axes("believed success rate", "mean rollouts per prompt", rangemode="tozero")
    layout["xaxis"] |= {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": list(BIN_LABELS),
    }
    layout |= {"barmode": "group", "showlegend": len(views) > 1}
    return Figure("Budget per success-rate bin", "What the allocator believed when it decided.", traces, layout)


def staleness(views: Sequence[View]) -> Figure:
    """Versions between the weights trained and the oldest token of a group."""
    traces: list[Trace] = []
    for view in views:
        updates = view.updates
        label = label_of(view, views, "min to max")
        traces += band(label, updates.step, updates.staleness_min, updates.staleness_max, view.colour)
        traces += line(label_of(view, views, "mean"), updates.step, updates.staleness_mean, view.colour)
    layout = axes("update", "versions", rangemode="tozero")
    return Figure("Staleness of trained groups", "Versions behind, by a group's oldest token.", traces, layout)


def version_gap(views: Sequence[View]) -> Figure:
    """Share of trained tokens by version gap."""
    view, traces = views[0], list[Trace]()
    for gap, shares in enumerate(view.updates.gap_shares):
        if np.nansum(shares) > 0:
            label = f"{gap} or more" if gap == MAX_GAP else f"{gap} version{'s' * (gap != 1)}"
            traces += bars(label, view.updates.step, shares, GAP_COLOURS[gap])
    layout = axes("update", "share of tokens", tickformat=".0%", range=[0, 1]) | STACKED
    note = "How many versions behind the trained weights each token's sampling weights were."
    return Figure("Policy-version gap per token" + _only(views), note, traces, layout)


def _only(views: Sequence[View]) -> str:
    return "" if len(views) == 1 else f" ({views[0].name})"


def throughput(views: Sequence[View]) -> Figure:
    """Rollouts and tokens per second."""
    traces: list[Trace] = []
    for view in views:
        times, evaluation = view.times, view.colour if len(views) > 1 else "@teal"
        both = times.training_per_s + times.evaluation_per_s
        if both.any():
            label = label_of(view, views, "all rollouts, evaluation too")
            traces += line(label, times.minutes, both, evaluation, width=1.5, dash="dot")
            traces += line(label_of(view, views, "training rollouts"), times.minutes, times.training_per_s, view.colour)
            traces += line(label_of(view, views, "tokens"), times.minutes, times.tokens_per_s, view.colour, **_below())
    layout = axes("minutes since the first job", "rollouts/s", rangemode="tozero", domain=[0.55, 1.0])
    layout["xaxis"]["anchor"] = "y2"
    layout["yaxis2"] = {"title": {"text": "tokens/s"}, "rangemode": "tozero", "domain": [0.0, 0.45]}
    return Figure("Throughput", "Verdicts by the time they were given.", traces, layout)


def _below() -> Trace:
    return {"yaxis": "y2", "showlegend": False}


def timings(views: Sequence[View]) -> Figure:
    """Where a rollout's time goes, by role."""
    view = views[0]
    times = view.times
    parts = (
        ("producer: queued", times.queued_s, "@gray", "dot"),
        ("producer: sampling", times.generated_s, "@blue", "solid"),
        ("to the verifier", times.to_verifier_s, "@yellow", "dot"),
        ("verifier: grading", times.graded_s, "@teal", "solid"),
        ("waiting for the learner", times.waiting_s, "@violet", "dot"),
    )
    traces = [trace for label, y, colour, dash in parts for trace in _positive(label, times.minutes, y, colour, dash)]
    minutes = (view.updates.created_s - times.start_s) / 60
    update_s = view.updates.metrics.get("learner/update_s", np.full(len(minutes), np.nan))
    traces += _positive("learner: update", minutes, update_s, "@orange", "solid")
    layout = axes("minutes since the first job", "seconds (log)", type="log", dtick="D2")
    return Figure("Timings by role" + _only(views), "Means of one rollout's way, and of one update.", traces, layout)


def _positive(label: str, x: Floats, y: Floats, colour: str, dash: str) -> list[Trace]:
    return line(label, x, np.where(y > 0, y, np.nan), colour, dash=dash)


def outcomes(views: Sequence[View]) -> Figure:
    """Shares of outcomes of training rollouts over time."""
    times, traces = views[0].times, list[Trace]()
    for name, shares in zip(OUTCOMES, times.outcome_shares, strict=True):
        if np.nansum(shares) > 0:
            traces += bars(name, times.minutes, shares, OUTCOME_COLOURS[name])
    layout = axes("minutes since the first job", "share of rollouts", tickformat=".0%", range=[0, 1]) | STACKED
    return Figure("Outcomes" + _only(views), "What the verifier said of training rollouts.", traces, layout)
