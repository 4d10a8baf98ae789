"""Runs the roles of benchmarks.scale that are not started as ever: many producers forked from one process, and the learner.

    python -m benchmarks.scale_roles producers COPIES CONFIG [--tokens-per-s R] [--answer-tokens N] [--table.key VALUE ...]
    python -m benchmarks.scale_roles learner CONFIG [--table.key VALUE ...]

Each producer is a process of its own, with its own connections and its place in the consumer group; what they read of
prompts and tokenizer is shared. The learner is the real one in all but its gradient: it reads and decodes verdicts, ends
groups, publishes a state of one number per update and writes checkpoints.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from benchmarks.stand_in import Script, options_of, starter
from producers.role import run as run_producer
from stream.config import Config, load
from stream.launch import WORKER_VARIABLE, run_role
from stream.parent_death import die_with_parent
from stream.run_topics import RunTopics


def producers(copies: int, argv: Sequence[str]) -> int:
    """Fork the producers, and wait for all; SIGTERM goes to each."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # see benchmarks.stand_in
    tokens_per_s, lengths, rest = options_of(argv)
    script = Script.of(load(rest[0], rest[1:]), lengths)
    start = starter(lambda _: script, tokens_per_s)

    def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
        run_producer(config, topics, stop, start)

    parent, children = os.getpid(), list[int]()
    for index in range(copies):
        if not (child := os.fork()):
            die_with_parent(parent)
            os.environ[WORKER_VARIABLE] = f"producer-{index}"
            os._exit(run_role("producer", run, rest))
        children.append(child)

    def stop_all(number: int, _: object) -> None:
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, number)

    signal.signal(signal.SIGTERM, stop_all)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return max(codes, key=abs)


class NoGradient:
    """A trainer that leaves its one weight as it is, but for a step that shows in each publication."""

    def __init__(self) -> None:
        import torch

        from learner.overlong import KEEP

        self.overlong = KEEP
        self.model = SimpleNamespace(config=SimpleNamespace(save_pretrained=lambda folder: None))
        self._weight = torch.zeros(1)

    def update(self, groups: object, version: int, step: int) -> dict[str, float]:
        """One more."""
        self._weight += 1
        return {}

    def each_weight(self) -> Iterator[tuple[str, Any]]:
        """The weight."""
        yield "weight", self._weight

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """For a checkpoint."""
        return {"weight": self._weight}, {}


def learner(argv: Sequence[str]) -> int:
    """Run the learner's role."""

    def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
        import learner.role

        learner.role.make_trainer = lambda _: NoGradient()  # type: ignore[assignment, return-value]
        learner.role.run(config, topics, stop)

    return run_role("learner", run, argv)


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    sys.exit(learner(arguments) if role == "learner" else producers(int(arguments[0]), arguments[1:]))
