"""Computes the effective-gradient ratios of ended groups: one definition for the learner's metrics and every report.

Enters: how each group ended. Leaves: the share of rollouts, and of prompts, that give a gradient. The share of rollouts
is what the knapsack paper reports (Li et al., arXiv 2509.25849); parking rollouts in groups that have a gradient anyway
raises it and leaves the share of prompts, which says how many different problems teach something.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from stream.messages import GroupEnd


@dataclass(frozen=True, slots=True)
class GradientRatios:
    """Effective-gradient ratios of some groups; None where nothing was graded."""

    samples: float | None
    """Share of graded rollouts that are in groups with a gradient."""
    prompts: float | None
    """Share of groups with a graded rollout that have a gradient."""


def has_gradient(end: GroupEnd) -> bool:
    """Whether the group's rewards differ, so that its rollouts have advantages (a stale group had them too)."""
    return end.ending in ("trained", "stale")


def gradient_ratios(ends: Iterable[GroupEnd]) -> GradientRatios:
    """Both ratios over these groups.

    Only graded rollouts, and groups that have one, are counted: a timeout says nothing of the completion (law 6), so
    a verifier that is slow today must not look like a budget that was spent on prompts without a gradient.
    """
    graded = [end for end in ends if end.num_graded]
    if not graded:
        return GradientRatios(None, None)
    effective = [end.num_graded for end in graded if has_gradient(end)]
    return GradientRatios(sum(effective) / sum(end.num_graded for end in graded), len(effective) / len(graded))
