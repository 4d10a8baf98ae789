"""Parses expressions by latex2sympy, and compares them by their values at points rather than by simplification.

Two expressions are the same if they take the same values, to 30 digits, wherever both are real: fast, and exact where
math-verify's own comparison is not (1/10^20 is not 2/10^20). What has no values (f(x), a set of sets) goes to it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from math import factorial, prod
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy, normalize_latex
from math_verify import verify
from sympy.core.function import AppliedUndef

from verifier.formulas import Reading, Unknown, has_matrices, parse_formula
from verifier.latex import depth_of, without_text
from verifier.literals import Literal, too_many_digits

MAX_DEPTH = 25
"""Deepest nesting of brackets that is parsed: the parser's time is exponential in it."""
MAX_CHARS = 600
MAX_BARS = 12
"""Vertical lines in one formula: which of them open is guessed by trying all."""
MAX_BITS = 200_000
MAX_FACTORIAL = 5_000
"""Largest numbers that are worked out exactly."""
_NORMALIZE = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
)
_DIGITS = 30
MAX_COMPARED = 180
"""Digits before the point of the largest constants that are compared by their values."""
_CONSTANT = "1e-28"
"""How far apart, relatively, equal numbers may be after rounding to so many digits; values at points are less exact."""
_POINTS = (
    "0.7310585786",
    "1.8393972059",
    "2.6180339887",
    "-0.5671432904",
    "-1.4142135624",
    "3.3598856662",
    "0.2801694990",
)
_HUGE = re.compile(
    r"\^\s*\{?\s*[+-]?\s*[\d(]+\s*\)?\s*\^\s*\{?\s*[\d(]+\s*\)?\s*\^"  # a tower of three
    r"|\d{6,}\s*\}?\s*\)?\s*!|\^\s*\{?\s*\(?\s*-?\d{7,}|[)}!]\s*!\s*\)?\s*!|!\s*\)\s*!|\^\s*\{?\s*\d{3,}\s*\^|\*\*[^*]*\*\*[^*]*\*\*"
)
_STEPS = (sympy.floor, sympy.ceiling, sympy.Mod, sympy.sign, sympy.Abs, sympy.Max, sympy.Min, sympy.Piecewise)
_WHOLE, _WHOLE_POINTS = frozenset("nmkijpqN"), (1, 2, 3, 4, 5, 6, 7, 10, 13, 24, 51, 100)
"""Letters that stand for integers where a formula rounds, and what to put for them."""
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_UNIT = re.compile(r"(?<=[\d})a-z])\s*\\text\s*\{[^{}]*\}(?:\s*\^\s*\{?\s*\d\s*\}?)?\s*$")
_UNIT_WORDS = re.compile(
    r"(?<=[\d})i])\s+(?:square |cubic |sq )?(?:units?|cm|mm|km|m|ft|in|inches|feet|meters?|miles?|degrees?|°)(?:\s*\^\s*\{?\d\}?)?\s*$"
)

PLAIN = Reading()
_IMAGINARY = re.compile(r"(?<![A-Za-z\\])i(?![A-Za-z])|\di(?![A-Za-z])")
_LOST = re.compile(r"'|\\(?:prime|partial|nabla|lor|land|vee|wedge|neg|lnot|oplus|top|intercal|dagger)(?![A-Za-z])|[A-Z]\s*\^\s*\{?\s*T")
"""Marks that latex2sympy would drop."""
_BARE_ARGUMENT = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|arcsin|arccos|arctan|ln|lg|log)(?![a-z])"
    r"(?:\s*[\^_]\s*(?:\{[^{}]*\}|\w))*)"
    r"\s*((?:\d+(?:\.\d+)?|[A-Za-z]|\\(?:pi|theta|alpha|beta|phi|varphi|omega|lambda)(?![a-z])|\s|\^\s*(?:\{[^{}]*\}|\w)"
    r"|\\frac\s*\{[^{}]*\}\s*\{[^{}]*\}|\\sqrt\s*\{[^{}]*\}){1,30}?)\s*(?=\\cdot|\\times|\*)"
)
r"""A function's argument without parentheses, which a sign of multiplication ends: `\sin x \cdot y` is sin(x) y."""
_SUBSCRIPT = re.compile(r"([A-Z]|(?<![A-Za-z\\])[a-z])\s*_\s*(?:\{\s*\\([a-z]+)\s*\}|\\([a-z]+))")
_ENERGY = re.compile(r"\\[A-Za-z]+|\\?begin\{[^{}]*\}|\{[A-Za-z]{2,}\}|E|(?<![A-Za-z])e(?=\s*_)")


