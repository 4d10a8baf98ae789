"""Starts the allocator as a process, `python -m allocator CONFIG`; what is heavy is imported after the configuration is read."""

import sys
import threading
from collections.abc import Sequence

from stream.config import Config
from stream.launch import run_role
from stream.run_topics import RunTopics


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the allocator to its end."""
    # Tokenizing needs no torch: transformers without it takes 77 MB instead of 810, and 2 s less.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    from allocator.role import run as run_role_itself

    run_role_itself(config, topics, stop)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the process; returns its exit code."""
    return run_role("allocator", run, argv)


if __name__ == "__main__":
    sys.exit(main())
