"""A writer that dies at a chosen operation, and a memory broker whose allocators write with it."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stream.broker import Writer
from stream.memory import MemoryBroker

Sent = list[tuple[str, bytes, bytes, int | None]]
"""(topic, key, value, partition) of records."""


class KilledError(BaseException):
    """As by SIGKILL: nothing may catch it."""


class MortalWriter:
    """Tells of each operation before it is done: a transaction's begin, a send, its commit, and what follows it."""

    def __init__(
        self, writer: Writer, operation: Callable[[], None], tear: Callable[[Sent], bool] | None = None
    ) -> None:
        """Wrap a writer.

        Args:
            operation: may kill, by KilledError or for good.
            tear: takes the records of a transaction that KilledError has ended before its commit; whether the writer
                lives on, and does not know.

        """
        self._writer = writer
        self._operation = operation
        self._tear = tear
        self._sent: Sent = []

    def send(self, topic: str, key: bytes, value: bytes, *, partition: int | None = None, **how: Any) -> None:
        self._operation()
        self._sent.append((topic, key, value, partition))
        self._writer.send(topic, key, value, partition=partition, **how)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._operation()
        self._sent = []
        whole = False
        try:
            with self._writer.transaction():
                yield
                whole = True
                self._operation()
        except KilledError:
            if self._tear is None or not whole or not self._sent or not self._tear(self._sent):
                raise
        self._operation()

    def push(self) -> None:
        self._writer.push()

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MortalBroker(MemoryBroker):
    """Kills the allocator that uses its writers after a number of operations, and may tear the transaction then."""

    def __init__(self, torn: random.Random | None = None) -> None:
        super().__init__()
        self.left = 0
        self.torn = torn

    def writer(self, *, name: str, transactional: bool = False) -> Writer:
        writer = super().writer(name=name, transactional=transactional)
        tear = None if self.torn is None else self._tear
        return MortalWriter(writer, self._count, tear) if ".allocator" in name else writer

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError

    def _tear(self, records: Sent) -> bool:
        """Each partition's part of the transaction becomes visible or not, by chance; whether the allocator lives on."""
        chance = self.torn
        assert chance is not None
        visible: dict[tuple[str, int | None], bool] = {}
        for topic, key, value, partition in records:
            if visible.setdefault((topic, partition), chance.random() < 0.5):
                self.append(topic, key, value, partition)
        if chance.random() < 0.5:
            return False
        self.left = chance.randint(5, 60)
        return True
