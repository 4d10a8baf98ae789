"""Tells how far a role has come when it finishes messages out of order: the offset below which all are finished.

An offset is passed once all messages of its record are finished.
"""

from collections import defaultdict

from stream.broker import Offsets, TopicPartition


class Watermark:
    """Tracks the messages under way: each is started when polled, and finished once its result is durable.

    A message that is delivered again (a rebalance gave its partition away and back) counts as under way again.
    """

    def __init__(self) -> None:
        self._pending: dict[TopicPartition, set[tuple[int, int]]] = defaultdict(set)
        self._next: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}

    def start(self, partition: TopicPartition, offset: int, index: int = 0) -> None:
        """A message was polled; `index` is its number in the record."""
        self._pending[partition].add((offset, index))
        self._next[partition] = max(self._next.get(partition, 0), offset + 1)
        if offset < self._committed.get(partition, 0):
            del self._committed[partition]

    def finish(self, partition: TopicPartition, offset: int, index: int = 0) -> None:
        """Its result is durable, or it needs none."""
        self._pending[partition].discard((offset, index))

    @property
    def num_pending(self) -> int:
        """Messages under way."""
        return sum(map(len, self._pending.values()))

    def offsets(self) -> Offsets:
        """For every partition the offset to start from after a crash: the lowest unfinished, or behind the last."""
        return {
            partition: min(self._pending[partition], default=(following, 0))[0]
            for partition, following in self._next.items()
        }

    def moved(self) -> Offsets:
        """Those of `offsets` that are not committed yet."""
        return {
            partition: offset
            for partition, offset in self.offsets().items()
            if offset != self._committed.get(partition)
        }

    def note_committed(self, offsets: Offsets) -> None:
        """These are committed, or now belong to another member."""
        self._committed.update(offsets)
