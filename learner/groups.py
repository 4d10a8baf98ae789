"""Assembles groups from verdicts, and says how each ends. Pure: no clock, no broker.

The first verdict of a rollout counts (law 2); a group is complete when every rollout has one. Rollouts without a grade
(timeout, error, abandoned) take no part in advantages (law 6).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from learner.group_ids import GroupIds
from learner.overlong import KEEP, Overlong
from stream.messages import GroupEnd, GroupEnding, Verdict
from stream.sequential import progress_of


@dataclass(slots=True)
class Group:
    """All rollouts of one prompt in one round."""

    group_id: str
    num_rollouts: int
    """Of mode `sequential`, the most as long as it is open, and those that it was asked for once it is complete."""
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    """By rollout index."""

    @property
    def round(self) -> int:
        """In which it was admitted; of a group with a verdict."""
        return next(iter(self.verdicts.values())).trajectory.job.round

    @property
    def complete(self) -> bool:
        """Every rollout has a verdict, and no more are asked for."""
        return self.progress()[1]

    def progress(self) -> tuple[int, bool]:
        """Rollouts asked for, as far as the verdicts tell, and whether that is all of them."""
        if not self.verdicts:
            return self.num_rollouts, False
        reason = next(iter(self.verdicts.values())).trajectory.job.budgeting
        rewards = {i: verdict.reward if verdict.graded else None for i, verdict in self.verdicts.items()}
        return progress_of(reason, self.num_rollouts, rewards)

    @property
    def graded(self) -> list[Verdict]:
        """Verdicts that carry a reward, in order of the rollouts."""
        return [verdict for _, verdict in sorted(self.verdicts.items()) if verdict.graded]

    @property
    def min_policy_version(self) -> int | None:
        """Version of the oldest token, None if no graded rollout has any."""
        versions = [v.trajectory.min_policy_version for v in self.graded if v.trajectory.token_ids.size]
        return min(versions, default=None)


class Assembler:
    """Verdicts in, complete groups out, in the order in which they become complete."""

    def __init__(self) -> None:
        self.open: dict[str, Group] = {}
        self.ready: list[Group] = []
        self.seen = GroupIds()
        """Groups that have been complete. Never forgotten: a duplicate may come however late (law 2)."""
        self.num_duplicates = 0

    def add(self, verdict: Verdict) -> None:
        """Count one verdict, unless its rollout has one already.

        Raises:
            ValueError: it contradicts its group's number of rollouts.

        """
        job, rollout_index = verdict.trajectory.job, verdict.trajectory.rollout_index
        group = self.open.get(job.group_id)
        if job.group_id in self.seen or (group is not None and rollout_index in group.verdicts):
            self.num_duplicates += 1
            return
        if group is None:
            group = self.open[job.group_id] = Group(job.group_id, job.num_rollouts)
        if job.num_rollouts != group.num_rollouts:
            raise ValueError(
                f"group {job.group_id} has {group.num_rollouts} rollouts, this verdict says {job.num_rollouts}"
            )
        group.verdicts[rollout_index] = verdict
        asked, is_complete = group.progress()
        if is_complete:
            group.num_rollouts = asked
            self.seen.add(job.group_id)
            self.ready.append(self.open.pop(job.group_id))

    def take(self, num_groups: int) -> list[Group]:
        """The groups that became complete first; [] while there are fewer."""
        if len(self.ready) < num_groups:
            return []
        taken, self.ready = self.ready[:num_groups], self.ready[num_groups:]
        return taken

    def take_rollouts(self, num_rollouts: int) -> list[Group]:
        """As many of the groups that became complete first as hold so many rollouts; [] while all hold fewer."""
        num_groups, held = 0, 0
        while held < num_rollouts and num_groups < len(self.ready):
            held += self.ready[num_groups].num_rollouts
            num_groups += 1
        return self.take(num_groups) if held >= num_rollouts else []

    def pending_verdicts(self) -> list[Verdict]:
        """Verdicts of all groups not yet taken, in an order from which `add` makes the same state."""
        groups: Iterable[Group] = (*self.ready, *self.open.values())
        return [verdict for group in groups for verdict in group.verdicts.values()]


def ending_of(
    group: Group, staleness: int, stale_after: int, overlong: Overlong = KEEP, *, group_mean: bool = True
) -> GroupEnding:
    """How a complete group ends (law 1).

    Args:
        group_mean: the baseline of an advantage is the group's own mean, so equal rewards have no gradient; with a belief
            as the baseline every graded rollout has one.

    """
    graded, least = group.graded, 2 if group_mean else 1
    if any(verdict.outcome == "abandoned" for verdict in group.verdicts.values()) and len(graded) < least:
        return "abandoned"
    if len({overlong.reward(verdict) for verdict in graded}) < least or not any(map(overlong.in_loss, graded)):
        return "zero_variance"
    return "stale" if staleness > stale_after else "trained"


def group_end(
    group: Group, version: int, stale_after: int, overlong: Overlong = KEEP, *, group_mean: bool = True
) -> GroupEnd:
    """The record of how a group ended in an update of the weights of `version`; arguments as of `ending_of`."""
    oldest = group.min_policy_version
    staleness = 0 if oldest is None else version - oldest
    return GroupEnd(
        group_id=group.group_id,
        ending=ending_of(group, staleness, stale_after, overlong, group_mean=group_mean),
        num_rollouts=group.num_rollouts,
        num_graded=len(group.graded),
        reward_sum=sum(verdict.reward for verdict in group.graded),
        staleness=staleness,
    )
