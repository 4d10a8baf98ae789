"""Finds containers that grow with the number of records: what the tests of every role's memory share."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from stream.broker import Reader
from stream.run_topics import RunTopics
from stream.worker import run_loop

CONTAINERS = (dict, list, set, deque)
SHARED = (RunTopics,)
"""What a role holds and another owns: the memory broker keeps every record, as a real one does on its disk."""


def container_sizes(role: object) -> dict[str, int]:
    """Items of every container that a role holds itself, or in its parts, by attribute."""
    sizes: dict[str, int] = {}

    def visit(part: object, path: str) -> None:
        names = {name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())}
        for name in sorted(names | set(getattr(part, "__dict__", {}))):
            value, where = getattr(part, name, None), f"{path}.{name}" if path else name
            if isinstance(value, CONTAINERS):
                nested = list(value.values() if isinstance(value, dict) else value)  # which other threads may change
                sizes[where] = len(value) + sum(len(item) for item in nested if isinstance(item, CONTAINERS))
            elif type(value).__module__.split(".")[0] == type(role).__module__.split(".")[0]:
                visit(value, where)

    visit(role, "")
    return sizes


class SizesUntil(threading.Event):
    """Set once `at_end()`; notes the largest size of every container in the first half of the records, and in all."""

    def __init__(self, role: Any, num_records: int, at_end: Callable[[], bool]) -> None:
        super().__init__()
        self._role, self._num_records, self._at_end = role, num_records, at_end
        self.in_half: dict[str, int] = {}
        self.in_all: dict[str, int] = {}

    def note(self, num_read: int) -> None:
        for name, size in container_sizes(self._role).items():
            self.in_all[name] = max(size, self.in_all.get(name, 0))
        if num_read <= self._num_records // 2:
            self.in_half = dict(self.in_all)

    def is_set(self) -> bool:
        return self._at_end()


def growing(
    role: Any, topics: RunTopics, reader: Reader, num_records: int, at_end: Callable[[], bool], **loop: Any
) -> dict[str, tuple[int, int]]:
    """Run the worker's loop until `at_end()`; returns the containers that grew on, with both sizes."""
    until = SizesUntil(role, num_records, at_end)
    start = sum(reader.positions().values())
    work = role.work

    def work_and_note() -> bool:
        busy: bool = work()
        until.note(sum(reader.positions().values()) - start)
        return busy

    role.work = work_and_note
    run_loop(role, topics, reader, until, poll_s=0.0005, **loop)
    assert until.in_half, "the role read all its records at once"
    return compared(until.in_half, until.in_all)


def compared(in_half: Mapping[str, int], in_all: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """What is more than half as large again: with the number of records it would have doubled."""
    return {
        name: (in_half.get(name, 0), size) for name, size in in_all.items() if size > 1.5 * in_half.get(name, 0) + 5
    }
