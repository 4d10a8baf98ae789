"""Computes what the plots show, as plain columns: per update, per stretch of time, per bin of believed success rate.

What enters is a `RunData`, what leaves are dataclasses of numpy columns. Where the log says nothing a value is NaN, and
the plot has a gap there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replay.load import RunData
from replay.tables import rollouts_by_version
from stream.messages import OUTCOMES, Update
from stream.ratios import gradient_ratios

Floats = NDArray[np.float64]
MAX_GAP = 4
"""Policy-version gaps from here on are shown together."""


@dataclass(frozen=True, slots=True)
class UpdateSeries:
    """One value per step of the surviving lineage."""

    step: Floats
    created_s: Floats
    """Seconds since the epoch."""
    rollouts: Floats
    """Rollouts spent up to and including this update."""
    reward: Floats
    """Mean reward of the graded rollouts that ended in it."""
    ratio_samples: Floats
    ratio_prompts: Floats
    staleness_min: Floats
    staleness_mean: Floats
    staleness_max: Floats
    gap_shares: Floats
    """[MAX_GAP + 1, U] share of the trained tokens whose policy version is 0, 1, ... behind the weights trained."""
    metrics: dict[str, Floats]


def update_series(data: RunData) -> UpdateSeries:
    """Columns over the updates of the surviving lineage."""
    surviving = data.lineage.steps
    spent = rollouts_by_version(data.lineage.surviving)
    staleness = [[end.staleness for end in update.groups if end.ending == "trained"] for update in surviving]
    ratio_samples, ratio_prompts = _ratio_columns(data)
    return UpdateSeries(
        step=_column([update.step for update in surviving]),
        created_s=_column([update.created_s for update in surviving]),
        rollouts=_column([spent[update.version] for update in surviving]),
        reward=_column([mean_reward(update) for update in surviving]),
        ratio_samples=ratio_samples,
        ratio_prompts=ratio_prompts,
        staleness_min=_column([min(values, default=np.nan) for values in staleness]),
        staleness_mean=_column([float(np.mean(values)) if values else np.nan for values in staleness]),
        staleness_max=_column([max(values, default=np.nan) for values in staleness]),
        gap_shares=gap_shares(data),
        metrics=_metric_columns(surviving),
    )


def _column(values: Sequence[float]) -> Floats:
    return np.array(values, np.float64)


def mean_reward(update: Update) -> float:
    """Mean reward of the graded rollouts that ended in an update; NaN without any."""
    graded = sum(end.num_graded for end in update.groups)
    return sum(end.reward_sum for end in update.groups) / graded if graded else np.nan


def _metric_columns(surviving: Sequence[Update]) -> dict[str, Floats]:
    keys = {key for update in surviving for key in update.metrics}
    return {key: _column([update.metrics.get(key, np.nan) for update in surviving]) for key in sorted(keys)}


def _ratio_columns(data: RunData) -> tuple[Floats, Floats]:
    by_update = [gradient_ratios(update.groups) for update in data.lineage.steps]
    samples = [np.nan if ratios.samples is None else ratios.samples for ratios in by_update]
    prompts = [np.nan if ratios.prompts is None else ratios.prompts for ratios in by_update]
    return _column(samples), _column(prompts)


def update_of_groups(data: RunData, *, trained_only: bool = False) -> NDArray[np.int64]:
    """[G] position in `Lineage.steps` of the update in which each group ended, -1 for none."""
    result = np.full(len(data.groups), -1, np.int64)
    for position, update in enumerate(data.lineage.steps):
        for end in update.groups:
            if end.group_id in data.groups and (end.ending == "trained" or not trained_only):
                result[data.groups[end.group_id].index] = position
    return result


def gap_shares(data: RunData) -> Floats:
    """[MAX_GAP + 1, U] share of trained tokens by versions between the weights that sampled and those trained."""
    parents = np.array([update.parent_version for update in data.lineage.steps], np.int64)
    counts = np.zeros((MAX_GAP + 1, parents.size))
    if not parents.size:
        return counts
    position = update_of_groups(data, trained_only=True)[data.spans["group"]]
    spans, position = data.spans[position >= 0], position[position >= 0]
    gap = np.clip(parents[position] - spans["policy_version"], 0, MAX_GAP)
    np.add.at(counts, (gap, position), spans["num_tokens"])
    total = counts.sum(axis=0)
    result: Floats = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return result


def waiting_s(data: RunData) -> Floats:
    """[R] seconds from each rollout's verdict to the update that its group ended in; NaN if it has not ended."""
    created_s = _column([*(update.created_s for update in data.lineage.steps), np.nan])
    position = update_of_groups(data)[data.rollouts["group"]]
    waits: Floats = np.maximum(0.0, created_s[position] - data.rollouts["created_s"])
    return waits


