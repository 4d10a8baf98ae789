"""Remembers which groups have been complete, in memory that does not grow with a run. Pure.

The groups of a prompt are numbered from 0 (`PROMPT.0000`), and one is admitted when the one before it has ended. So a
number a prompt says it all; what comes out of turn, as when verdicts are read again, is kept by its id until the gap is
closed, and an id of any other form for good.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self


@dataclass(slots=True)
class GroupIds:
    """A set of group ids."""

    counts: dict[str, int] = field(default_factory=dict)
    """Prompt id to n: its groups 0 to n - 1 are in the set."""
    apart: set[str] = field(default_factory=set)
    """All others."""

    @classmethod
    def of(cls, group_ids: Iterable[str]) -> Self:
        """The set of these."""
        made = cls()
        for group_id in group_ids:
            made.add(group_id)
        return made

    def __contains__(self, group_id: str) -> bool:
        prompt_id, number = parts(group_id)
        return -1 < number < self.counts.get(prompt_id, 0) or group_id in self.apart

    def __len__(self) -> int:
        return sum(self.counts.values()) + len(self.apart)

    def add(self, group_id: str) -> None:
        """Put one in."""
        prompt_id, number = parts(group_id)
        count = self.counts.get(prompt_id, 0)
        if number > count or number < 0:
            self.apart.add(group_id)
        if number != count:
            return
        count += 1
        while self.apart and (following := id_of(prompt_id, count)) in self.apart:
            self.apart.remove(following)
            count += 1
        self.counts[prompt_id] = count

    def without(self, group_ids: Iterable[str]) -> Self:
        """The set less these."""
        left = type(self)(dict(self.counts), self.apart - set(group_ids))
        for group_id in group_ids:
            prompt_id, number = parts(group_id)
            count = left.counts.get(prompt_id, 0)
            if -1 < number < count:
                left.counts[prompt_id] = number
                left.apart.update(id_of(prompt_id, later) for later in range(number + 1, count))
            left.apart.discard(group_id)
        return left


def id_of(prompt_id: str, number: int) -> str:
    """The id of a prompt's group, as the allocator makes it."""
    return f"{prompt_id}.{number:04d}"


def parts(group_id: str) -> tuple[str, int]:
    """Prompt id and number of a group; the number is -1 if the id is of another form."""
    prompt_id, _, digits = group_id.rpartition(".")
    if digits.isascii() and digits.isdecimal() and len(digits) < 19 and id_of(prompt_id, int(digits)) == group_id:
        return prompt_id, int(digits)
    return group_id, -1
