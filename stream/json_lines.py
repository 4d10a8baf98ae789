"""Reads JSON lines: one object per line, in UTF-8. Blank lines are skipped.

A file enters, (line number, object) pairs leave. An error names the file and line, what was found and what is wanted.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from stream.errors import UserError

STANDARD_INPUT = Path("-")
_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def read_objects(file: Path, keys: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a file, or of standard input for `-`.

    Args:
        keys: what an object holds, for the error messages, e.g. `text and answer`.

    Raises:
        UserError: the file cannot be read, or a line is not a JSON object.

    """
    wanted = f"one JSON object per line, in UTF-8, with {keys}"
    with open_lines(file, wanted) as lines:
        for number, line in numbered_lines(lines):
            try:
                row = parse_object(line)
            except ValueError as error:
                raise UserError(f"{source_name(file)}:{number} is {error}; want {wanted}") from None
            yield number, row


@contextmanager
def open_lines(file: Path, wanted: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input for `-`.

    Raises:
        UserError: the file cannot be read.

    """
    if file == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        lines = file.open("rb")
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); want a file with {wanted}") from None
    with lines:
        yield lines


def numbered_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number the lines from 1 and skip the blank ones."""
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def parse_object(line: bytes) -> dict[str, Any]:
    """The object on one line.

    Raises:
        ValueError: what the line is instead, e.g. `a JSON array, not an object`.

    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # among them bytes that are not UTF-8
        raise ValueError(f"not JSON ({str(error)[:100]})") from None
    if not isinstance(row, dict):
        raise ValueError(f"a JSON {_KINDS[type(row)]}, not an object")
    return row


def has_lone_surrogate(text: str) -> bool:
    """Whether the text holds half a character, as a JSON string may: no file in UTF-8 can hold it."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def source_name(file: Path) -> str:
    """How messages call the file."""
    return "standard input" if file == STANDARD_INPUT else str(file)