def _means(stretch: NDArray[np.int64], values: Floats, size: int) -> Floats:
    known = np.isfinite(values)
    stretch, values = stretch[known], values[known]
    count = np.bincount(stretch, minlength=size).astype(np.float64)
    total = np.bincount(stretch, weights=values, minlength=size)
    result: Floats = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    return result


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """One value per stretch of equal length of the run's time."""

    minutes: Floats
    """Middle of each stretch, since the first job."""
    start_s: float
    """When the first job was made, seconds since the epoch."""
    training_per_s: Floats
    evaluation_per_s: Floats
    tokens_per_s: Floats
    outcome_shares: Floats
    """[6, B] share of training rollouts by outcome, as in OUTCOMES; NaN where none was graded."""
    queued_s: Floats
    generated_s: Floats
    to_verifier_s: Floats
    """Mean time from the end of sampling to the start of grading."""
    graded_s: Floats
    waiting_s: Floats
    """Mean time from the verdict to the update that the group ended in."""


def time_series(data: RunData, num_stretches: int = 60) -> TimeSeries:
    """Columns over the time of the verdicts."""
    known = np.isfinite(data.rollouts["created_s"]) & (data.rollouts["created_s"] > 0)
    rows, waits = data.rollouts[known], waiting_s(data)[known]
    start, stop = _range_of(rows)
    length = max((stop - start) / num_stretches, 1e-3)
    stretch = np.minimum(((rows["created_s"] - start) / length).astype(np.int64), num_stretches - 1)
    train = rows["train"]
    ones = np.ones(len(rows))

    def per_s(mask: NDArray[np.bool_], weights: Floats) -> Floats:
        return np.bincount(stretch[mask], weights=weights[mask], minlength=num_stretches) / length

    idle = np.maximum(0.0, rows["created_s"] - rows["trajectory_created_s"] - rows["graded_s"])
    return TimeSeries(
        minutes=(np.arange(num_stretches) + 0.5) * length / 60,
        start_s=start,
        training_per_s=per_s(train, ones),
        evaluation_per_s=per_s(~train, ones),
        tokens_per_s=per_s(ones > 0, rows["num_tokens"].astype(np.float64)),
        outcome_shares=_outcome_shares(stretch[train], rows["outcome"][train], num_stretches),
        queued_s=_means(stretch, rows["queued_s"], num_stretches),
        generated_s=_means(stretch, rows["generated_s"], num_stretches),
        to_verifier_s=_means(stretch, idle, num_stretches),
        graded_s=_means(stretch, rows["graded_s"], num_stretches),
        waiting_s=_means(stretch, waits, num_stretches),
    )


def _range_of(rows: NDArray[np.void]) -> tuple[float, float]:
    if not len(rows):
        return 0.0, 0.0
    jobs = rows["job_created_s"][rows["job_created_s"] > 0]
    last = float(rows["created_s"].max())
    return (min(float(jobs.min()), last) if jobs.size else float(rows["created_s"].min())), last


def _outcome_shares(stretch: NDArray[np.int64], outcome: NDArray[np.int8], size: int) -> Floats:
    counts = np.zeros((len(OUTCOMES), size))
    np.add.at(counts, (outcome, stretch), 1)
    total = counts.sum(axis=0)
    result: Floats = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return result


@dataclass(frozen=True, slots=True)
class BudgetBin:
    """Groups whose prompts were believed to have a success rate in one range."""

    label: str
    num_groups: int
    mean_rollouts: float
    max_rollouts: int


def budget_bins(data: RunData) -> list[BudgetBin]:
    """Mean rollouts of a prompt by believed success rate: unseen, 0, ten ranges, 1."""
    groups = [group for group in data.groups.values() if group.train and not np.isnan(group.success_rate)]
    sizes_of: dict[str, list[int]] = {label: [] for label in BIN_LABELS}
    for group in groups:
        sizes_of[bin_label(group.success_rate, group.num_observed)].append(group.num_rollouts)
    return [
        BudgetBin(label, len(sizes), float(np.mean(sizes)) if sizes else np.nan, max(sizes, default=0))
        for label, sizes in sizes_of.items()
    ]


_TENTHS = tuple(f"{low / 10:.1f}-{(low + 1) / 10:.1f}" for low in range(10))
BIN_LABELS = ("unseen", "0", *_TENTHS, "1")


def bin_label(success_rate: float, num_observed: float) -> str:
    """The bin of a belief; the ranges include their upper end, except that 1 has a bin of its own."""
    if num_observed <= 0:
        return "unseen"
    if success_rate <= 0 or success_rate >= 1:
        return "0" if success_rate <= 0 else "1"
    # Rounded first: .3 is stored a little above or below three tenths.
    return _TENTHS[min(9, max(0, int(np.ceil(round(success_rate * 10, 9))) - 1))]
