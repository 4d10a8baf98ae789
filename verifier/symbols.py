"""Parses formulas, by our grammar (`verifier.formulas`) or else latex2sympy, and compares them (`verifier.values`).

What has no values to compare, such as a limit or a matrix that stays one, goes to math-verify's own comparison.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy, normalize_latex
from math_verify import verify
from sympy.core.function import AppliedUndef

from verifier.formulas import DIVIDED, has_matrices, parse_formula
from verifier.latex import depth_of, without_text
from verifier.literals import Literal, is_float_of
from verifier.names import Reading, TooLarge, Unknown
from verifier.sums import has_unknown_terms
from verifier.values import differ_by_constant, equal_values, evaluate, is_value, near, near_fully, proportion, rational

MAX_DEPTH = 25
"""Deepest nesting of brackets that is parsed: the parser's time is exponential in it."""
MAX_CHARS = 600
MAX_SIDE_BY_SIDE = 16
"""Letters without a sign between that the general parser is given: its time grows with the square of their number."""
MAX_BARS = 12
"""Vertical lines in one formula: which of them open is guessed by trying all."""
_NORMALIZE = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
)
_HUGE = re.compile(
    r"\^\s*\{?\s*[+-]?\s*[\d(]+\s*\)?\s*\^\s*\{?\s*[\d(]+\s*\)?\s*\^"  # a tower of three
    r"|\d{6,}\s*\}?\s*\)?\s*!|\^\s*\{?\s*\(?\s*-?\d{7,}|[)}!]\s*!\s*\)?\s*!|!\s*\)\s*!|\^\s*\{?\s*\d{3,}\s*\^|\*\*[^*]*\*\*[^*]*\*\*"
)
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_UNIT = re.compile(r"(?<=[\d})a-z])\s*\\text\s*\{[^{}]*\}(?:\s*\^\s*\{?\s*\d\s*\}?)?\s*$")
_UNIT_WORDS = re.compile(
    r"(?<=[\d})i])\s+(?:square |cubic |sq )?(?:units?|cm|mm|km|m|ft|in|inches|feet|meters?|miles?|degrees?|°)(?:\s*\^\s*\{?\d\}?)?\s*$"
)

PLAIN = Reading()
FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
"""What a relation is from its other side."""
_IMAGINARY = re.compile(r"(?<![A-Za-z\\])i(?![A-Za-z])|\di(?![A-Za-z])")
_LOST = re.compile(
    r"'|\\(?:prime|partial|nabla|lor|land|vee|wedge|neg|lnot|oplus|top|intercal|dagger)(?![A-Za-z])|[A-Z]\s*\^\s*\{?\s*T|\^\s*\{\s*\("
)
"""Marks that latex2sympy would drop."""
_BARE_ARGUMENT = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|arcsin|arccos|arctan|ln|lg|log)(?![a-z])"
    r"(?:\s*[\^_]\s*(?:\{[^{}]*\}|\w))*)"
    r"\s*((?:\d+(?:\.\d+)?|[A-Za-z]|\\(?:pi|theta|alpha|beta|phi|varphi|omega|lambda)(?![a-z])|\s|\^\s*(?:\{[^{}]*\}|\w)"
    r"|\\frac\s*\{[^{}]*\}\s*\{[^{}]*\}|\\sqrt\s*\{[^{}]*\}){1,30}?)\s*(?=\\cdot|\\times|\*)"
)
r"""A function's argument without parentheses, which a sign of multiplication ends: `\sin x \cdot y` is sin(x) y."""
_SIDE_BY_SIDE = re.compile(rf"(?:[A-Za-z](?:\s*[\^_]\s*(?:\{{[^{{}}]*\}}|\w))?\s*){{{MAX_SIDE_BY_SIDE + 1}}}")
_DOUBLE = re.compile(r"_\s*\w\s*_")
"""A double subscript: no LaTeX, and slow to find out."""
_BOUND = re.compile(r"\\(?:sum|prod)\s*_\s*\{\s*([a-z])\s*=")
_INTEGRAL = re.compile(
    r"(\\int\s*_\s*(?:\{[^{}]*\}|[\w-])\s*\^\s*(?:\{[^{}]*\}|\\?\w+))(.*?)(?<![A-Za-z\\])d\s*([a-z])(?![A-Za-z])",
    re.DOTALL,
)
LETTER = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
_SUBSCRIPT = re.compile(r"([A-Z]|(?<![A-Za-z\\])[a-z])\s*_\s*(?:\{\s*\\([a-z]+)\s*\}|\\([a-z]+))")
_ENERGY = re.compile(r"\\[A-Za-z]+|\\?begin\{[^{}]*\}|\{[A-Za-z]{2,}\}|E|(?<![A-Za-z])e(?=\s*_)")


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
    except Unknown:
        return None if _LOST.search(text) else _parse_rest(text, reading)
    except TooLarge:
        raise
    except Exception:  # sympy raises what it likes on what makes no sense
        return None


