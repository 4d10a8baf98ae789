"""How far a role has come, when it finishes records out of order: the offset below which everything is finished."""

from collections import defaultdict

from stream.broker import Offsets

Place = tuple[str, int]


class Watermark:
    """Tracks the records that are under way. A record is started once when polled, and finished once its result is durable.

    A record that is delivered again (a rebalance gave its partition away and back) counts as under way again.
    """

    def __init__(self) -> None:
        self._pending: dict[Place, set[int]] = defaultdict(set)
        self._next: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}

    def start(self, place: Place, offset: int) -> None:
        """A record was polled."""
        self._pending[place].add(offset)
        self._next[place] = max(self._next.get(place, 0), offset + 1)
        if offset < self._committed.get(place, 0):
            del self._committed[place]

    def finish(self, place: Place, offset: int) -> None:
        """Its result is durable, or it needs none."""
        self._pending[place].discard(offset)

    @property
    def num_pending(self) -> int:
        """Records under way."""
        return sum(map(len, self._pending.values()))

    def offsets(self) -> Offsets:
        """For every partition the offset to start from after a crash: the lowest unfinished, or behind the last."""
        return {place: min(self._pending[place], default=following) for place, following in self._next.items()}

    def moved(self) -> Offsets:
        """Those of `offsets` that are not committed: what is worth committing."""
        return {place: offset for place, offset in self.offsets().items() if offset != self._committed.get(place)}

    def note_committed(self, offsets: Offsets) -> None:
        """These are committed, or no longer this member's to commit."""
        self._committed.update(offsets)
