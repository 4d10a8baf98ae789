"""What is believed of a prompt, and how a graded group changes it. Pure: a belief in, a belief out."""

from dataclasses import replace

from allocator.modes import MIN_TRIALS
from stream.messages import Belief, OpenGroup, Visit

WINDOW = 16
"""Rollouts that the paper's estimate looks back on (reward_buffer_length of its code, algorithms.md A1)."""
DISCOUNT = 0.5
"""What a group leaves of the weight of those before it: the policy has changed since."""


def next_group_id(belief: Belief) -> str:
    """Id of a prompt's next group: it follows from the belief alone, so a group planned twice is the same group."""
    return f"{belief.prompt_id}.{belief.num_groups:04d}"


def admit(belief: Belief, group: OpenGroup) -> Belief:
    """The prompt gets a group."""
    return replace(belief, num_groups=belief.num_groups + 1, open_group=group)


def observe(
    belief: Belief,
    num_correct: float,
    num_graded: int,
    *,
    num_sampled: int = 0,
    num_tokens: int = 0,
    discount: float = DISCOUNT,
) -> Belief:
    """The open group's verdicts are all there; ungraded rollouts say nothing of the success rate (law 6).

    A reward between 0 and 1 counts as that part of a success.
    """
    assert belief.open_group is not None and not belief.open_group.observed
    observed = replace(belief, open_group=replace(belief.open_group, observed=True))
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
            visits=_newest((*belief.visits, Visit(num_correct=num_correct, num_graded=num_graded))),
        )
    return _close_if_over(observed)


def end(belief: Belief) -> Belief:
    """The learner has ended the open group."""
    assert belief.open_group is not None
    return _close_if_over(replace(belief, open_group=replace(belief.open_group, ended=True)))


def _close_if_over(belief: Belief) -> Belief:
    """A group is closed when it is both observed and ended, whichever comes first (they stand on different topics)."""
    group = belief.open_group
    return replace(belief, open_group=None) if group is not None and group.observed and group.ended else belief


def success_rate(belief: Belief) -> float:
    """The paper's estimate: nan if unseen, the last visit's mean if it had 16 rollouts, else that of the newest 16."""
    if belief.num_trials < MIN_TRIALS:
        return float("nan")
    correct, left = 0.0, WINDOW
    for visit in reversed(belief.visits):
        if left == WINDOW and visit.num_graded >= WINDOW:
            return visit.num_correct / visit.num_graded
        taken = min(left, visit.num_graded)
        correct += visit.num_correct / visit.num_graded * taken
        left -= taken
        if left == 0:
            break
    return correct / (WINDOW - left)


def _newest(visits: tuple[Visit, ...]) -> tuple[Visit, ...]:
    """As many of the newest visits as WINDOW rollouts need."""
    total, kept = 0, 0
    for visit in reversed(visits):
        kept += 1
        total += visit.num_graded
        if total >= WINDOW:
            break
    return visits[-kept:]
