"""Grades integers: a literal of the gold's value, wherever the message states it. Needs no sympy."""

import re
from functools import lru_cache

from verifier.extract import Found, find_answer
from verifier.grade import BadGold, Grade, correct, unparsable, wrong
from verifier.latex import clean, unwrap, without_text
from verifier.prose import MAX_CANDIDATE

_INTEGER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,4000})", re.ASCII)
_SHOWN = 120


def integer(gold: str, answer: str) -> Grade:
    """The answer, wherever the message states it, is an integer literal of the gold's value."""
    wanted = _wanted(gold)
    found = find_answer(answer, numeric=True)
    return _grade(wanted, found).at(found.by, found.text)


def _grade(wanted: int, found: Found) -> Grade:
    if found.by == "none":
        return unparsable("no answer found")
    if (number := _integer(found.text)) is None:
        number = _integer(_after_name(without_text(clean(found.text[:MAX_CANDIDATE]))))
    if number is None:
        return no_number(found, found.text)
    return correct("same integer") if wanted == number else wrong(f"{str(number)[:_SHOWN]} is another integer")


@lru_cache(maxsize=4000)
def _wanted(gold: str) -> int:
    if (wanted := _integer(gold)) is None and (wanted := _integer(clean(unwrap(gold)))) is None:
        raise BadGold(f"{gold[:_SHOWN]!r} is not an integer")
    return wanted


def _integer(text: str) -> int | None:
    text = text.strip().rstrip(".").removeprefix("$").strip()
    return int(text.replace(",", "")) if _INTEGER.fullmatch(text) else None


def _after_name(text: str) -> str:
    """`x = 5` as `5`."""
    name, equals, value = text.rpartition("=")
    return value if equals and re.fullmatch(r"\s*\\?[A-Za-z_]\w*\s*", name) else text


def no_number(found: Found, text: str) -> Grade:
    """The grade of an answer that is no number where one is wanted."""
    if found.by in ("whole", "line", "stated", "last") and not re.search(r"\d", text):
        return unparsable(f"no number: {show(text)}")
    return wrong(f"the gold answer is a number, this is none: {show(text)}")


def show(text: str) -> str:
    """An answer in a reason, cut short."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