def _parse_rest(text: str, reading: Reading) -> Any | None:
    """Sums, integrals, limits, sets: by latex2sympy."""
    if _DOUBLE.search(text):
        return None
    if _SIDE_BY_SIDE.search(re.sub(r"\\[A-Za-z]+", " ", text)):
        raise TooLarge(f"more than {MAX_SIDE_BY_SIDE} letters side by side")
    text = _with_bound_names(text)
    text = _known_names(re.sub(r"\s*\^?°", r" \\cdot \\frac{\\pi}{180}", _BARE_ARGUMENT.sub(r"\1(\2) ", text)))
    try:
        found = latex2sympy(
            normalize_latex(text, _NORMALIZE),
            is_real=not reading.complex_i,
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=reading.fold_case),
        )
    except Exception:  # the parser raises whatever it stumbles over
        return None
    if reading.complex_i and isinstance(found, sympy.Basic):
        return found.xreplace({symbol: sympy.I for symbol in found.free_symbols if symbol.name == "i"})
    return found


def _with_bound_names(text: str) -> str:
    """Sums and integrals with names of our own for the letters that they bind."""
    bound = [found[1] for found in _BOUND.finditer(text)] + [found[3] for found in _INTEGRAL.finditer(text)]
    letters = set(re.findall(r"[a-z]", re.sub(r"\\[A-Za-z]+", "", text))) - set(bound)
    names = [letter for letter in "wvusqrzyx" if letter not in letters]
    if not bound or len(names) <= len(bound):
        return text
    text = _INTEGRAL.sub(lambda found: f"{found[1]}{renamed(found[2], {found[3]: names[-1]})}d {names[-1]}", text)
    for name in names[:-1]:
        letter = next((found for found in _BOUND.finditer(text) if found[1] not in names), None)
        if letter is not None:
            text = text[: letter.start()] + renamed(text[letter.start() :], {letter[1]: name})
    return text


def renamed(text: str, names: dict[str, str]) -> str:
    """A formula with other names for some letters or commands."""
    return LETTER.sub(lambda found: names.get(found[0], found[0]), text)


def _known_names(text: str) -> str:
    r"""Names that the parser takes for something else: E (an exponent of ten), e_1, and M_\odot."""
    text = _SUBSCRIPT.sub(lambda name: f"{name[1]}_{{{name[2] or name[3]}}}", text)
    return _ENERGY.sub(lambda found: {"E": r" \Xi ", "e": r" \xi "}.get(found[0], found[0]), text)


def unit_of(text: str) -> str:
    """The unit that stands behind a formula; empty if there is none."""
    found = _UNIT.search(text) or _UNIT_WORDS.search(text)
    return without_text(found[0]).strip() if found else ""


def _without_unit(text: str) -> str:
    shorter = _UNIT_WORDS.sub("", _UNIT.sub("", text))
    if not _TRIGONOMETRIC.search(shorter):
        shorter = re.sub(r"(?<=[\d})])\s*°(?=\s*$)", "", shorter)
    return shorter.strip()


def same_expression(gold: str, answer: str) -> bool:
    """Whether two formulas are equal wherever both have a real value."""
    for reading in _readings(gold, answer):
        a, b = parse(gold, reading), parse(answer, reading)
        if a is None or b is None:
            return False
        if _same(a, b):
            return True
    return False


