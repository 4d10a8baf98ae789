"""Measures the groups of an update, trained or not: groups and their ends in, figures by the names of docs/metrics.md out."""

from collections.abc import Sequence

from learner.groups import Group
from stream import forecasts
from stream.messages import GroupEnd
from stream.ratios import gradient_ratios


def batch_metrics(batch: Sequence[Group], ends: Sequence[GroupEnd]) -> dict[str, float]:
    """Metrics of an update's groups, trained or not."""
    staleness = [end.staleness for end in ends if end.num_graded]
    num_graded = sum(end.num_graded for end in ends)
    num_ungraded = sum(end.num_rollouts for end in ends) - num_graded
    ratios = gradient_ratios(ends)
    lengths = [verdict.trajectory.token_ids.size for group in batch for verdict in group.verdicts.values()]
    metrics = {
        "learner/reward/mean": sum(end.reward_sum for end in ends) / max(num_graded, 1),
        "learner/value_sum": sum(value_of(group) for group in batch),
        "learner/completion_tokens/mean": sum(lengths) / max(len(lengths), 1),
        "learner/ungraded_rollouts": float(num_ungraded),
    }
    for ending in ("trained", "zero_variance", "stale", "abandoned"):
        metrics[f"learner/groups/{ending}"] = float(sum(end.ending == ending for end in ends))
    if ratios.samples is not None and ratios.prompts is not None:
        metrics["learner/effective_gradient_ratio/samples"] = ratios.samples
        metrics["learner/effective_gradient_ratio/prompts"] = ratios.prompts
    if staleness:
        metrics["learner/staleness/min"] = float(min(staleness))
        metrics["learner/staleness/mean"] = sum(staleness) / len(staleness)
        metrics["learner/staleness/max"] = float(max(staleness))
    verdicts = [verdict for group in batch for verdict in group.verdicts.values()]
    return metrics | belief_metrics(*forecasts.beliefs_and_rewards(verdicts))


def belief_metrics(believed: forecasts.Floats, rewards: forecasts.Floats) -> dict[str, float]:
    """How good the beliefs E[p] [N] were as forecasts of the rewards [N]; nothing where there are none."""
    if not rewards.size:
        return {}
    metrics = {
        "learner/belief/log_loss": forecasts.log_loss(believed, rewards),
        "learner/belief/calibration_error": forecasts.calibration_error(believed, rewards),
    }
    skill = forecasts.skill(believed, rewards)
    return metrics if skill is None else metrics | {"learner/belief/skill": skill}


def value_of(group: Group) -> float:
    """The value V(N) that the allocator saw in the group's budget; 0 if it has none."""
    budgeting = next(iter(group.verdicts.values())).trajectory.job.budgeting
    return budgeting.value if budgeting else 0.0
