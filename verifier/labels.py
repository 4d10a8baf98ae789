"""Compares the names on the left side of answers: x, x_1, f(x), a_n, P(X = 3)."""

import re

_FUNCTION_OF_X = re.compile(r"[fgh]\([a-xz]\)")
_LETTER = re.compile(r"\\?[a-z]+")
"""What a function or a sequence is of, and may be named otherwise. Events, P(A), are what they are."""


def renaming(gold: str, answer: str) -> dict[str, str] | None:
    """Letters of the answer that the gold calls otherwise, f(t) for f(x); None if the two name different things."""
    if gold == answer or base_of(gold) == base_of(answer):
        return {}
    for name, function in ((gold, answer), (answer, gold)):
        if name == "y" and _FUNCTION_OF_X.fullmatch(function):
            return {}  # y = 3x - 2 is f(x) = 3x - 2
    (head, mine), (other_head, theirs) = _parts(gold), _parts(answer)
    if not head or head != other_head:
        return None
    if not mine or not theirs:
        return {} if all(re.fullmatch(r"[A-Za-z](?:_\w)?", argument) for argument in mine or theirs) else None
    if len(mine) != len(theirs) or len(set(theirs)) != len(theirs) or not re.fullmatch(r"\\?[A-Za-z]'*", head):
        return None
    pairs = [pair for pair in zip(theirs, mine, strict=True) if pair[0] != pair[1]]
    return dict(pairs) if all(_LETTER.fullmatch(letter) for pair in pairs for letter in pair) else None


def _parts(label: str) -> tuple[str, list[str]]:
    """The name of a function or a sequence, and what it is of: f(x), a_n."""
    function = re.fullmatch(r"([^(\[]+)[(\[](.*)[)\]]", label)
    if function:
        return function[1], function[2].split(",")
    sequence = re.fullmatch(r"([A-Za-z])_([a-z])", label)
    return (sequence[1], [sequence[2]]) if sequence else (label, [])


def base_of(label: str) -> str:
    """A name of an unknown without the number of the solution. The terms of a sequence, a_1, are named by theirs."""
    return re.sub(r"^((?:[k-tw-z]|\\?(?:lambda|theta))'*)_\{?\d+\}?$", r"\1", label)


def is_name(text: str) -> bool:
    """Whether a formula is one letter, parentheses aside."""
    return re.fullmatch(r"\(?\s*[A-Za-z]\s*\)?\.?", text) is not None
