"""What is believed of a prompt, and how a graded group changes it. Pure: a belief in, a belief out."""

from dataclasses import replace

from stream.messages import Belief, OpenGroup, Visit

WINDOW = 16
"""Rollouts that an estimate looks back on (reward_buffer_length of the paper's code, algorithms.md A1)."""
MIN_TRIALS = 8
"""Fewer trials than this and a prompt counts as unseen (min_buffer_length)."""


def admit(belief: Belief, group: OpenGroup) -> Belief:
    """The prompt gets a group."""
    return replace(belief, num_groups=belief.num_groups + 1, open_group=group)


def observe(belief: Belief, num_correct: float, num_graded: int) -> Belief:
    """The open group's verdicts are all there; ungraded rollouts say nothing (law 6)."""
    assert belief.open_group is not None and not belief.open_group.observed
    visits = belief.visits
    if num_graded:
        visits = _newest((*visits, Visit(num_correct=num_correct, num_graded=num_graded)))
    return _close_if_over(
        replace(
            belief,
            num_trials=belief.num_trials + num_graded,
            num_correct=belief.num_correct + num_correct,
            visits=visits,
            open_group=replace(belief.open_group, observed=True),
        )
    )


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
