"""Compares ways to believe in a prompt's success rate, on the rollouts of a recorded run: `rucksack replay beliefs RUN`.

What was believed before a rollout is a forecast of its reward. Each forecaster is taken through the run's updates: it
forecasts the rewards of an update from those of earlier ones. Only graded rollouts of updates that survive count.
Legend: N rollouts of G groups end in an update; M prompts are seen in the run.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from allocator.forgetting import MEMORY, PER_VERSION, PER_VISIT
from allocator.prior import learn_prior, numbered
from replay.forecasts import graded_by_update
from replay.load import RunData
from stream.forecasts import Floats, brier, calibration_error, group_losses, log_loss
from stream.messages import Update

Ints = NDArray[np.int64]

KL_HALVES = (0.002, 0.06)
"""Nats a token of KL after which counts are worth half: what fitted two runs of the demo, and one that forgets little there.
The form is SPO's (arXiv 2509.13232), these constants and bounds are not."""
KL_BOUNDS = (0.5, 1.0)
"""Of what one update leaves by its KL."""


@dataclass(frozen=True, slots=True)
class Step:
    """The graded rollouts of one update."""

    prompts: Ints  # [G] number of each group's prompt
    group: Ints  # [N] position in `prompts` of each rollout's group
    rewards: Floats  # [N]
    believed: Floats  # [G] what the run itself believed; nan where the jobs do not say
    drift: float
    """KL between two versions of the policy, in nats a token, as last measured; 0 while nothing was."""

    @property
    def graded(self) -> Floats:
        """Rollouts of each group. [G]"""
        return np.bincount(self.group, minlength=self.prompts.size).astype(np.float64)

    @property
    def correct(self) -> Floats:
        """Sum of the rewards of each group. [G]"""
        return np.bincount(self.group, self.rewards, self.prompts.size).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Score:
    """How good a forecaster was."""

    forecaster: str
    log_loss: float
    """Nats a rollout."""
    first_quarter: float
    last_quarter: float
    """Log loss in the first and the last quarter of the updates."""
    brier: float
    calibration_error: float


Factor = Callable[[Step], tuple[float, float]]
"""What an update leaves of all counts, and of those of the prompts in it."""


def per_visit(discount: float) -> Factor:
    """Forget with every group of a prompt."""
    return lambda step: (1.0, discount)


def per_update(discount: float) -> Factor:
    """Forget with every update, whether a prompt was in it or not."""
    return lambda step: (discount, 1.0)


def by_drift(half: float) -> Factor:
    """Forget as the policy moves (the form is SPO's, arXiv 2509.13232): 2^(-KL / half) with every update."""
    return lambda step: (float(np.clip(2.0 ** (-step.drift / half), *KL_BOUNDS)), 1.0)


def forecasters(*, measured: bool = True) -> dict[str, Factor]:
    """Ways to forget, by name; those by KL if it was measured."""
    visits = {f"discount per visit, {d:g}": per_visit(d) for d in (0.5, 0.8, 0.95)}
    updates = {f"discount per update, {d:g}": per_update(d) for d in PER_VERSION if d < 1}
    drifts = {f"2^(-KL / {half:g})": by_drift(half) for half in KL_HALVES if measured}
    return visits | updates | drifts | {"no forgetting": per_update(1.0)}


def steps_of(data: RunData) -> tuple[list[Step], list[tuple[str, str]]]:
    """The updates of the surviving lineage, and task and level of every prompt by its number."""
    number: dict[str, int] = {}
    kinds: list[tuple[str, str]] = []
    prompt, believed = np.zeros(len(data.groups), np.int64), np.full(len(data.groups), np.nan)
    for group in data.groups.values():
        if not group.train:
            continue
        if group.prompt_id not in number:
            number[group.prompt_id] = len(kinds)
            kinds.append((group.task, group.level))
        prompt[group.index], believed[group.index] = number[group.prompt_id], group.forecast
    rows, edges = graded_by_update(data)
    steps = []
    for drift, start, stop in zip(drifts_of(data.lineage.steps), edges[:-1], edges[1:], strict=True):
        groups, of_rollout = np.unique(rows["group"][start:stop], return_inverse=True)
        rewards = rows["reward"][start:stop].astype(np.float64)
        steps.append(Step(prompt[groups], of_rollout, rewards, believed[groups], drift))
    return [step for step in steps if step.prompts.size], kinds


def drifts_of(updates: Sequence[Update]) -> list[float]:
    """KL of one version of the policy from the one before, in nats a token, as each update knows it.

    An update measures the KL between the weights that it trains and those that sampled, `staleness/mean` versions older.
    """
    drifts, last = [], 0.0
    for update in updates:
        staleness = update.metrics.get("learner/staleness/mean", 0.0)
        if staleness > 0:
            last = update.metrics.get("learner/mismatch_k3", 0.0) / staleness
        drifts.append(last)
    return drifts


