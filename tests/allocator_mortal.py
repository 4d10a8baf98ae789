"""A memory broker that kills its allocators, as by SIGKILL, at a chosen operation of their writers."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stream.broker import Offsets
from stream.memory import MemoryBroker, MemoryWriter


class KilledError(BaseException):
    """As by SIGKILL: nothing may catch it."""


class MortalBroker(MemoryBroker):
    """Kills the allocator that uses its writers after a number of operations, and may tear the transaction then."""

    def __init__(self, torn: random.Random | None = None) -> None:
        super().__init__()
        self.left = 0
        self.torn = torn
        self.num_torn = 0

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError

    def writer(self, *, name: str, transactional: bool = False) -> MemoryWriter:
        made = super().writer(name=name, transactional=transactional)
        epoch = self.epochs[name] if transactional else None
        return MortalWriter(self, name, epoch) if ".allocator" in name else made


class MortalWriter(MemoryWriter):
    _broker: MortalBroker

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        *,
        partition: int | None = None,
        on_ack: Callable[[], None] | None = None,
    ) -> None:
        self._broker.count()
        super().send(topic, key, value, partition=partition, on_ack=on_ack)

    def send_offsets(self, offsets: Offsets, consumer_group: str) -> None:
        self._broker.count()
        super().send_offsets(offsets, consumer_group)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._broker.count()
        records: list[tuple[str, bytes, bytes, int | None]] = []
        try:
            with super().transaction():
                yield
                records = self._pending or []
                self._broker.count()
        except KilledError:
            chance = self._broker.torn
            if chance is None or not records:
                raise
            self._tear(records, chance)
            if chance.random() < 0.5:
                raise
            self._broker.left = chance.randint(5, 60)  # it lives on, and does not know
        self._broker.count()

    def _tear(self, records: list[tuple[str, bytes, bytes, int | None]], chance: random.Random) -> None:
        """Each partition's part of the transaction, and the offsets, become visible or not, by chance."""
        self._broker.num_torn += 1
        visible: dict[tuple[str, int | None], bool] = {}
        for topic, key, value, partition in records:
            if visible.setdefault((topic, partition), chance.random() < 0.5):
                self._broker.append(topic, key, value, partition)
        if chance.random() < 0.5:
            for group, offsets in self._pending_offsets:
                self._broker.group_progress[group].update(offsets)
