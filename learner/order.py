"""Says when an update has its groups: first come, first trained, unless one that is under way would grow too old.

Complete groups in; which an update takes first, how many, and whether it has to wait, out. Pure: no clock, no broker.

The allocator admits round k once `rounds_ahead` rounds before it at most are not trained, so its rollouts are sampled by weights
of version k - rounds_ahead or newer. They are at most `max_staleness` versions old if update k + slack trains them, slack =
max_staleness - rounds_ahead (rounds and updates number from 0). So update u waits until the rounds up to u - slack, which are
due, are complete, and takes what is left of them first. Nothing is dropped for being late: a rule that does would train on
short answers only. No wait is for ever, as the allocator gives up what is lost.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from learner.groups import Group


class TrainingOrder:
    """What the next update takes, counted in groups or in rollouts."""

    def __init__(self, per_update: int, slack: int | None, *, counts_rollouts: bool) -> None:
        """Begin a run.

        Args:
            per_update: groups, or rollouts, of an update, and of a round.
            slack: updates by which a round's last groups may be overtaken; None never waits.
            counts_rollouts: whether per_update is of rollouts.

        """
        self._per_update, self._slack, self._counts_rollouts = per_update, slack, counts_rollouts
        self._num_updates = self._num_taken = 0
        self.early: Counter[int] = Counter()
        """What is taken of rounds that are not due, by round."""

    def resume(self, num_updates: int, num_taken: int, early: Mapping[int, int]) -> None:
        """Go on after so many updates, which took so many groups or rollouts."""
        self._num_updates, self._num_taken = num_updates, num_taken
        self.early = Counter({number: size for number, size in early.items() if number > self._last_due})

    @property
    def num_wanted(self) -> int:
        """Groups, or rollouts, of the next update: up to its share of the run, and all that is due."""
        return max(1, self._per_update * (self._num_updates + 1) - self._num_taken, self._num_due)

    def arrange(self, ready: list[Group]) -> bool:
        """Put the groups that are due before the others; whether all that is due is there."""
        ready.sort(key=lambda group: group.round > self._last_due)
        return sum(self._size(group) for group in ready if group.round <= self._last_due) >= self._num_due

    def note(self, taken: Iterable[Group]) -> None:
        """The next update takes these."""
        num_taken = self._num_taken
        for group in taken:
            num_taken += self._size(group)
            self.early[group.round] += self._size(group)
        self.resume(self._num_updates + 1, num_taken, {} if self._slack is None else self.early)

    @property
    def _last_due(self) -> int:
        """The last round that the next update may not leave behind."""
        return -1 if self._slack is None else self._num_updates - self._slack

    @property
    def _num_due(self) -> int:
        """What is not taken yet of the rounds that are due; 0 or less if nothing is."""
        return self._per_update * (self._last_due + 1) - (self._num_taken - self.early.total())

    def _size(self, group: Group) -> int:
        return group.num_rollouts if self._counts_rollouts else 1
