"""Parses formulas (`verifier.formulas`) and compares them by their values (`verifier.values`)."""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import sympy

from verifier.formulas import has_matrices, parse_formula
from verifier.latex import depth_of, without_commands, without_text
from verifier.literals import Literal, is_float_of
from verifier.names import Reading, TooLarge
from verifier.values import differ_by_constant, equal_values, evaluate, near, near_fully, proportion, rational

MAX_DEPTH = 25
"""Deepest nesting of brackets that is parsed."""
MAX_CHARS = 600
MAX_BARS = 12
"""Vertical lines in one formula."""
_HUGE = re.compile(
    r"\^\s*\{?\s*[+-]?\s*[\d(]+\s*\)?\s*\^\s*\{?\s*[\d(]+\s*\)?\s*\^"  # a tower of three
    r"|\d{6,}\s*\}?\s*\)?\s*!|\^\s*\{?\s*\(?\s*-?\d{7,}|[)}!]\s*!\s*\)?\s*!|!\s*\)\s*!|\^\s*\{?\s*\d{3,}\s*\^|\*\*[^*]*\*\*[^*]*\*\*"
)
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|cis|tan|cot|sec|csc)(?![a-z])")
_UNIT = re.compile(r"(?<=[\d})a-z])\s*\\text\s*\{[^{}]*\}(?:\s*\^\s*\{?\s*\d\s*\}?)?\s*$")
_UNIT_WORDS = re.compile(
    r"(?<=[\d})i])\s+(?:square |cubic |sq )?(?:units?|cm|mm|km|m|ft|in|inches|feet|meters?|miles?|degrees?|°)(?:\s*\^\s*\{?\d\}?)?\s*$"
)

PLAIN = Reading()
FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
"""What a relation is from its other side."""
_IMAGINARY = re.compile(r"(?<![A-Za-z\\])i(?![A-Za-z])|\di(?![A-Za-z])")
LETTER = re.compile(r"\\[A-Za-z]+|[A-Za-z]")


def check_size(text: str) -> None:
    """Raise TooLarge for what sympy must not see: too long, too deep, a tower of powers, a factorial of a factorial."""
    for size, most, what in (
        (len(text), MAX_CHARS, "characters of formula"),
        (text.count("|"), MAX_BARS, "vertical lines"),
        (depth_of(text), MAX_DEPTH, "brackets, one in the other"),
    ):
        if size > most:
            raise TooLarge(f"{size} {what}; want at most {most}")
    if _HUGE.search(text):
        raise TooLarge("a number too large to work out")


def parse(text: str, reading: Reading = PLAIN) -> Any:
    """A sympy object, or None if the text is no expression; raises TooLarge as `check_size` does.

    Nothing is evaluated, and nothing but LaTeX is understood.
    """
    check_size(text)
    return _parse(_without_unit(text), reading)


@lru_cache(maxsize=4000)
def _parse(text: str, reading: Reading) -> Any | None:
    try:
        return parse_formula(text, reading)
    except TooLarge:
        raise
    except Exception:  # Unknown, or what sympy raises on what makes no sense
        return None


def renamed(text: str, names: dict[str, str]) -> str:
    """A formula with other names for some letters or commands."""
    return LETTER.sub(lambda found: names.get(found[0], found[0]), text)


def unit_of(text: str) -> str:
    """The unit that stands behind a formula; empty if there is none."""
    found = _UNIT.search(text) or _UNIT_WORDS.search(text)
    return without_text(found[0]).strip() if found else ""


def _without_unit(text: str) -> str:
    shorter = _UNIT_WORDS.sub("", _UNIT.sub("", text))
    if shorter.count("°") == 1 and not _TRIGONOMETRIC.search(shorter):
        shorter = re.sub(r"(?<=[\d})])\s*°(?=\s*$)", "", shorter)
    return shorter.strip()


def same_expression(gold: str, answer: str) -> bool:
    """Whether two formulas are equal wherever both have a real value."""
    for reading in _readings(gold, answer):
        a, b = parse(gold, reading), parse(answer, reading)
        if a is None or b is None:
            return False
        if equal_values(a, b):
            return True
    both = "°" in gold and "°" in answer  # as no unit of the whole: x + 90° is 90° + x
    return both and same_expression(*(side.replace("°", r"\frac{\pi}{180}") for side in (gold, answer)))


