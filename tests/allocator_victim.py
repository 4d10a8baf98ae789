"""An allocator in a process of its own that kills itself, as by SIGKILL, at a chosen operation of its writers."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from allocator_world import PROMPTS, TOKENS

from stream.broker import Offsets, Writer
from stream.config import Config
from stream.run_topics import RunTopics


class Fuse:
    """Kills the process before its n-th operation: a transaction's begin, a send, its offsets, its commit, its end."""

    def __init__(self, operations: int) -> None:
        self._left = operations

    def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalWriter:
    """A writer whose operations burn a fuse."""

    def __init__(self, writer: Writer, fuse: Fuse) -> None:
        self._writer = writer
        self._fuse = fuse

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        *,
        partition: int | None = None,
        on_ack: Callable[[], None] | None = None,
    ) -> None:
        self._fuse.burn()
        self._writer.send(topic, key, value, partition=partition, on_ack=on_ack)

    def send_offsets(self, offsets: Offsets, consumer_group: str) -> None:
        self._fuse.burn()
        self._writer.send_offsets(offsets, consumer_group)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._fuse.burn()
        with self._writer.transaction():
            yield
            self._fuse.burn()
        self._fuse.burn()

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def live(servers: str, config: Config, operations: int) -> None:
    """Run the allocator, to its end or to its death; what a child process calls."""
    from allocator.role import Allocator
    from stream.kafka import KafkaBroker
    from stream.worker import run_loop

    broker = KafkaBroker(servers)
    topics = RunTopics(broker, config.run.name, "allocator-0")
    role = Allocator(config, topics, PROMPTS, TOKENS)
    fuse = Fuse(operations)
    role._rounds.writer = MortalWriter(role._rounds.writer, fuse)
    run_loop(role, topics, role.reader, threading.Event())
    topics.writer.close()
    broker.close()