class TooLarge(ValueError):
    """An expression that would take unbounded time or memory; never parsed."""


def check_size(text: str) -> None:
    """Refuse what sympy must not see.

    Raises:
        TooLarge: too long, too deep, too many digits, a tower of powers, a factorial of a factorial.

    """
    if len(text) > MAX_CHARS:
        raise TooLarge(f"{len(text)} characters of formula; want at most {MAX_CHARS}")
    if text.count("|") > MAX_BARS:
        raise TooLarge(f"{text.count('|')} vertical lines; want at most {MAX_BARS}")
    if depth_of(text) > MAX_DEPTH:
        raise TooLarge(f"brackets nested {depth_of(text)} deep; want at most {MAX_DEPTH}")
    if too_many_digits(text):
        raise TooLarge("too many digits")
    if _HUGE.search(text):
        raise TooLarge("a number too large to work out")


def parse(text: str, reading: Reading = PLAIN) -> Any | None:
    """A sympy object, or None if the text is no expression. Nothing is evaluated, and nothing but LaTeX is understood.

    Raises:
        TooLarge: see `check_size`.

    """
    check_size(text)
    return _parse(_without_unit(text), reading)


@lru_cache(maxsize=4000)
def _parse(text: str, reading: Reading) -> Any | None:
    try:
        return parse_formula(text, reading)
    except Unknown:
        return None if _LOST.search(text) else _parse_rest(text, reading)
    except Exception:  # sympy raises what it likes on what makes no sense
        return None


def _parse_rest(text: str, reading: Reading) -> Any | None:
    """Sums, integrals, limits, sets: by latex2sympy."""
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
        units = {symbol: sympy.I for symbol in found.free_symbols if symbol.name == "i"}
        found = found.xreplace(units) if units else found
    return found


def _known_names(text: str) -> str:
    r"""Names that the parser takes for something else: E (an exponent of ten), e_1, and M_\odot."""
    text = _SUBSCRIPT.sub(lambda name: f"{name[1]}_{{{name[2] or name[3]}}}", text)
    return _ENERGY.sub(lambda found: {"E": r" \Xi ", "e": r" \xi "}.get(found[0], found[0]), text)


def unit_of(text: str) -> str:
    """The unit that stands behind a formula; empty if there is none."""
    found = _UNIT.search(text) or _UNIT_WORDS.search(text)
    return without_text(found[0]).strip() if found else ""


def _without_unit(text: str) -> str:
    shorter = _UNIT.sub("", text)
    shorter = _UNIT_WORDS.sub("", shorter)
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
    plain = Reading(complex_i, matrices=has_matrices(gold) or has_matrices(answer))
    letters = [set(re.findall(r"[A-Za-z]", side)) for side in sides]
    both_cases = any(letter.lower() in letters[0] | letters[1] for letter in letters[0] | letters[1] if letter.isupper())
    in_one = any(letter.isupper() and letter.lower() in side for side in letters for letter in side)
    return [plain, replace(plain, fold_case=True)] if both_cases and not in_one else [plain]


def _same(a: Any, b: Any) -> bool:
    if is_value(a) and is_value(b):
        verdict = _equal_at_points(*_without_unknown_functions(a, b))
        if verdict is not None:
            return verdict
    elif is_value(a) != is_value(b):
        return False
    try:
        if a == b:
            return True
        return bool(verify([a], [b], timeout_seconds=None))
    except Exception:
        return False


def _without_unknown_functions(a: Any, b: Any) -> tuple[Any, Any]:
    """A variable for each I(0) and f(x), unless what they are taken of would have to be worked out."""
    unknown = sorted(a.atoms(AppliedUndef) | b.atoms(AppliedUndef), key=str)
    if not all(argument.is_Atom for function in unknown for argument in function.args):
        return a, b
    names = {function: sympy.Symbol(f"unknown_{number}", real=True) for number, function in enumerate(unknown)}
    return a.xreplace(names), b.xreplace(names)


def is_value(x: Any) -> bool:
    """Whether it is a number or a function of numbers."""
    return isinstance(x, sympy.Expr) and not isinstance(x, sympy.MatrixExpr)


