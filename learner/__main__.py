"""Starts the learner: `python -m learner CONFIG`. Imports torch only after the configuration is read.

With learner.ranks > 1 the process becomes torchrun, which starts that many processes: rank 0 is the learner, the others
follow it.
"""

import os
import sys
import threading
from collections.abc import Sequence

from stream.config import Config, load
from stream.launch import run_role, set_up_logging, stop_on_signals
from stream.run_topics import RunTopics


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the learner to its end."""
    from learner.role import run as run_role_itself

    run_role_itself(config, topics, stop)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the process; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if os.environ.get("RANK", "0") != "0":
        return _follow(arguments)

    def start(config: Config, topics: RunTopics, stop: threading.Event) -> None:
        if config.learner.ranks > 1 and "RANK" not in os.environ:
            from learner.ranks import become_torchrun

            become_torchrun(config.learner.ranks, arguments)
        run(config, topics, stop)

    return run_role("learner", start, arguments)


def _follow(arguments: list[str]) -> int:
    """Run another rank until rank 0 ends it; of a signal that all ranks get, rank 0 alone decides what it means."""
    from learner.role import follow

    set_up_logging()
    stop_on_signals()
    follow(load(arguments[0], arguments[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
