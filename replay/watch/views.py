"""Reads from an index what the plots of `replay.figures` show, in the same columns that the report makes from the topics.

An `Index` enters, an `IndexView` leaves, which is a `replay.figures.View`. Only updates of the lineage that survives count, found anew each time, as a resumed learner
may make some void. Legend: U steps of the lineage, N rollouts, B stretches of time.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.accuracy import HELDOUT, POOL
from replay.figures import colour_of
from replay.forecasts import Forecasts
from replay.series import BIN_LABELS, MAX_GAP, BudgetBin, Floats, TimeSeries, UpdateSeries
from replay.tables import BASE_VERSION, lineage_of
from replay.watch.index import Index
from stream.messages import OUTCOMES, Update

NUM_STRETCHES = 60


@dataclass(frozen=True, slots=True)
class Step:
    """One update of the surviving lineage that made a step."""

    version: int
    step: int
    created_s: float
    spent: int
    """Rollouts up to and including it."""
    row: dict[str, object]
    """Of the table `updates`."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The lineage that survives, as the index has it."""

    steps: tuple[Step, ...]
    spent: dict[int, int]
    """Rollouts spent to make each surviving version; the base is 0."""
    base_versions: frozenset[int]
    num_rolled_back: int
    finished: bool
    complete: bool
    """Whether the lineage goes back to the base policy."""

    @property
    def position(self) -> dict[int, int]:
        """Place of each step among them, by version."""
        return {step.version: place for place, step in enumerate(self.steps)}


def steps_of(index: Index) -> Steps:
    """Follow the lineage from the newest update back."""
    rows = index.dicts("SELECT * FROM updates ORDER BY no")
    by_version = {row["version"]: row for row in rows}
    light = [
        Update(step=r["step"], version=r["version"], parent_version=r["parent"], groups=(), final=bool(r["final"]))
        for r in rows
    ]
    lineage = lineage_of(light)
    spent, total, before = {BASE_VERSION: 0}, 0, 0
    steps: list[Step] = []
    for update in lineage.surviving:
        row = by_version[update.version]
        total += row["num_rollouts"]
        spent[update.version] = total
        if update.step > before or row["num_groups"]:
            steps.append(Step(update.version, update.step, row["created_s"], total, row))
        before = update.step
    return Steps(
        steps=tuple(steps),
        spent=spent,
        base_versions=lineage.base_versions,
        num_rolled_back=len(lineage.rolled_back),
        finished=lineage.finished,
        complete=lineage.complete,
    )


class IndexView:
    """Everything that is plotted of a run, each part read once and only if a plot asks for it."""

    def __init__(self, index: Index, number: int) -> None:
        """`number` gives the run's colour."""
        self.name = index.run
        self.colour = colour_of(number)
        self._index = index

    @cached_property
    def steps(self) -> Steps:
        """The lineage that survives."""
        return steps_of(self._index)

    @cached_property
    def accuracy(self) -> Mapping[str, Sequence[tuple[float, float]]]:
        """(rollouts spent, accuracy) by set."""
        return {name: accuracy_points(self._index, self.steps, name) for name in (HELDOUT, POOL)}

    @cached_property
    def updates(self) -> UpdateSeries:
        """Columns over the steps."""
        return update_series(self.steps)

    @cached_property
    def times(self) -> TimeSeries:
        """Columns over time."""
        return time_series(self._index, self.steps)

    @cached_property
    def budgets(self) -> list[BudgetBin]:
        """Rollouts by believed success rate."""
        return budget_bins(self._index)

    @cached_property
    def forecasts(self) -> Forecasts:
        """Beliefs beside rewards."""
        return forecasts_of(self._index, self.steps)


def accuracy_points(index: Index, steps: Steps, name: str) -> list[tuple[float, float]]:
    """(rollouts spent, accuracy) of the surviving evaluations of one set, in order."""
    rows = index.rows("SELECT policy_version, accuracy FROM evaluations WHERE name = ?", (name,))
    known = dict.fromkeys(steps.base_versions, 0) | steps.spent
    return sorted((float(known[version]), accuracy) for version, accuracy in rows if version in known)


def update_series(steps: Steps) -> UpdateSeries:
    """Columns over the steps. [U]"""

    def column(name: str) -> Floats:
        return np.array([step.row[name] for step in steps.steps], np.float64)  # None becomes NaN

    metrics = [json.loads(str(step.row["metrics"])) for step in steps.steps]
    keys = sorted({key for figures in metrics for key in figures})
    return UpdateSeries(
        step=column("step"),
        created_s=column("created_s"),
        rollouts=np.array([step.spent for step in steps.steps], np.float64),
        reward=column("reward"),
        ratio_samples=column("ratio_samples"),
        ratio_prompts=column("ratio_prompts"),
        staleness_min=column("staleness_min"),
        staleness_mean=column("staleness_mean"),
        staleness_max=column("staleness_max"),
        gap_shares=np.full((MAX_GAP + 1, len(metrics)), np.nan),
        metrics={key: np.array([m.get(key, np.nan) for m in metrics], np.float64) for key in keys},
    )


