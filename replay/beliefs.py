"""Compares ways to believe in a prompt's success rate, on the rollouts of a recorded run: `rucksack replay beliefs RUN`.

What was believed before a rollout is a forecast of its reward. Each forecaster is taken through the run's updates: it
forecasts the rewards of an update from those of earlier ones. Only graded rollouts of updates that survive count.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from allocator.forgetting import PER_VERSION
from allocator.prior import learn_prior, numbered
from replay.load import RunData
from stream.forecasts import Floats, calibration_error, log_loss

KL_METRIC = "learner/mismatch_k3"
KL_HALF = 0.06
"""Nats of drift after which counts are worth half (the form is SPO's, arXiv 2509.13232)."""
KL_BOUNDS = (0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Step:
    """The graded rollouts of one update, by prompt. P prompts."""

    prompts: np.ndarray  # [P] numbers, each once
    graded: Floats  # [P]
    correct: Floats  # [P] sums of rewards
    squares: Floats  # [P] sums of their squares
    believed: Floats  # [P] what the run itself believed; nan where the jobs do not say
    drift: float
    """KL between the weights that sampled and those before the update, in nats."""


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


def forecasters() -> dict[str, Factor]:
    """Ways to forget, by name."""
    per_visit = {f"discount per visit, {d:g}": _per_visit(d) for d in (0.5, 0.8, 0.95)}
    per_update = {f"discount per update, {d:g}": _per_update(d) for d in PER_VERSION}
    return per_visit | per_update | {f"2^(-KL / {KL_HALF:g})": _by_drift}


def _per_visit(discount: float) -> Factor:
    return lambda step: (1.0, discount)


def _per_update(discount: float) -> Factor:
    return lambda step: (discount, 1.0)


def _by_drift(step: Step) -> tuple[float, float]:
    return float(np.clip(2.0 ** (-step.drift / KL_HALF), *KL_BOUNDS)), 1.0


def steps_of(data: RunData) -> tuple[list[Step], list[tuple[str, str]]]:
    """The updates of the surviving lineage, and task and level of every prompt by its number."""
    number: dict[str, int] = {}
    kinds: list[tuple[str, str]] = []
    for group in data.groups.values():
        if group.train and group.prompt_id not in number:
            number[group.prompt_id] = len(kinds)
            kinds.append((group.task, group.level))
    rows = data.training[data.training["graded"]]
    size = len(data.groups)
    graded = np.bincount(rows["group"], minlength=size).astype(np.float64)
    correct = np.bincount(rows["group"], rows["reward"], minlength=size).astype(np.float64)
    squares = np.bincount(rows["group"], rows["reward"].astype(np.float64) ** 2, minlength=size).astype(np.float64)
    steps = []
    for update in data.lineage.steps:
        groups = [data.groups[end.group_id] for end in update.groups if end.group_id in data.groups]
        groups = [group for group in groups if graded[group.index]]
        prompts = np.array([number[group.prompt_id] for group in groups], dtype=np.int64)
        indices = np.array([group.index for group in groups], dtype=np.int64)
        steps.append(
            Step(
                prompts=prompts,
                graded=graded[indices],
                correct=correct[indices],
                squares=squares[indices],
                believed=np.array([group.forecast for group in groups]),
                drift=float(update.metrics.get(KL_METRIC, 0.0)),
            )
        )
    return [step for step in steps if step.prompts.size], kinds


def compare(data: RunData) -> list[Score]:
    """Every forecaster's score, the best first; none for a run without graded updates."""
    steps, kinds = steps_of(data)
    if not steps:
        return []
    task = numbered(task for task, _ in kinds)
    level = numbered(kinds)
    alone = np.zeros(len(kinds), dtype=np.int64)
    found = {"the run's own": [step.believed for step in steps]}
    found |= {name: list(_forecast(steps, factor, task, level)) for name, factor in forecasters().items()}
    found["discount per visit, 0.5, no levels"] = list(_forecast(steps, _per_visit(0.5), alone, alone))
    found["the mean so far"] = list(_means(steps))
    scores = [score_of(name, steps, forecasts) for name, forecasts in found.items()]
    return sorted((score for score in scores if score is not None), key=lambda score: score.log_loss)


def _forecast(steps: Sequence[Step], factor: Factor, task: np.ndarray, level: np.ndarray) -> Iterator[Floats]:
    trials, correct = np.zeros((2, task.size))
    for step in steps:
        prior = learn_prior(correct, trials, task, level)
        a, b = prior.a + correct, prior.b + trials - correct
        yield (a / (a + b))[step.prompts]
        of_all, of_these = factor(step)
        for counts, new in ((trials, step.graded), (correct, step.correct)):
            counts *= of_all
            counts[np.unique(step.prompts)] *= of_these
            np.add.at(counts, step.prompts, new)


def _means(steps: Sequence[Step]) -> Iterator[Floats]:
    graded, correct = 2.0, 1.0
    for step in steps:
        yield np.full(step.prompts.size, correct / graded)
        graded, correct = graded + float(step.graded.sum()), correct + float(step.correct.sum())


def score_of(name: str, steps: Sequence[Step], forecasts: Sequence[Floats]) -> Score | None:
    """A forecaster's score; None where it says nothing."""
    quarter = max(1, len(steps) // 4)
    if any(np.isnan(forecast).any() for forecast in forecasts):
        return None

    def losses(part: slice) -> tuple[Floats, Floats]:
        p = np.concatenate(
            [np.repeat(f, s.graded.astype(int)) for f, s in zip(forecasts[part], steps[part], strict=True)]
        )
        r = np.concatenate([np.repeat(s.correct / s.graded, s.graded.astype(int)) for s in steps[part]])
        return p, r

    p, r = losses(slice(None))
    return Score(
        forecaster=name,
        log_loss=log_loss(p, r),
        first_quarter=log_loss(*losses(slice(0, quarter))),
        last_quarter=log_loss(*losses(slice(len(steps) - quarter, None))),
        brier=_brier(steps, forecasts),
        calibration_error=calibration_error(p, r),
    )


def _brier(steps: Sequence[Step], forecasts: Sequence[Floats]) -> float:
    """Mean of (p - r)^2."""
    each = [s.squares - 2 * f * s.correct + f**2 * s.graded for s, f in zip(steps, forecasts, strict=True)]
    return float(sum(part.sum() for part in each) / sum(s.graded.sum() for s in steps))


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
        "1 + run.max_staleness updates earlier.",
        soft_wrap=True,
    )


def as_json(scores: Sequence[Score]) -> str:
    """The scores for programs."""
    rows: list[Mapping[str, object]] = [asdict(score) for score in scores]
    return json.dumps(rows, indent=2)
