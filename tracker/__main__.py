"""Starts the tracker: `python -m tracker CONFIG`."""

import sys
from collections.abc import Sequence

from stream.launch import run_role
from tracker.role import run


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the process; returns its exit code."""
    return run_role("tracker", run, argv)


if __name__ == "__main__":
    sys.exit(main())
