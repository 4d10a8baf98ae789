"""Names the graders: pure functions from a gold answer and a model's message to a grade.

Graders that need sympy or another package import it when they are first called, so that the others are ready at once.
Nothing here evaluates text as code; what reaches sympy has passed the caps of `verifier.maths`. A grader of your own is
a function of (gold, answer) that an installed package names in the entry-point group `rucksack.graders`.
"""

import importlib.metadata
import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import get_args

from stream.errors import UserError
from stream.messages import FoundBy, Outcome, Rule
from verifier.choices import choice
from verifier.grade import BadGold, Grade, correct, unparsable, wrong
from verifier.integers import integer

ENTRY_POINTS = "rucksack.graders"


Grader = Callable[[str, str], "Grade | float"]
"""(gold, answer) -> a Grade, or a number in [0, 1] (1 is `correct`, less is `wrong`). Raises BadGold, also for an empty
answer: that is how golds are checked before anything is spent on them."""


# -- the graders ------------------------------------------------------------------------------------------------------


def string(gold: str, answer: str) -> Grade:
    """The whole message is the gold string, white space around it aside."""
    if not gold.strip():
        raise BadGold("the gold answer is empty")
    if not answer.strip():
        return unparsable("the answer is empty")
    grade = correct("same string") if answer.strip() == gold.strip() else wrong("another string")
    return grade.at("whole", answer.strip())


def math(gold: str, answer: str) -> Grade:
    """The answer, wherever the message states it, is mathematically the gold one."""
    from verifier.maths import grade_math

    return grade_math(gold, answer)


def math_strict(gold: str, answer: str) -> Grade:
    """As math, but only what is in the last box, an `<answer>` tag, a line `####` or a line `Answer:` counts."""
    from verifier.maths import grade_math

    return grade_math(gold, answer, strict=True)


def regex(gold: str, answer: str) -> Grade:
    """The whole message, white space around it aside, matches the gold, a Python regular expression."""
    if not gold:
        raise BadGold("the gold answer is empty")
    pattern = _pattern(gold)
    if not answer.strip():
        return unparsable("the answer is empty")
    grade = correct("matches") if pattern.fullmatch(answer.strip()) else wrong("does not match")
    return grade.at("whole", answer.strip())


@lru_cache(maxsize=1000)
def _pattern(gold: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of syntax that may change meaning in a later Python
            return re.compile(gold, re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadGold(f"{gold[:100]!r} is not a regular expression: {error}") from None


def reasoning_gym(gold: str, answer: str) -> Grade:
    """reasoning-gym's own scorer says 1.0. The gold is an entry of its data set as JSON."""
    from verifier.gym import grade_gym

    return grade_gym(gold, answer)


BUILT_IN: dict[str, Grader] = {
    grader.__name__: grader for grader in (choice, integer, math, math_strict, reasoning_gym, regex, string)
}


LIGHT = frozenset({"choice", "integer", "regex", "string"})
"""Graders that need neither sympy nor another package: they are ready at once."""
_FIELDS = {"outcome": get_args(Outcome), "found_by": get_args(FoundBy), "rule": get_args(Rule)}
"""What a Grade may hold in them."""


# -- by name ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return {point.name: point for point in found if point.name not in BUILT_IN}


def known_graders() -> list[str]:
    """Names that can be asked for: the built-in ones and those of installed packages (no built-in one is replaced)."""
    return sorted({*BUILT_IN, *_entry_points()})


def check_name(name: str) -> None:
    """Raise UserError if there is no grader of this name."""
    if name not in BUILT_IN and name not in _entry_points():
        raise UserError(f"{_unknown(name)} (a package adds one by the entry-point group {ENTRY_POINTS})")


def _unknown(name: str) -> str:
    return f"there is no grader {name!r}; known: {', '.join(known_graders())}"


@lru_cache(maxsize=256)
def _grader(name: str) -> "Grader | str":
    """The grader, or why there is none."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    point = _entry_points().get(name)
    if point is None:
        return _unknown(name)
    try:
        loaded = point.load()
    except Exception as error:  # code of another package
        return f"grader {name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
    return loaded if callable(loaded) else f"grader {name!r} ({point.value}) is no function"


def grade(name: str, gold: str, answer: str) -> Grade:
    """Grade one answer in this process: without a limit of time or memory, so only for trusted answers.

    A name that is not known and a gold that cannot be used are outcome `error`.
    """
    grader = _grader(name)
    if isinstance(grader, str):
        return Grade("error", 0.0, grader)
    try:
        found = grader(gold, answer)
    except BadGold as error:
        return Grade("error", 0.0, f"gold: {error}")
    if isinstance(found, Grade):
        return found if name in BUILT_IN else _checked(name, found)
    if (reward := _reward(found)) is None:
        return _refused(name, repr(found), "a Grade or a number in [0, 1]")
    return Grade("correct" if reward == 1.0 else "wrong", reward, f"{name}: {reward:g}")


def _checked(name: str, found: Grade) -> Grade:
    """The Grade of another package's grader, or what is wrong with it."""
    if (reward := _reward(found.reward)) is None:
        return _refused(name, f"a Grade with reward {found.reward!r}", "a number in [0, 1]")
    for field, allowed in _FIELDS.items():
        if (value := getattr(found, field)) not in allowed:
            return _refused(name, f"a Grade with {field} {value!r}", ", ".join(map(repr, allowed)))
    return found._replace(reward=reward, reason=str(found.reason), answer=str(found.answer))


def _reward(value: object) -> float | None:
    """The number in [0, 1], or None if it is none."""
    try:
        reward = float(value)  # type: ignore[arg-type]  # whatever a package returns
    except (TypeError, ValueError):
        return None
    return reward if 0.0 <= reward <= 1.0 else None


def _refused(name: str, found: str, wanted: str) -> Grade:
    return Grade("error", 0.0, f"grader {name!r} returned {found[:100]}; want {wanted}")


def grading_version() -> str:
    """Versions of what grades, as verdicts carry it."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("rucksack-rl", "sympy"))


def preload() -> None:
    """Import what all graders need, before workers are forked."""
    from verifier.maths import warm_up

    warm_up()
    for name in _entry_points():
        _grader(name)