def value_of(text: str) -> Any | None:
    """The number, a sympy Float of 30 digits, that a formula without variables is; None if it is no number."""
    expression = parse(text, Reading(complex_i=_IMAGINARY.search(text) is not None))
    if expression is None or not is_value(expression) or expression.free_symbols:
        return None
    return evaluate(expression, {})


def evaluate(expression: Any, point: dict[Any, Any]) -> Any | None:
    """The complex number, of 30 digits, that an expression is at a point; None if it is none there."""
    try:
        value = expression.evalf(_DIGITS, subs=point) if point else expression.evalf(_DIGITS)
    except Exception:
        return None
    if not isinstance(value, sympy.Expr) or not value.is_number:
        return None
    real, imaginary = value.as_real_imag()
    if not all(part.is_Float or part.is_Rational for part in (real, imaginary)):
        return None
    return value


def rational(expression: Any) -> Fraction | None:
    """The exact value of sums, products, powers and factorials of rationals; None for others and for large ones."""
    if expression.is_Rational:
        return Fraction(int(expression.p), int(expression.q))
    if not isinstance(expression, sympy.Add | sympy.Mul | sympy.Pow | sympy.factorial | sympy.UnevaluatedExpr):
        return None
    parts = [rational(part) for part in expression.args]
    values = [part for part in parts if part is not None]
    if len(values) < len(parts) or sum(_bits(value) for value in values) > MAX_BITS:
        return None
    match expression:
        case sympy.Add():
            return sum(values, Fraction(0))
        case sympy.Mul():
            return prod(values, start=Fraction(1))
        case sympy.factorial():
            whole = values[0].denominator == 1 and 0 <= values[0] <= MAX_FACTORIAL
            return Fraction(factorial(int(values[0]))) if whole else None
        case sympy.Pow():
            base, power = values
            fits = power.denominator == 1 and abs(power) * _bits(base) <= MAX_BITS and (base or power > 0)
            return base ** int(power) if fits else None
    return values[0]


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def points_for(symbols: Sequence[Any], scale: int = 1) -> list[dict[Any, Any]]:
    """Places to compare expressions at: for one variable seven, for more, seven rows of a cyclic square."""
    return [
        {
            symbol: sympy.Float(_POINTS[(row + 2 * column) % len(_POINTS)], _DIGITS) * scale
            + column * sympy.Float("0.0173", _DIGITS)
            for column, symbol in enumerate(symbols)
        }
        for row in range(len(_POINTS))
    ]


def _equal_at_points(a: Any, b: Any) -> bool | None:
    """None if there are too few points where both have a value."""
    symbols = sorted(a.free_symbols | b.free_symbols, key=lambda symbol: symbol.name)
    rounded = a.has(sympy.Float) or b.has(sympy.Float)
    if not symbols:
        p, q = rational(a), rational(b)
        if p is not None and q is not None:
            return p == q
        x, y = evaluate(a, {}), evaluate(b, {})
        if x is None or y is None:
            return None
        return _near(x, y, "1e-10") if rounded else _near(x, y, _CONSTANT) and _near_in_full(a, b, x)
    tolerance = "1e-10" if rounded else "1e-20"
    num_real = num_complex = 0
    points = points_for(symbols)
    if a.has(*_STEPS) or b.has(*_STEPS):
        if all(symbol.name in _WHOLE for symbol in symbols):
            points = [{x: sympy.Integer(n * (k + 1) + k) for k, x in enumerate(symbols)} for n in _WHOLE_POINTS]
        else:
            points += points_for(symbols, 7) + points_for(symbols, 41)  # near zero, steps are much alike
    for point in points:
        x, y = evaluate(a, point), evaluate(b, point)
        if x is None or y is None:
            continue
        if x.is_real and y.is_real:
            num_real += 1
        else:
            num_complex += 1
            if num_real:
                continue
        if not _near(x, y, tolerance):
            if x.is_real and y.is_real:
                return False
            num_complex -= 1
    return True if num_real >= 2 or num_complex >= 4 else None


def _near(x: Any, y: Any, tolerance: str) -> bool:
    difference, size = abs(x - y), max(abs(x), abs(y))
    return bool(difference <= sympy.Float(tolerance) * size) or (
        bool(difference < sympy.Float("1e-25")) and bool(size > sympy.Float("1e-3"))
    )


