"""Reads the number that a cleaned text (`verifier.latex.clean`) states, with what may stand around it."""

import re
from fractions import Fraction

from verifier.compare import number_of
from verifier.denial import calls_wrong
from verifier.literals import Literal, literal, same_number
from verifier.reading import MODULUS, read
from verifier.wording import number_words

_TEXT_BEFORE = re.compile(
    r"\s*(?:\\text\s*\{([^{}]*)\}|[A-Za-z]\s*:\s|(?i:(?:the\s+)?(?:final\s+)?answer)\s*(?:is\s|[:=]))\s*(?=[-+$\\\d.])"
)
_DENIED = re.compile(
    r"(?:\b(?:not|never|cannot|neither|nor|except|but|wrong|false)\b|n't|\\(?:neg|lnot)(?![a-z]))[\s}({$]*(?:[A-Za-z]\s*=)?[-+\s$({\\]*$"
)
_ALL_TEXT = re.compile(r"\\text\s*\{([^{}]*\d[^{}]*)\}")
NEGATION = re.compile(
    r"\b(?:not?|never|cannot|invalid|rejected|impossible|none|without|but|unless|neither|nor|wrong|false|incorrect|except|either|or|least|most|more|less|fewer|greater|than|over|"
    r"under|above|below|between|up to|negative|minus|plus|times|by|twice|half|double|triple|squared?|cubed?|root|"
    r"reciprocal|inverse|opposite|log|factorial|multiple|divisible|nearly|almost|close|maybe|perhaps|possibly|sure)\b|n't"
    r"|(?:\w+s|sum|product|part|half)\s+of\s*$|(?:problem|question|exercise|equation|figure|example|step)\s*$",
    re.IGNORECASE,
)
_OPEN_LIST = re.compile(r"(?:,|(?<![.\d])\d+)\s*\.\.\.$")
"""`5, ...`: the first of more."""
_ALSO = re.compile(r",?\s+(?:and|or)\s+(?:(?:equivalently|simply|just)\s+)?|,\s+")
_IN_PARENTHESES = re.compile(r"(?<=\d)\s+\(([\d.]{1,40}%?)\)$")
_OR_ABOUT = re.compile(r",?\s+or\s+(?:about|approximately|roughly|around)\s+|\s*\\approx(?![a-z])\s*")
_ASIDE = re.compile(r"(?<=[\d%])\s+(?:\\text\s*\{\s*)?\((?P<words>[A-Za-z][A-Za-z\s-]*)\)\s*\}?\$?$")
"""`84 (eighty-four)`."""
_WORKED_OUT = re.compile(r"\s*\(\s*(=[^()]{1,60})\)$")
"""`6 (= 18/3)`."""


def number_in(text: str) -> Literal | None:
    r"""The number that a text states: `x = 5` and `\text{Answer: } 5` as 5, `6 + 10 = 16` as 16 if its sides agree."""
    if _DENIED.search(re.split(r"\d", text, maxsplit=1)[0]):
        return None
    if all_text := _ALL_TEXT.fullmatch(text):
        text = all_text[1].strip().removeprefix("the ")
    if _OPEN_LIST.search(text):
        return None
    text = _WORKED_OUT.sub(r" \1", text.removeprefix("= "), count=1)
    if (before := _TEXT_BEFORE.match(text)) and not NEGATION.search(before[1] or ""):
        text = text[before.end() :]
    if (aside := _ASIDE.search(text)) and not (NEGATION.search(aside[0]) or calls_wrong(aside[0])):
        said = number_words(aside["words"].lower())
        number = literal(text[: aside.start()])
        if said is None or (number is not None and number.value == said):
            text = text[: aside.start()]
    rest = MODULUS.search(text) if "mod" in text else None
    is_operation = rest is not None and rest[0].lstrip(" ,").startswith((r"\bmod", r"\mod"))
    if rest and not is_operation and (number := literal(text[: rest.start()])) is not None:
        return number if abs(number.value) < int(rest[1]) else None
    exact_part, _, approximate = text.partition(r"\approx")
    if approximate and (number := literal(exact_part)) and (rounded := literal(approximate)):
        is_rounded = abs(number.value - rounded.value) < Fraction(1, 10 ** (rounded.decimals or 0))
        return number if is_rounded else None
    stated = number_of(read(text))
    return stated.value if stated is not None else None


def also_rounded(text: str, gold: Literal) -> bool:
    """Whether a text states a number and what it rounds to, `2/3 or about 0.667`, and one of them is the gold one."""
    text = _IN_PARENTHESES.sub(r" \\approx \1", text)
    if (about := _OR_ABOUT.search(text)) is None:
        return False
    number, rounded = number_in(text[: about.start()]), literal(text[about.end() :])
    if number is None or rounded is None:
        return False
    if rounded.percent and not number.percent:
        rounded = Literal(rounded.value / 100, (rounded.decimals or 0) + 2)
    is_near = 2 * abs(number.value - rounded.value) <= Fraction(1, 10 ** (rounded.decimals or 0))
    return is_near and (same_number(gold, number) or same_number(gold, rounded))


def listed_twice(text: str, gold: Literal) -> bool:
    """Several boxes with one and the same number are one answer."""
    items = [number_in(item) for item in _ALSO.split(text)]
    return len(items) > 1 and all(item is not None and same_number(gold, item) for item in items)
