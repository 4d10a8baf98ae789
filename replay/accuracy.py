"""Compares accuracy before and after training, over all prompts of a set and by band of base success rate.

The evaluation `base` samples the base policy several times on each held-out prompt: its success rate, averaged over a
level, says how hard the level was at the start. Prompts of one level are alike, so the pool is banded by it as well.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from replay.tables import BASE_VERSION
from stream.messages import Evaluation, PromptScore

HELDOUT, POOL, BASE = "heldout", "pool", "base"
BAND_EDGES = (0.1, 0.3, 0.6, 0.9, 1.0)
"""Upper ends of the bands, each included."""
ALL = "all"

Level = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy on one set, before the first update and after the last (so far); None where there is none."""

    before: float | None
    after: float | None

    @property
    def gain(self) -> float | None:
        """After minus before."""
        return self.after - self.before if self.before is not None and self.after is not None else None


@dataclass(frozen=True, slots=True)
class Band:
    """Prompts whose level had a base success rate in one range."""

    label: str
    num_levels: int
    num_heldout: int
    """Held-out prompts in the band."""
    heldout: Accuracy
    pool: Accuracy


def first_and_last(evaluations: Sequence[Evaluation], name: str) -> tuple[Evaluation | None, Evaluation | None]:
    """The evaluations of one set before (of the base policy) and after (of the newest version, if there is one)."""
    of_set = sorted((e for e in evaluations if e.name == name), key=lambda e: e.policy_version)
    before = next((e for e in of_set if e.policy_version == BASE_VERSION), None)
    after = next((e for e in reversed(of_set) if e.policy_version != BASE_VERSION), None)
    return before, after


def accuracy_of(evaluations: Sequence[Evaluation], name: str) -> Accuracy:
    """Accuracy on one set before and after."""
    before, after = first_and_last(evaluations, name)
    return Accuracy(before.accuracy if before else None, after.accuracy if after else None)


def base_rates(evaluations: Sequence[Evaluation]) -> dict[Level, float]:
    """Success rate of the base policy on each level, from the evaluation `base`; {} if there was none."""
    base = next((e for e in evaluations if e.name == BASE), None)
    sums: dict[Level, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for score in base.scores if base else ():
        sums[score.task, score.level][0] += score.reward_sum
        sums[score.task, score.level][1] += score.num_graded
    return {level: reward / graded for level, (reward, graded) in sums.items() if graded}


def bands_of(evaluations: Sequence[Evaluation]) -> list[Band]:
    """Accuracy by band, easiest band last; [] without an evaluation `base`."""
    rates = base_rates(evaluations)
    result: list[Band] = []
    for low, high in zip((-1.0, *BAND_EDGES), BAND_EDGES, strict=False):
        levels = {level for level, rate in rates.items() if low < rate <= high}
        if levels:
            result.append(_band(evaluations, levels, _label(low, high)))
    return result


def _label(low: float, high: float) -> str:
    return f"{max(low, 0.0):.1f} to {high:.1f}"


def _band(evaluations: Sequence[Evaluation], levels: set[Level], label: str) -> Band:
    def inside(score: PromptScore) -> bool:
        return (score.task, score.level) in levels

    heldout, pool = (first_and_last(evaluations, HELDOUT), first_and_last(evaluations, POOL))
    evaluation = heldout[0] or heldout[1]
    return Band(
        label=label,
        num_levels=len(levels),
        num_heldout=sum(map(inside, evaluation.scores)) if evaluation else 0,
        heldout=Accuracy(*(_mean(e, inside) for e in heldout)),
        pool=Accuracy(*(_mean(e, inside) for e in pool)),
    )


def _mean(evaluation: Evaluation | None, inside: Callable[[PromptScore], bool]) -> float | None:
    scores = [score for score in evaluation.scores if inside(score)] if evaluation else []
    graded = sum(score.num_graded for score in scores)
    return sum(score.reward_sum for score in scores) / graded if graded else None
