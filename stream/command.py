"""Runs a command to its exit code: the one place where errors become a line on standard error."""

import os
import sys
from collections.abc import Callable

from stream.errors import RucksackError

INTERRUPTED = 130
PIPE_CLOSED = 141


def exit_code_of(name: str, command: Callable[[], int]) -> int:
    """Run `command`; print what went wrong as `rucksack NAME: ...`.

    Returns:
        What the command returns; the error's own code for a RucksackError (2 a user's mistake, 3 no broker, 4 fenced),
        1 for what the system refuses, 130 after Ctrl-C, 141 once standard output is closed.

    """
    try:
        return command()
    except RucksackError as error:
        print(f"rucksack {name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # What Python would flush at exit has nowhere to go either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:  # a folder that may not be written, a full disk: the system's own words name it
        print(f"rucksack {name}: {error}", file=sys.stderr)
        return 1
