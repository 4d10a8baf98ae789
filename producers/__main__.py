"""Starts a producer: `python -m producers CONFIG`. Imports vLLM only after the configuration is read."""

import os
import sys
import threading
from collections.abc import Sequence

from producers.process import begin_import, is_importing
from stream.config import Config
from stream.launch import run_role
from stream.run_topics import RunTopics


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the producer to its end."""
    from producers.role import run as run_role_itself

    run_role_itself(config, topics, stop)


def prepare() -> None:
    """Begin with what takes longest."""
    import producers.role  # noqa: F401  # first, so that two threads hardly import the same

    begin_import()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the process; returns its exit code."""
    code = run_role("producer", run, argv, prepare)
    if is_importing():
        os._exit(code)  # else Python would wait for the import
    return code


if __name__ == "__main__":
    sys.exit(main())