def budget_bins(index: Index) -> list[BudgetBin]:
    """Rollouts of a training group by believed success rate, as `replay.series.budget_bins` counts them."""
    # The tenth that a rate is in, its upper end included: ceil(x) - 1, for SQLite without mathematics.
    tenths = "max(0, min(9, CAST(x AS INTEGER) - (x = CAST(x AS INTEGER))))"
    query = (
        "SELECT CASE WHEN num_observed <= 0 THEN 0 WHEN success_rate <= 0 THEN 1 WHEN success_rate >= 1 THEN 12 "
        f"ELSE 2 + {tenths} END AS bin, count(*), avg(size), max(size) "
        "FROM (SELECT size, num_observed, success_rate, round(success_rate * 10, 9) AS x FROM groups "
        "WHERE train AND success_rate IS NOT NULL) GROUP BY bin"
    )
    found = {number: (num, mean, most) for number, num, mean, most in index.rows(query)}
    return [BudgetBin(label, *found.get(number, (0, np.nan, 0))) for number, label in enumerate(BIN_LABELS)]


def forecasts_of(index: Index, steps: Steps) -> Forecasts:
    """What was believed before each graded training rollout, and what came, in the order of the updates. [N]"""
    query = (
        "SELECT e.version, r.forecast, r.reward FROM rollouts r JOIN ends e ON e.group_no = r.group_no "
        "WHERE r.train AND r.graded AND r.forecast IS NOT NULL"
    )
    versions, believed, rewards = index.columns(query, 3)
    place = _places(versions, steps)
    order = np.argsort(place, kind="stable")
    order = order[place[order] >= 0]
    return Forecasts(believed[order], rewards[order], place[order], len(steps.steps))


def _places(versions: Floats, steps: Steps) -> NDArray[np.int64]:
    """Place of the step that made each version, -1 for none. [N]"""
    made = np.array([step.version for step in steps.steps], np.float64)
    if not made.size:
        return np.full(versions.size, -1, np.int64)
    place = np.minimum(np.searchsorted(made, versions), made.size - 1)
    return np.where(made[place] == versions, place, -1)


def time_series(index: Index, steps: Steps) -> TimeSeries:
    """Columns over the time of the verdicts. [B]"""
    ((start, stop, job),) = index.rows(
        "SELECT min(created_s), max(created_s), (SELECT min(created_s) FROM groups WHERE created_s > 0) FROM rollouts "
        "WHERE created_s > 0"
    )
    start, stop = min(x for x in (start, job, math.inf) if x is not None), stop or 0.0
    start = start if start <= stop else stop
    length = max((stop - start) / NUM_STRETCHES, 1e-3)
    sums = np.zeros((NUM_STRETCHES, 8))
    outcomes = np.zeros((len(OUTCOMES), NUM_STRETCHES))
    # The outcome in the key makes a few more rows and saves a second pass.
    query = (
        "SELECT min(CAST((created_s - :start) / :length AS INTEGER), :last) AS stretch, outcome, sum(train), count(*), "
        "sum(num_tokens), sum(queued_s), sum(generated_s), sum(max(0, created_s - sampled_at_s - graded_s)), "
        "sum(graded_s) FROM rollouts WHERE created_s > 0 GROUP BY stretch, outcome"
    )
    for stretch, outcome, training, *more in index.rows(
        query, {"start": start, "length": length, "last": NUM_STRETCHES - 1}
    ):
        sums[stretch, :7] += (training, *more)
        outcomes[OUTCOMES.index(outcome), stretch] += training
    return _series(start, length, sums, outcomes, _waiting(index, steps, start, length))


def _waiting(index: Index, steps: Steps, start: float, length: float) -> Floats:
    """Mean seconds from a verdict to the update that its group ended in. [B]"""
    query = "SELECT e.version, r.created_s FROM rollouts r JOIN ends e ON e.group_no = r.group_no WHERE r.created_s > 0"
    versions, graded_s = index.columns(query, 2)
    place = _places(versions, steps)
    graded_s, place = graded_s[place >= 0], place[place >= 0]
    ended_s = np.array([step.created_s for step in steps.steps])[place] if place.size else np.zeros(0)
    stretch = np.minimum(((graded_s - start) / length).astype(np.int64), NUM_STRETCHES - 1)
    total: Floats = np.bincount(stretch, weights=np.maximum(0.0, ended_s - graded_s), minlength=NUM_STRETCHES).astype(
        np.float64
    )
    count = np.bincount(stretch, minlength=NUM_STRETCHES)
    return _ratio(total, count)


def _series(start: float, length: float, sums: Floats, outcomes: Floats, waiting: Floats) -> TimeSeries:
    training, num, tokens, queued, generated, idle, graded = sums[:, :7].T
    return TimeSeries(
        minutes=(np.arange(NUM_STRETCHES) + 0.5) * length / 60,
        start_s=start,
        training_per_s=training / length,
        evaluation_per_s=(num - training) / length,
        tokens_per_s=tokens / length,
        outcome_shares=_ratio(outcomes, outcomes.sum(axis=0)),
        queued_s=_ratio(queued, num),
        generated_s=_ratio(generated, num),
        to_verifier_s=_ratio(idle, num),
        graded_s=_ratio(graded, num),
        waiting_s=waiting,
    )


def _ratio(total: Floats, count: NDArray[Any]) -> Floats:
    result: Floats = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return result
