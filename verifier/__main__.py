"""Runs the verifier as a process: `python -m verifier CONFIG`. Heavy imports follow the reading of the configuration."""

import sys
import threading
from collections.abc import Sequence

from stream.config import Config
from stream.launch import run_role
from stream.run_topics import RunTopics


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the verifier to its end."""
    from verifier.role import run as run_role_itself

    run_role_itself(config, topics, stop)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the process; returns its exit code."""
    return run_role("verifier", run, argv)


if __name__ == "__main__":
    sys.exit(main())