def _near_in_full(a: Any, b: Any, value: Any) -> bool:
    """Whether two constants agree far behind the point as well: sqrt(10^62 + 3) is not 10^31.

    Of a number with k digits before the point 2k + 28 are compared; beyond MAX_COMPARED only the same expression counts.
    """
    size = abs(value)
    if size < 1000:
        return True
    num_digits = int(sympy.log(size, 10).evalf(15)) + 1
    if num_digits > MAX_COMPARED:
        return bool(a == b)
    try:
        difference = sympy.N(abs(a - b), 2 * num_digits + 40, maxn=4 * num_digits + 200)
    except Exception:
        return False
    return bool(difference <= size * sympy.Rational(1, 10 ** (2 * num_digits + 28)))


def integer_of(text: str) -> int | None:
    """The exact integer that a formula without variables is; None for others."""
    expression = parse(text)
    value = rational(expression) if expression is not None and is_value(expression) else None
    return int(value) if value is not None and value.denominator == 1 else None


def differ_by_constant(gold: str, answer: str) -> bool:
    """Whether two antiderivatives, constants of integration aside, differ by a number."""
    a, b = parse(gold), parse(answer)
    if a is None or b is None or not is_value(a) or not is_value(b):
        return False
    symbols = sorted(a.free_symbols | b.free_symbols, key=lambda symbol: symbol.name)
    differences = []
    for point in points_for(symbols):
        x, y = evaluate(a, point), evaluate(b, point)
        if x is not None and y is not None and x.is_real and y.is_real:
            differences.append((x - y, max(abs(x), abs(y), 1)))
    first = differences[0][0] if differences else None
    return len(differences) >= 2 and all(abs(d - first) <= sympy.Float("1e-18") * size for d, size in differences)


def near_literal(gold: str, answer: Literal) -> bool:
    """Whether a decimal of six places or more, or an exact number, is what a formula comes to."""
    value = value_of(gold)
    if value is None or not value.is_real:
        return False
    number = sympy.Rational(answer.value.numerator, answer.value.denominator)
    if answer.unit == "°" and _near(value, sympy.Float(number, _DIGITS) * sympy.pi.evalf(_DIGITS) / 180, _CONSTANT):
        return True
    for exact in {number, number / 100} if answer.percent else {number}:
        if _near(value, sympy.Float(exact, _DIGITS), _CONSTANT):
            return _near_in_full(parse(gold), exact, value)
        if answer.decimals is not None and answer.decimals >= 6 and not answer.percent:
            return bool(abs(value - exact) <= sympy.Rational(1, 2) / 10**answer.decimals)
    return False


def same_relation(gold: tuple[str, str, str], answer: tuple[str, str, str]) -> bool:
    """Whether two relations (left, sign, right) say the same: one is the other times a constant."""
    flip = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
    both = " ".join((*gold, *answer))
    sides = [parse(side) for side in (gold[0], gold[2], answer[0], answer[2])]
    if any(side is None or not is_value(side) for side in sides):
        return _verify_relations(gold, answer)
    a, b = (sympy.Add(sides[i], sympy.Mul(-1, sides[i + 1], evaluate=False), evaluate=False) for i in (0, 2))
    symbols = sorted(a.free_symbols | b.free_symbols, key=lambda symbol: symbol.name)
    ratios = []
    for point in points_for(symbols):
        x, y = evaluate(a, point), evaluate(b, point)
        if x is not None and y is not None and x.is_real and y.is_real and abs(y) > sympy.Float("1e-12"):
            ratios.append(x / y)
    tolerance = "1e-12" if a.has(sympy.Float) or b.has(sympy.Float) else "1e-22"
    constant = len(ratios) >= 2 and all(_near(ratio, ratios[0], tolerance) for ratio in ratios) and ratios[0] != 0
    if constant:
        positive = bool(ratios[0] > 0)
        if gold[1] in ("=", r"\ne"):
            return gold[1] == answer[1]
        return answer[1] == (gold[1] if positive else flip.get(gold[1]))
    return gold[1] == answer[1] == "=" and "\\" not in both and _verify_relations(gold, answer)


def _verify_relations(gold: tuple[str, str, str], answer: tuple[str, str, str]) -> bool:
    if any(_LOST.search(" ".join(relation)) for relation in (gold, answer)):
        return False
    a, b = (_parse_rest(" ".join(relation), PLAIN) for relation in (gold, answer))
    if a is None or b is None:
        return False
    try:
        return bool(verify([a], [b], timeout_seconds=None))
    except Exception:
        return False
