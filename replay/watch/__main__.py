"""Starts the page by `python -m replay.watch`, as `rucksack up --web` does."""

import sys

from replay.watch.cli import main
from stream.command import exit_code_of

if __name__ == "__main__":
    sys.exit(exit_code_of("watch", main))
