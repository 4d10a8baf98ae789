"""Puts states of the weights together from the records of the topic `weights`, and says which records may go.

The topic is a chain of states, each named by its digest: a patch leads from one to the next, a whole state needs nothing
before it. `policies` says which state is the newest. So what a killed or replaced learner has left leads nowhere, and
parts that come twice or in another order change nothing. Pure: records in, routes out; no broker, no clock.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stream.messages import WeightsPart
from stream.patches import TensorPatch, check, patches_of

MAX_WHOLE_STATES = 2
"""Whole states that are kept while none of them is used: the memory of a reader that finds no route is bounded."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A patch or a whole state, all of whose parts are there."""

    parts: tuple[WeightsPart, ...]

    @property
    def head(self) -> WeightsPart:
        """The first part: what all parts say alike."""
        return self.parts[0]

    @property
    def is_whole(self) -> bool:
        """Whether it needs no parent."""
        return not self.head.parent_digest

    def patches(self) -> list[TensorPatch]:
        """Its patches, one for each tensor.

        Raises:
            ValueError: its parts contradict one another.

        """
        return patches_of(elements for part in self.parts for elements in part.elements)


class Assembler:
    """Collects parts, and finds the way from one state to another."""

    def __init__(self, max_whole_states: int | None = MAX_WHOLE_STATES) -> None:
        self._max_whole_states = max_whole_states
        self._open: dict[str, dict[int, WeightsPart]] = {}
        self._complete: dict[str, Publication] = {}
        self._refused: set[str] = set()

    def add(self, part: WeightsPart, have: str | None = None) -> None:
        """Take a part; one that is known, or is of the whole state that the reader has, is passed over.

        Args:
            part: in any order, also twice.
            have: digest of the state that the reader has.

        Raises:
            ValueError: the part contradicts itself, or the others of its publication.

        """
        name = part.publication
        if name in self._complete or name in self._refused or (part.digest == have and not part.parent_digest):
            return
        for elements in part.elements:
            check(elements)
        parts = self._open.setdefault(name, {})
        if any(_facts(other) != _facts(part) for other in list(parts.values())[:1]):
            raise ValueError(f"part {part.part} of publication {name} says otherwise than the part before it")
        parts.setdefault(part.part, part)
        if len(parts) == part.num_parts:
            self._complete[name] = Publication(tuple(parts[number] for number in range(part.num_parts)))
            del self._open[name]
            self._bound()

    def route(self, have: str | None, want: str) -> list[Publication] | None:
        """What leads to the state `want`, in order: patches from the state `have`, or a whole state and patches.

        [] if it is there already; None if too little has come.
        """
        if have == want:
            return []
        return self._search(want, lambda publication: publication.head.parent_digest == have) or self._search(
            want, lambda publication: publication.is_whole
        )

    def forget(self, version: int) -> None:
        """Drop what makes this version or an older one: the reader has come so far."""
        self._complete = {name: p for name, p in self._complete.items() if p.head.version > version}
        self._open = {name: parts for name, parts in self._open.items() if next(iter(parts.values())).version > version}

    def refuse(self, publication: Publication) -> None:
        """Never use it again, and forget all others: the reader begins again at a whole state."""
        self._refused.add(publication.head.publication)
        self._complete.clear()
        self._open.clear()

    def _search(self, want: str, is_first: Callable[[Publication], bool]) -> list[Publication] | None:
        """The shortest chain of publications that ends at `want` and begins with one that is_first."""
        by_digest: dict[str, list[Publication]] = {}
        for publication in self._complete.values():
            by_digest.setdefault(publication.head.digest, []).append(publication)
        chains: list[list[Publication]] = [[publication] for publication in by_digest.get(want, [])]
        seen = {want}
        for chain in chains:  # grows meanwhile: the nearest are looked at first
            if is_first(chain[0]):
                return chain
            parent = chain[0].head.parent_digest
            if parent not in seen:
                seen.add(parent)
                chains += [[publication, *chain] for publication in by_digest.get(parent, [])]
        return None

    def _bound(self) -> None:
        versions = sorted(p.head.version for p in self._complete.values() if p.is_whole)
        if self._max_whole_states is not None and len(versions) > self._max_whole_states:
            self.forget(versions[-self._max_whole_states] - 1)


def _facts(part: WeightsPart) -> tuple[object, ...]:
    """What all parts of a publication say alike."""
    return part.version, part.digest, part.parent_digest, part.num_parts, part.uri


@dataclass(frozen=True, slots=True)
class Anchor:
    """A whole state on the topic."""

    version: int
    offset: int
    """At or before its first part."""


def oldest_needed(anchors: Iterable[Anchor], newest: int, keep: int) -> Anchor | None:
    """The anchor before whose offset records may be deleted, so that each of the `keep` newest versions can be built.

    It is the newest one that is no newer than the oldest of these versions. None: nothing may be deleted.
    """
    fitting = [anchor for anchor in anchors if anchor.version <= newest - keep + 1]
    return max(fitting, key=lambda anchor: (anchor.version, anchor.offset), default=None)
