"""Gives commands the console that they print tables to."""

import sys

from rich.console import Console

PIPE_WIDTH = 1000
"""Columns where output is no terminal: nothing is cut or folded, and tables are as wide as what they hold."""


def make_console() -> Console:
    """Standard output: as wide as the terminal, or, in a pipe or a file, as what is printed."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)