def _readings(gold: str, answer: str) -> list[Reading]:
    sides = [without_commands(side) for side in (gold, answer)]
    complex_i = any(_IMAGINARY.search(side) for side in sides) or r"\sqrt{-" in gold + answer
    matrices = has_matrices(gold) or has_matrices(answer)
    plain = Reading(complex_i, matrices=matrices)
    letters = [set(re.findall(r"[A-Za-z]", side)) for side in sides]
    is_order = {"o", "O"} <= letters[0] | letters[1]  # o(n) is no O(n)
    is_case_free = (
        not is_order
        and not matrices
        and _in_both_cases(letters[0] | letters[1])
        and not any(map(_in_both_cases, letters))
    )
    return [plain, replace(plain, fold_case=True)] if is_case_free else [plain]


def _in_both_cases(letters: set[str]) -> bool:
    return any(letter.isupper() and letter.lower() in letters for letter in letters)


def integer_of(text: str) -> int | None:
    """The exact integer that a formula without variables is; None for others."""
    expression = parse(text)
    value = None if expression is None else rational(expression)
    return int(value) if value is not None and value.denominator == 1 else None


def same_antiderivative(gold: str, answer: str) -> bool:
    """Whether two formulas, constants of integration aside, differ by a number."""
    a, b = parse(gold), parse(answer)
    return a is not None and b is not None and differ_by_constant(a, b)


def is_formula_of_letters(text: str) -> bool:
    """Whether a text has variables, or is no formula, nor numbers side by side: it has no number as its value."""
    expression = parse(text)
    return bool(expression.free_symbols) if expression is not None else not re.search(r"\d\s+\d", text)


def near_literal(gold: str, answer: Literal, *, rounded: bool = False) -> bool:
    """Whether a number is what a formula without variables comes to.

    A decimal of six places or more, of any if `rounded`, stands for what rounds to it.
    """
    expression = parse(gold, Reading(complex_i=_IMAGINARY.search(gold) is not None))
    if expression is None or expression.free_symbols:
        return False
    if (fraction := rational(expression)) is not None:
        expression = sympy.Rational(fraction)
    value = evaluate(expression, {})
    if value is None or not value.is_real:
        return False
    number = sympy.Rational(answer.value)
    if answer.unit == "°":
        return near(value, sympy.Float(number, 30) * sympy.pi.evalf(30) / 180)
    for exact in {number, number / 100} if answer.percent else {number}:
        if near(value, sympy.Float(exact, 30)):
            return near_fully(expression, exact, value)
        if answer.decimals is not None and (rounded or answer.decimals >= 6) and not answer.percent:
            return _is_rounded(value, exact, answer)
    return False


def _is_rounded(value: Any, exact: Any, answer: Literal) -> bool:
    """Whether a decimal is a value rounded, cut after ten places or more, or as a float prints it."""
    unit = sympy.Rational(1, 10 ** (answer.decimals or 0))
    is_cut = (answer.decimals or 0) >= 10 and value * exact > 0 and 0 <= abs(value) - abs(exact) < unit
    is_near = is_cut or abs(value - exact) <= unit / 2
    return bool(is_near) or (value != 0 and is_float_of(answer, abs(value - exact) / abs(value), float(value)))


def same_relation(gold: tuple[str, str, str], answer: tuple[str, str, str]) -> bool:
    """Whether two relations (left, sign, right) say the same: one is the other times a constant."""
    texts = (gold[0], gold[2], answer[0], answer[2])
    reading = Reading(matrices=any(map(has_matrices, texts)))
    sides = [parse(side, reading) for side in texts]
    if any(side is None for side in sides):
        return False
    a, b = (sympy.Add(sides[i], sympy.Mul(-1, sides[i + 1], evaluate=False), evaluate=False) for i in (0, 2))
    if not a.free_symbols | b.free_symbols:
        return gold[1] == answer[1] and all(map(equal_values, sides[:2], sides[2:]))
    if (ratio := proportion(a, b)) is None:
        return False
    is_kept = gold[1] in ("=", r"\ne") or ratio > 0
    return answer[1] == (gold[1] if is_kept else FLIPPED.get(gold[1]))
