"""An allocator in a process of its own that kills itself, as by SIGKILL, at a chosen operation of its writers."""

import os
import signal
import threading

from allocator_mortal import MortalWriter
from allocator_world import PROMPTS, TOKENS

from stream.config import Config
from stream.run_topics import RunTopics


class Fuse:
    """Kills the process before its n-th operation: see `MortalWriter`."""

    def __init__(self, operations: int) -> None:
        self._left = operations

    def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def live(servers: str, config: Config, operations: int) -> None:
    """Run the allocator, to its end or to its death; what a child process calls."""
    from allocator.admission import admission_of
    from allocator.role import Allocator
    from stream.kafka import KafkaBroker
    from stream.worker import run_loop

    broker = KafkaBroker(servers)
    topics = RunTopics(broker, config.run.name, "allocator-0")
    role = Allocator(config, topics, PROMPTS, TOKENS, admission_of(config))
    role.transactions.writer = MortalWriter(role.transactions.writer, Fuse(operations).burn)
    run_loop(role, topics, role.reader, threading.Event(), watermark=role.watermark)
    topics.writer.close()
    broker.close()
