"""Changes what is believed of a prompt: a belief and what happened to its group in, the belief after it out. Pure."""

from msgspec.structs import replace

from allocator.forgetting import PER_VISIT, with_group
from allocator.modes import MIN_TRIALS
from stream.messages import Belief, OpenGroup, Visit

WINDOW = 16
"""Rollouts that the estimate of Li et al. (arXiv 2509.25849) looks back on: reward_buffer_length of their code."""


def next_group_id(belief: Belief) -> str:
    """Id of a prompt's next group: it follows from the belief alone, so a group planned twice is the same group."""
    return f"{belief.prompt_id}.{belief.num_groups:04d}"


def admit(belief: Belief, group: OpenGroup) -> Belief:
    """The belief once the prompt has got a group."""
    num_rollouts = belief.num_rollouts + group.num_rollouts
    return replace(belief, num_groups=belief.num_groups + 1, num_rollouts=num_rollouts, open_group=group)


def observe(
    belief: Belief,
    num_correct: float,
    num_graded: int,
    *,
    num_sampled: int = 0,
    num_tokens: int = 0,
    num_unused: int = 0,
    discount: float = PER_VISIT,
    version: int = 0,
) -> Belief:
    """The belief once the open group's verdicts are all there. Ungraded rollouts say nothing of the success rate (law 6).

    Args:
        num_correct: sum of the rewards; one between 0 and 1 counts as that part of a success.
        num_graded: rollouts that carry a reward.
        num_sampled, num_tokens: rollouts that were sampled, graded or not, and their tokens.
        num_unused: rollouts that the group might have had, and was not asked for.
        discount: factor on the prompt's recent counts, as the policy has changed since.
        version: of the policy now.

    """
    assert belief.open_group is not None and not belief.open_group.observed
    group = replace(belief.open_group, observed=True, num_rollouts=belief.open_group.num_rollouts - num_unused)
    observed = replace(belief, open_group=group, num_rollouts=belief.num_rollouts - num_unused)
    if num_sampled:
        observed = replace(
            observed,
            recent_sampled=discount * belief.recent_sampled + num_sampled,
            recent_tokens=discount * belief.recent_tokens + num_tokens,
        )
    if num_graded:
        observed = replace(
            observed,
            num_trials=belief.num_trials + num_graded,
            num_correct=belief.num_correct + num_correct,
            recent_trials=discount * belief.recent_trials + num_graded,
            recent_correct=discount * belief.recent_correct + num_correct,
            faded=with_group(belief.faded, version - belief.faded_at, num_graded, num_correct),
            faded_at=max(version, belief.faded_at),
            visits=_newest((*belief.visits, Visit(num_correct=num_correct, num_graded=num_graded))),
        )
    return _close_if_over(observed)


def end(belief: Belief) -> Belief:
    """The belief once the learner has ended the open group."""
    assert belief.open_group is not None
    return _close_if_over(replace(belief, open_group=replace(belief.open_group, ended=True)))


def _close_if_over(belief: Belief) -> Belief:
    """A group is closed when it is both observed and ended, whichever comes first (two topics tell of it)."""
    group = belief.open_group
    return replace(belief, open_group=None) if group is not None and group.observed and group.ended else belief


def success_rate(belief: Belief) -> float:
    """The plug-in estimate of the success rate, as the code of arXiv 2509.25849 makes it.

    nan if the prompt is unseen (fewer than MIN_TRIALS rollouts); the last visit's mean if that had WINDOW rollouts or more;
    otherwise the mean of the newest WINDOW rollouts, where each visit's count with the visit's mean.
    """
    if belief.num_trials < MIN_TRIALS:
        return float("nan")
    correct, num_left = 0.0, WINDOW
    for visit in reversed(belief.visits):
        if num_left == WINDOW and visit.num_graded >= WINDOW:
            return visit.num_correct / visit.num_graded
        taken = min(num_left, visit.num_graded)
        correct += visit.num_correct / visit.num_graded * taken
        num_left -= taken
        if num_left == 0:
            break
    return correct / (WINDOW - num_left)


def _newest(visits: tuple[Visit, ...]) -> tuple[Visit, ...]:
    """As many of the newest visits as WINDOW rollouts need."""
    total, kept = 0, 0
    for visit in reversed(visits):
        kept += 1
        total += visit.num_graded
        if total >= WINDOW:
            break
    return visits[-kept:]
