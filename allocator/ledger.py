"""Keeps account of every open group, rollout by rollout: groups and verdicts in; complete groups and overdue slices out.

A rollout counts once, whatever comes of it again (law 2). No clock of its own: times are passed in, in seconds of any one
clock.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream.messages import OpenGroup, Verdict
from stream.sequential import progress_of


@dataclass(slots=True, kw_only=True)
class Slice:
    """Rollouts [start, stop) of a group, issued as one job."""

    start: int
    stop: int
    partition: int
    issued_s: float
    attempt: int = 0


@dataclass(slots=True, kw_only=True)
class Entry:
    """One open group."""

    prompt_id: str
    group: OpenGroup
    slices: list[Slice]
    rewards: dict[int, float | None] = field(default_factory=dict)
    """By rollout; None for one that carries no reward (law 6)."""
    complete: bool = False
    """Every rollout has a verdict, and no more are asked for, as `Ledger.grow` has found."""
    forecasts: NDArray[np.float64] | None = None
    """Success rate that each rule of forgetting expects [K]; None after a restart, where it is not scored."""
    num_sampled: int = 0
    num_tokens: int = 0
    """Rollouts that were sampled (the abandoned were not), and their tokens."""
    pass_offsets: list[Callable[[], None]] = field(default_factory=list)
    """To be called once the verdicts are in the belief: before that their offsets may not be passed."""

    @property
    def num_asked(self) -> int:
        """Rollouts that were asked for so far: in mode `sequential` the group may grow."""
        return self.slices[-1].stop

    def awaits(self, rollout_index: int) -> bool:
        """Whether a verdict of this rollout would count."""
        return rollout_index < self.num_asked and rollout_index not in self.rewards

    def missing(self, piece: Slice) -> list[int]:
        """Rollouts of a slice that have no verdict."""
        return [rollout for rollout in range(piece.start, piece.stop) if rollout not in self.rewards]


class Ledger:
    """The open groups of one allocator, by group id."""

    def __init__(self, slice_rollouts: int, num_partitions: int) -> None:
        """Cut groups in slices of so many rollouts, for so many partitions of jobs."""
        self._slice_rollouts = slice_rollouts
        self._num_partitions = num_partitions
        self.entries: dict[str, Entry] = {}
        self._outstanding: dict[int, int] = defaultdict(int)
        self.num_open_rollouts = 0
        """Rollouts that were asked for in groups that have not ended. Counted, not summed: it is asked for at every poll."""

    def open(self, prompt_id: str, group: OpenGroup, now_s: float) -> Entry:
        """Admit a group, cut in slices, each on the partition with the fewest outstanding rollouts."""
        entry = Entry(prompt_id=prompt_id, group=group, slices=[])
        self.entries[group.group_id] = entry
        if group.observed:  # restored, with all its verdicts in its belief already: nothing of it is missing
            entry.slices = [Slice(start=0, stop=group.num_rollouts, partition=0, issued_s=now_s)]
            entry.rewards = dict.fromkeys(range(group.num_rollouts))
            entry.complete = True
            self.num_open_rollouts += 0 if group.ended else group.num_rollouts
        else:
            self.grow(entry, now_s)
        return entry

    def grow(self, entry: Entry, now_s: float) -> list[Slice]:
        """Ask for what a group is to have next, as all that it was asked for has a verdict: the new slices, [] if it is over."""
        first, old = (entry.num_asked if entry.slices else 0), len(entry.slices)
        asked, entry.complete = progress_of(entry.group.budgeting, entry.group.num_rollouts, entry.rewards)
        for start in range(first, asked, self._slice_rollouts):
            stop = min(start + self._slice_rollouts, asked)
            partition = min(range(self._num_partitions), key=lambda number: self._outstanding[number])
            self._outstanding[partition] += stop - start
            entry.slices.append(Slice(start=start, stop=stop, partition=partition, issued_s=now_s))
            self.num_open_rollouts += 0 if entry.group.ended else stop - start
        return entry.slices[old:]

    def record(self, verdict: Verdict) -> Entry | None:
        """Count a verdict; returns its group if nothing of it is awaited now. The first verdict of a rollout counts (law 2)."""
        job, rollout_index = verdict.trajectory.job, verdict.trajectory.rollout_index
        entry = self.entries.get(job.group_id)
        if entry is None or not entry.awaits(rollout_index):
            return None
        entry.rewards[rollout_index] = verdict.reward if verdict.graded else None
        if verdict.outcome != "abandoned":
            entry.num_sampled += 1
            entry.num_tokens += verdict.trajectory.token_ids.size
        for piece in entry.slices:
            if piece.start <= rollout_index < piece.stop:
                self._outstanding[piece.partition] -= 1
        return entry if len(entry.rewards) == entry.num_asked else None

    def change(self, group: OpenGroup) -> None:
        """A group is observed, or has ended."""
        entry = self.entries[group.group_id]
        if group.ended and not entry.group.ended:
            self.num_open_rollouts -= entry.num_asked
        entry.group = group

    def close(self, group_id: str) -> None:
        """Forget a group that is over."""
        entry = self.entries.pop(group_id)
        if not entry.group.ended:
            self.num_open_rollouts -= entry.num_asked
        for piece in entry.slices:
            self._outstanding[piece.partition] -= len(entry.missing(piece))

    def overdue(self, now_s: float, lease_s: float) -> list[tuple[Entry, Slice]]:
        """Slices with missing rollouts whose lease has run out."""
        return [
            (entry, piece)
            for entry in self.entries.values()
            if not entry.complete and not entry.group.ended
            for piece in entry.slices
            if now_s - piece.issued_s > lease_s and entry.missing(piece)
        ]

    def num_expected(self, mean: float) -> float:
        """Rollouts that the groups that have not ended will take, where one that may grow takes the mean at least."""
        entries = [entry for entry in self.entries.values() if not entry.group.ended]
        return sum(entry.num_asked if entry.complete else max(entry.num_asked, mean) for entry in entries)

    @property
    def num_reserved(self) -> int:
        """Rollouts that open groups may still be asked for."""
        return sum(entry.group.num_rollouts - entry.num_asked for entry in self.entries.values() if not entry.complete)

    @property
    def num_open_groups(self) -> int:
        """Admitted groups that have not ended."""
        return sum(not entry.group.ended for entry in self.entries.values())