def compare(data: RunData) -> list[Score]:
    """Every forecaster's score, the best first; none for a run without graded updates."""
    steps, kinds = steps_of(data)
    if not steps:
        return []
    task, level = numbered(task for task, _ in kinds), numbered(kinds)
    alone = np.zeros(len(kinds), dtype=np.int64)
    measured = any(step.drift for step in steps)
    found = {"the run's own": [step.believed for step in steps]}
    found |= {
        name: list(forecast(steps, factor, task, level)) for name, factor in forecasters(measured=measured).items()
    }
    rivals = [f"discount per visit, {PER_VISIT:g}", *(f"discount per update, {d:g}" for d in PER_VERSION if d < 1)]
    found["least log loss of late"] = list(chosen(steps, [found[name] for name in (*rivals, "no forgetting")]))
    for name, factor in ((rivals[0], per_visit(PER_VISIT)), ("no forgetting", per_update(1.0))):
        found[f"{name}, no levels"] = list(forecast(steps, factor, alone, alone))
        found[f"{name}, prior Beta(1, 1)"] = list(forecast(steps, factor, task, level, learned=False))
    found["the mean so far"] = list(_means(steps))
    scores = [score_of(name, steps, forecasts) for name, forecasts in found.items()]
    return sorted((score for score in scores if score is not None), key=lambda score: score.log_loss)


def forecast(
    steps: Sequence[Step], factor: Factor, task: Ints, level: Ints, *, learned: bool = True
) -> Iterator[Floats]:
    """Expected success rates of each step's groups [G], from the steps before it.

    Args:
        steps: in order.
        factor: how to forget.
        task, level: [M] of every prompt.
        learned: whether the prior is learned down all -> task -> level, or Beta(1, 1) for every prompt.

    """
    trials, correct = np.zeros((2, task.size))
    for step in steps:
        a = b = np.ones(task.size)
        if learned:
            prior = learn_prior(correct, trials, task, level)
            a, b = prior.a, prior.b
        yield ((a + correct) / (a + b + trials))[step.prompts]
        of_all, of_these = factor(step)
        for counts, new in ((trials, step.graded), (correct, step.correct)):
            counts *= of_all
            counts[np.unique(step.prompts)] *= of_these
            np.add.at(counts, step.prompts, new)


def chosen(steps: Sequence[Step], rules: Sequence[Sequence[Floats]]) -> Iterator[Floats]:
    """The forecasts of the rule that was best of late, as `allocator.forgetting.Scores` chooses. A list of [G] each."""
    losses = np.zeros(len(rules))
    for step, *forecasts in zip(steps, *rules, strict=True):
        yield forecasts[int(np.argmin(losses))]
        losses *= MEMORY
        losses += group_losses(np.array(forecasts), step.correct, step.graded).sum(axis=1)


def _means(steps: Sequence[Step]) -> Iterator[Floats]:
    graded, correct = 2.0, 1.0
    for step in steps:
        yield np.full(step.prompts.size, correct / graded)
        graded, correct = graded + step.rewards.size, correct + float(step.rewards.sum())


def score_of(name: str, steps: Sequence[Step], forecasts: Sequence[Floats]) -> Score | None:
    """A forecaster's score, given its forecasts for each step's groups [G]; None where it says nothing."""
    if any(np.isnan(of_step).any() for of_step in forecasts):
        return None
    each = [of_step[step.group] for of_step, step in zip(forecasts, steps, strict=True)]

    def columns(part: slice) -> tuple[Floats, Floats]:
        return np.concatenate(each[part]), np.concatenate([step.rewards for step in steps[part]])

    both, quarter = columns(slice(None)), max(1, len(steps) // 4)
    return Score(
        forecaster=name,
        log_loss=log_loss(*both),
        first_quarter=log_loss(*columns(slice(quarter))),
        last_quarter=log_loss(*columns(slice(len(steps) - quarter, None))),
        brier=brier(*both),
        calibration_error=calibration_error(*both),
    )


def print_scores(run: str, scores: Sequence[Score], console: Console) -> None:
    """One row a forecaster."""
    table = Table(title=f"Run {run}: success rates believed, as forecasts of the rewards", title_justify="left")
    table.add_column("forecaster")
    for column in ("log loss, nats", "first quarter", "last quarter", "Brier", "calibration error"):
        table.add_column(column, justify="right")
    for score in scores:
        numbers = (score.log_loss, score.first_quarter, score.last_quarter, score.brier, score.calibration_error)
        table.add_row(score.forecaster, *(f"{number:.4f}" for number in numbers))
    console.print(table)
    console.print(
        "All but the run's own know every update before; the run's own were fixed when the rollouts were admitted, up to "
        "run.max_staleness + 1 updates earlier.",
        soft_wrap=True,
    )


def as_json(scores: Sequence[Score]) -> str:
    """The scores for programs."""
    rows: list[Mapping[str, object]] = [asdict(score) for score in scores]
    return json.dumps(rows, indent=2)
