"""Draws what the learner measures in its updates: importance ratios, gradient, mismatch."""

from collections.abc import Sequence

import numpy as np

from replay.figures import View, label_of
from replay.traces import Figure, Floats, Trace, axes, band, line, noisy


def _metric(view: View, key: str) -> Floats:
    return view.updates.metrics.get(f"learner/{key}", np.full(len(view.updates.step), np.nan))


def importance_ratio(views: Sequence[View]) -> Figure:
    """Ratio of the trained policy to the one that sampled, per token."""
    traces: list[Trace] = []
    for view in views:
        low, high = _metric(view, "importance_ratio/min"), _metric(view, "importance_ratio/max")
        traces += band(label_of(view, views, "min to max"), view.updates.step, low, high, view.colour)
        traces += line(
            label_of(view, views, "mean"), view.updates.step, _metric(view, "importance_ratio/mean"), view.colour
        )
    note = "Probability of a token under the trained weights over that when it was sampled, before truncation."
    return Figure("Importance ratio", note, traces, axes("update", "ratio (log)", type="log", dtick="D2"))


def sample_size(views: Sequence[View]) -> Figure:
    """Effective sample size and share of truncated tokens."""
    traces: list[Trace] = []
    for view in views:
        cut_colour = view.colour if len(views) > 1 else "@orange"
        step, label = view.updates.step, label_of(view, views, "effective sample size")
        traces += line(label, step, _metric(view, "ess"), view.colour)
        cut = _metric(view, "truncated_fraction")
        traces += line(label_of(view, views, "truncated tokens"), step, cut, cut_colour, dash="dot")
    note = "Effective sample size of the importance weights: 100 % is exactly on-policy."
    return Figure("Effective sample size", note, traces, axes("update", "share", tickformat=".0%", range=[0, 1.02]))


def gradient(views: Sequence[View]) -> Figure:
    """Norm of the gradient before clipping."""
    traces: list[Trace] = []
    for view in views:
        norm = _metric(view, "grad_norm")
        traces += noisy(label_of(view, views, "gradient norm"), view.updates.step, norm, view.colour)
    return Figure("Gradient norm", "Before clipping.", traces, axes("update", "norm", rangemode="tozero"))


def mismatch(views: Sequence[View]) -> Figure:
    """Engine against learner: difference of the logprobs of the same tokens."""
    traces: list[Trace] = []
    for view in views:
        for statistic, dash in (("mean", "solid"), ("max", "dot")):
            gap = _metric(view, f"logprob_gap/{statistic}")
            known = gap > 0  # only some updates have tokens of the very weights that are trained
            label, step = label_of(view, views, statistic), view.updates.step[known]
            traces += line(label, step, gap[known], view.colour, dash=dash, mode="lines+markers")
    note = "Absolute difference of a token's logprob between the engine that sampled it and the learner."
    return Figure("Engine-learner logprob gap", note, traces, axes("update", "nats (log)", type="log", dtick="D2"))


def idle(views: Sequence[View]) -> Figure:
    """Share of its time that the learner waits for groups."""
    traces: list[Trace] = []
    for view in views:
        share = _metric(view, "idle_share")
        traces += noisy(label_of(view, views, "idle"), view.updates.step, share, view.colour)
    layout = axes("update", "share of time", tickformat=".0%", range=[0, 1.02])
    return Figure("Learner idle", "Time that the learner waits for complete groups.", traces, layout)


def loss(views: Sequence[View]) -> Figure:
    """The objective's value."""
    traces: list[Trace] = []
    for view in views:
        value = _metric(view, "loss")
        traces += noisy(label_of(view, views, "loss"), view.updates.step, value, view.colour)
    return Figure("Loss", "Says little in policy gradients; a jump says something.", traces, axes("update", "loss"))