def _readings(gold: str, answer: str) -> list[Reading]:
    sides = [re.sub(r"\\[A-Za-z]+", " ", side) for side in (gold, answer)]
    complex_i = any(_IMAGINARY.search(side) for side in sides) or r"\sqrt{-" in gold + answer
    matrices = (has_matrices(gold) or has_matrices(answer)) and not DIVIDED.search(f"{gold} {answer}")
    plain = Reading(complex_i, matrices=matrices)
    letters = [set(re.findall(r"[A-Za-z]", side)) for side in sides]
    is_case_free = _in_both_cases(letters[0] | letters[1]) and not any(map(_in_both_cases, letters))
    return [plain, replace(plain, fold_case=True)] if is_case_free else [plain]


def _in_both_cases(letters: set[str]) -> bool:
    return any(letter.isupper() and letter.lower() in letters for letter in letters)


def _same(a: Any, b: Any) -> bool:
    if is_value(a) and is_value(b):
        if (verdict := equal_values(*_without_unknown_functions(a, b))) is not None:
            return verdict
    elif is_value(a) != is_value(b):
        return False
    try:
        is_known = not (has_unknown_terms(a) or has_unknown_terms(b))
        return bool(a == b) or (is_known and bool(verify([a], [b], timeout_seconds=None)))
    except Exception:
        return False


def _without_unknown_functions(a: Any, b: Any) -> tuple[Any, Any]:
    """A variable for each I(0) and f(x), unless what they are taken of would have to be worked out."""
    unknown = sorted(a.atoms(AppliedUndef) | b.atoms(AppliedUndef), key=str)
    if not all(argument.is_Atom for function in unknown for argument in function.args):
        return a, b
    names = {function: sympy.Symbol(f"unknown_{number}", real=True) for number, function in enumerate(unknown)}
    return a.xreplace(names), b.xreplace(names)


def integer_of(text: str) -> int | None:
    """The exact integer that a formula without variables is; None for others."""
    expression = parse(text)
    value = rational(expression) if is_value(expression) else None
    return int(value) if value is not None and value.denominator == 1 else None


def same_antiderivative(gold: str, answer: str) -> bool:
    """Whether two formulas, constants of integration aside, differ by a number."""
    a, b = parse(gold), parse(answer)
    return is_value(a) and is_value(b) and differ_by_constant(a, b)


def is_formula_of_letters(text: str) -> bool:
    """Whether a text has variables, or is no formula: it has no number as its value."""
    expression = parse(text)
    return not is_value(expression) or bool(expression.free_symbols)


def near_literal(gold: str, answer: Literal, *, rounded: bool = False) -> bool:
    """Whether a number is what a formula without variables comes to.

    A decimal of six places or more, of any if `rounded`, stands for what rounds to it.
    """
    expression = parse(gold, Reading(complex_i=_IMAGINARY.search(gold) is not None))
    if not is_value(expression) or expression.free_symbols:
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
    return bool(is_near) or is_float_of(answer, abs(value - exact) / abs(value), float(value))


def same_relation(gold: tuple[str, str, str], answer: tuple[str, str, str]) -> bool:
    """Whether two relations (left, sign, right) say the same: one is the other times a constant."""
    texts = (gold[0], gold[2], answer[0], answer[2])
    reading = Reading(matrices=any(map(has_matrices, texts)))
    sides = [parse(side, reading) for side in texts]
    if not all(map(is_value, sides)):
        return False
    a, b = (sympy.Add(sides[i], sympy.Mul(-1, sides[i + 1], evaluate=False), evaluate=False) for i in (0, 2))
    if not a.free_symbols | b.free_symbols:
        left, right, *others = sides
        orders = (others, others[::-1]) if gold[1] in ("=", r"\ne") else (others,)
        return gold[1] == answer[1] and any(_same(left, first) and _same(right, second) for first, second in orders)
    if (ratio := proportion(a, b)) is None:
        return False
    is_kept = gold[1] in ("=", r"\ne") or ratio > 0
    return answer[1] == (gold[1] if is_kept else FLIPPED.get(gold[1]))
