"""Compares runs at the same number of rollouts: what the budget bought each of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from replay.accuracy import HELDOUT, POOL
from replay.figures import accuracy_points
from replay.load import RunData
from replay.tables import interpolate, rollouts_by_version
from stream.ratios import GradientRatios, gradient_ratios


@dataclass(frozen=True, slots=True)
class Standing:
    """One run at a number of rollouts that all compared runs have reached."""

    run: str
    modes: tuple[str, ...]
    rollouts: int
    """The number at which all are compared."""
    num_updates: int
    """Updates made with them."""
    ratios: GradientRatios
    heldout_before: float | None
    heldout: float | None
    """Between two evaluations: on the line through them."""
    pool: float | None


def compare(runs: Sequence[RunData]) -> list[Standing]:
    """Every run as it was when the shortest of them had spent its last rollout."""
    common = min((max(rollouts_by_version(data.lineage.surviving).values()) for data in runs), default=0)
    return [_standing(data, common) for data in runs]


def _standing(data: RunData, rollouts: int) -> Standing:
    spent = rollouts_by_version(data.lineage.surviving)
    within = [update for update in data.lineage.steps if spent[update.version] <= rollouts]
    heldout = accuracy_points(data, HELDOUT)
    return Standing(
        run=data.run,
        modes=tuple(sorted({group.mode for group in data.groups.values() if group.mode})),
        rollouts=rollouts,
        num_updates=len(within),
        ratios=gradient_ratios(end for update in within for end in update.groups),
        heldout_before=interpolate(heldout, 0),
        heldout=interpolate(heldout, rollouts),
        pool=interpolate(accuracy_points(data, POOL), rollouts),
    )


def times_of(value: float | None, reference: float | None) -> float | None:
    """How many times the reference a value is; None where that cannot be said."""
    return value / reference if value is not None and reference else None
