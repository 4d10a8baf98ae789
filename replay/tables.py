"""Counts what a log holds, as pure functions: first records, the surviving lineage, how groups ended.

The log is written at least once, so it may hold a rollout twice, and it keeps what a crash made void. These rules say
what counts, the same way in every role and here (docs/design.md, laws 1 and 2).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from stream.messages import GroupEnd, Update

BASE_VERSION = 0
"""The weights that a run starts from."""


class FirstRecords:
    """Which record of a rollout counts: the first in its partition."""

    def __init__(self) -> None:
        self._seen: dict[str, set[int]] = {}
        self.num_duplicates = 0

    def is_first(self, group_id: str, rollout: int) -> bool:
        """Whether this rollout was not seen before; call it once per record, in the order of the partition."""
        seen = self._seen.setdefault(group_id, set())
        if rollout in seen:
            self.num_duplicates += 1
            return False
        seen.add(rollout)
        return True


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which updates made the weights that are there at the end."""

    surviving: tuple[Update, ...]
    """Oldest first; each one's parent_version is the version before."""
    rolled_back: tuple[Update, ...]
    """Made by a learner that died and was resumed from older weights: void, as in the order of the log."""
    num_duplicates: int
    """Records of a version that was there already."""
    complete: bool
    """Whether the lineage goes back to the base policy; False if the log lost its beginning."""

    @property
    def finished(self) -> bool:
        """Whether the run has made its last update."""
        return bool(self.surviving) and self.surviving[-1].final

    @property
    def steps(self) -> tuple[Update, ...]:
        """The surviving updates that made a step: a resumed learner publishes its weights anew without one."""
        before = (0, *(update.step for update in self.surviving))
        return tuple(u for u, step in zip(self.surviving, before, strict=False) if u.step > step or u.groups)

    @property
    def num_resumes(self) -> int:
        """How often a learner was started again and its work survives."""
        return len(self.surviving) - len(self.steps)

    @property
    def versions(self) -> frozenset[int]:
        """Policy versions that survive, the base included."""
        return frozenset({BASE_VERSION, *(update.version for update in self.surviving)})

    @property
    def base_versions(self) -> frozenset[int]:
        """Versions of the weights that the run starts from: a learner that is resumed before its first update has another."""
        return frozenset({BASE_VERSION, *(update.version for update in self.surviving if update.step == 0)})


def lineage_of(updates: Sequence[Update]) -> Lineage:
    """Follow parent_version from the last update back to the base policy.

    Args:
        updates: all records of the topic, in its order.

    """
    by_version: dict[int, Update] = {}
    for update in updates:
        by_version.setdefault(update.version, update)
    newest = next(reversed(by_version.values()), None)
    chain: list[Update] = []
    while newest is not None:
        chain.append(newest)
        parent = by_version.get(newest.parent_version)
        # Versions only grow: a parent that is not older is a broken record, and following it would never end.
        newest = parent if parent is not None and parent.version < newest.version else None
    kept = {update.version for update in chain}
    return Lineage(
        surviving=tuple(reversed(chain)),
        rolled_back=tuple(update for update in by_version.values() if update.version not in kept),
        num_duplicates=len(updates) - len(by_version),
        complete=not chain or chain[-1].parent_version == BASE_VERSION,
    )


@dataclass(frozen=True, slots=True)
class LawCheck:
    """Law 1, checked: every admitted group ends exactly once in the lineage that survives."""

    num_admitted: int
    num_ended: int
    """Different groups that ended."""
    endings: dict[str, int]
    """How many ended in which way."""
    open: tuple[str, ...]
    """Admitted and not ended."""
    repeated: tuple[str, ...]
    """Ended more than once."""
    unknown: tuple[str, ...]
    """Ended without having been admitted."""
    finished: bool
    """Whether the run is over, so that an open group is a lost one."""

    @property
    def num_lost(self) -> int:
        """Groups that the run has lost; 0 while it goes on, as open groups may still end."""
        return len(self.open) if self.finished else 0

    @property
    def holds(self) -> bool:
        """Whether the law holds as far as the log goes."""
        return not (self.num_lost or self.repeated or self.unknown)


def check_law(admitted: AbstractSet[str], ends: Iterable[GroupEnd], *, finished: bool) -> LawCheck:
    """Compare the groups that were admitted with how groups ended (one entry per end in the surviving lineage)."""
    endings: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for end in ends:
        endings[end.ending] += 1
        times[end.group_id] += 1
    return LawCheck(
        num_admitted=len(admitted),
        num_ended=len(times),
        endings=dict(endings),
        open=tuple(sorted(admitted - times.keys())),
        repeated=tuple(sorted(group for group, count in times.items() if count > 1)),
        unknown=tuple(sorted(times.keys() - admitted)),
        finished=finished,
    )


def rollouts_by_version(surviving: Sequence[Update]) -> dict[int, int]:
    """Rollouts that were spent to make each version of the lineage, all updates before it included; the base is 0."""
    spent, result = 0, {BASE_VERSION: 0}
    for update in surviving:
        spent += sum(end.num_rollouts for end in update.groups)
        result[update.version] = spent
    return result


def interpolate(points: Sequence[tuple[float, float]], at: float) -> float | None:
    """Value at `at` on the line through points with rising x; None outside of them."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= at <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (at - x0) / (x1 - x0)
    return points[0][1] if points and points[0][0] == at else None
