"""Graders by name: pure functions from a gold answer and a model's message to a grade.

Nothing here evaluates text as code; what reaches sympy has passed the caps of `verifier.maths`.
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from stream.messages import Outcome


class Grade(NamedTuple):
    """What a grader says of one answer."""

    outcome: Outcome
    reward: float
    """In [0, 1]."""
    reason: str


class BadGold(ValueError):
    """The reference answer cannot be used: a mistake in the data, not the model's."""


Grader = Callable[[str, str], Grade]
"""(gold, answer) -> Grade. Raises BadGold before it looks at the answer."""


def correct(reason: str) -> Grade:
    """Full reward."""
    return Grade("correct", 1.0, reason)


def wrong(reason: str) -> Grade:
    """An answer was found, and it is not the gold one."""
    return Grade("wrong", 0.0, reason)


def unparsable(reason: str) -> Grade:
    """There is no answer that could be compared."""
    return Grade("unparsable", 0.0, reason)


def string(gold: str, answer: str) -> Grade:
    """The whole message is the gold string, white space around it aside."""
    if not gold.strip():
        raise BadGold("the gold answer is empty")
    if not answer.strip():
        return unparsable("the answer is empty")
    return correct("same string") if answer.strip() == gold.strip() else wrong("another string")


def integer(gold: str, answer: str) -> Grade:
    """The answer is an integer literal of the gold's value."""
    from verifier.maths import grade_integer

    return grade_integer(gold, answer)


def math(gold: str, answer: str) -> Grade:
    """The answer is mathematically the gold one."""
    from verifier.maths import grade_math

    return grade_math(gold, answer)


GRADERS: dict[str, Grader] = {"integer": integer, "math": math, "string": string}


def grade(name: str, gold: str, answer: str) -> Grade:
    """Grade one answer in this process: without a limit of time or memory, so only for trusted answers.

    A name that is not known and a gold that cannot be used are outcome `error`.
    """
    grader = GRADERS.get(name)
    if grader is None:
        return Grade("error", 0.0, f"there is no grader {name!r}; known: {', '.join(sorted(GRADERS))}")
    try:
        return grader(gold, answer)
    except BadGold as error:
        return Grade("error", 0.0, f"gold: {error}")


def preload() -> None:
    """Import what grading needs, before workers are forked."""
    importlib.import_module("verifier.maths").warm_up()
