r"""Finds the reference answer inside of a worked solution: behind GSM8K's `####`, or in the last `\boxed{}`. Pure."""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

Mark = Literal["", "####", "\\boxed{}"]
"""What marks an answer; "" is no mark: the value is the answer."""

NO_ANSWERS = frozenset({"proof", "notfound"})
"""What NuminaMath has in place of an answer."""
_LAST_LINE = re.compile(r"(?:^|\n)[ \t]*####[ \t]*(\S[^\n]*?)\s*\Z")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(\{)|([^\s{}$\\]+))")


class Marked(NamedTuple):
    """An answer that is marked, and by what."""

    answer: str
    mark: Mark


def find_marked(text: str) -> Marked | None:
    """The answer that a text marks: a last line `#### x`, else the last box that is whole; None if there is none."""
    line = _LAST_LINE.search(text)
    if line:
        return Marked(line[1], "####")
    for match in reversed(list(_BOX.finditer(text))):
        content = match[2] if match[2] else _braced(text, match.end())
        if content and content.strip():
            return Marked(content.strip(), "\\boxed{}")
    return None


def _braced(text: str, start: int) -> str | None:
    """What is in the braces of which the first ends before `start`; None if they are never closed."""
    depth, place = 1, start
    while place < len(text):
        if text[place] == "\\":  # an escaped brace is none
            place += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
        place += 1
    return None


def needed_mark(values: Sequence[str], is_worked: bool) -> Mark:
    """The mark that answers of a source must have, by some of its values.

    Args:
        is_worked: the key is one of worked solutions, where one mark is enough; else half of the values must be marked.

    """
    found = [marked.mark for marked in map(find_marked, values) if marked]
    if not found or (not is_worked and 2 * len(found) < len(values)):
        return ""
    return max(sorted(set(found)), key=found.count)


def single(value: Any) -> Any:
    """A list of one answer is that answer, also where it is written as JSON (Skywork-OR1)."""
    if isinstance(value, str) and value.startswith('["') and value.endswith('"]'):
        try:
            parsed = json.loads(value)
        except ValueError:
            return value
        return parsed[0] if len(parsed) == 1 and isinstance(parsed[0], str) else value
    return value[0] if isinstance(value, list) and len(value) == 1 else value
