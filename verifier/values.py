"""Compares sympy expressions by their values: constants to hundreds of digits, functions at points. Pure.

Two expressions are the same if they take the same values wherever both are real: fast, and exact where simplification is
not. Nothing is worked out that would take unbounded time: sizes are capped.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import factorial, prod
from types import MappingProxyType
from typing import Any

import sympy

from verifier.names import TooLarge
from verifier.sums import limits_of, written_out

MAX_BITS = 200_000
MAX_FACTORIAL = 5_000
"""Largest numbers that are worked out exactly."""
MAX_POINT_BITS = 20_000
"""The same for the value of a function at a point."""
MAX_COMPARED = 2_000
"""Digits before the point of the largest constants that are compared by their values."""
MAX_EXPONENT = sympy.Float("1e1000")
MAX_CHOSEN_FROM = 10_000
_DIGITS = 30
_PLACES, _POINT_PLACES = 2_000, 300
"""Digits behind the point to which constants must agree, and functions at a point: (2 + sqrt 3)^2024 is no integer."""
_CONSTANT, _AT_POINT, _ROUNDED = "1e-28", "1e-20", "1e-10"
"""How far apart, relatively, equal numbers may be: constants, values at points, and where a decimal is rounded."""
_NOTHING = sympy.Float("1e-25")
"""Smaller values at points are rounding, and tell nothing."""
_POINTS = "0.7310585786 1.8393972059 2.6180339887 -0.5671432904 -1.4142135624 3.3598856662 0.2801694990".split()
_STEPS = (sympy.floor, sympy.ceiling, sympy.Mod, sympy.sign, sympy.Abs, sympy.Max, sympy.Min, sympy.Piecewise)
_SLOW = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)
_WAVES = (sympy.sin, sympy.cos, sympy.tan, sympy.cot)
_WHOLE, _WHOLE_POINTS = frozenset("nmkijpqN"), (1, 2, 3, 4, 5, 6, 7, 10, 13, 24, 51, 100, -3, -8)
"""Letters that stand for integers where a formula rounds or alternates, and what to put for them."""


def evaluate(expression: Any, point: dict[Any, Any], digits: int = _DIGITS) -> Any | None:
    """The complex number that an expression is at a point; None if it is none there.

    Raises TooLarge if an exponent that is a power itself, or what a binomial chooses from, is beyond working out.
    """
    if not _is_bounded(expression, point):
        raise TooLarge("a number too large to work out")
    if (out := written_out(expression, point)) is None:
        return None
    expression, point = out
    try:
        expression = expression.replace(lambda part: isinstance(part, sympy.Limit), lambda part: part.doit())
        value = expression.evalf(digits, subs=point, maxn=100 if digits == _DIGITS else 3 * digits)
    except Exception:
        return None
    if not isinstance(value, sympy.Expr) or not value.is_number:
        return None
    real, imaginary = value.as_real_imag()
    if not all(
        part.is_Rational or (part.is_Float and (part._prec > 1 or abs(part) < _NOTHING)) for part in (real, imaginary)
    ):
        return None  # no number, or one of which no digit is known
    return value


def _is_bounded(expression: Any, point: dict[Any, Any]) -> bool:
    try:
        if expression.free_symbols and any(
            abs(part.args[0].evalf(5, subs=point)) > MAX_CHOSEN_FROM for part in expression.atoms(sympy.binomial)
        ):
            return False
        towers = (part for part in sympy.postorder_traversal(expression) if isinstance(part, sympy.Pow | sympy.exp))
        return not any(  # from the inside, so that no exponent is worked out whose own is too large
            abs(part.exp.evalf(5, subs=point)) > MAX_EXPONENT for part in towers if part.exp.has(sympy.Pow, sympy.exp)
        )
    except (TypeError, ValueError, ArithmeticError, AttributeError):  # no number there
        return True


def rational(expression: Any, point: Mapping[Any, Fraction] = MappingProxyType({})) -> Fraction | None:
    """The exact value of sums, products, powers and factorials of rationals; None for others and for large ones."""
    if expression.is_Rational:
        return Fraction(int(expression.p), int(expression.q))
    if expression.is_Symbol:
        return point.get(expression)
    if not isinstance(expression, sympy.Add | sympy.Mul | sympy.Pow | sympy.factorial | sympy.Mod):
        return None
    parts = [rational(part, point) for part in expression.args]
    values = [part for part in parts if part is not None]
    max_bits = MAX_POINT_BITS if point else MAX_BITS
    if len(values) < len(parts) or sum(_bits(value) for value in values) > max_bits:
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
            fits = power.denominator == 1 and abs(power) * _bits(base) <= max_bits and (base or power > 0)
            return base ** int(power) if fits else None
    return values[0] % values[1] if values[1] else None


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _exact_points(symbols: Sequence[Any], scale: int = 1) -> list[dict[Any, Fraction]]:
    """Places to compare expressions at: for one variable seven, for more, seven rows of a cyclic square."""
    return [
        {
            symbol: Fraction(_POINTS[(row + 2 * column) % len(_POINTS)]) * scale + column * Fraction("0.0173")
            for column, symbol in enumerate(symbols)
        }
        for row in range(len(_POINTS))
    ]


def _points(symbols: Sequence[Any], scale: int = 1) -> list[dict[Any, Any]]:
    return [
        {symbol: sympy.Float(sympy.Rational(place), _DIGITS) for symbol, place in point.items()}
        for point in _exact_points(symbols, scale)
    ]


def _exact_values(a: Any, b: Any) -> list[tuple[Fraction, Fraction]]:
    """Pairs of values of two rational functions at points, without any rounding; empty for others."""
    pairs = []
    for point in _exact_points(_symbols(a, b)):
        x = rational(a, point)
        y = rational(b, point) if x is not None else None
        if x is None or y is None:
            return []
        pairs.append((x, y))
    return pairs


def _symbols(a: Any, b: Any) -> list[Any]:
    return sorted(a.free_symbols | b.free_symbols, key=lambda symbol: symbol.name)


def _values_at(points: Iterable[dict[Any, Any]], a: Any, b: Any) -> Iterator[tuple[dict[Any, Any], Any, Any]]:
    """(point, value, value) where both expressions have one."""
    for point in points:
        x, y = evaluate(a, point), evaluate(b, point)
        if x is not None and y is not None:
            yield point, x, y


def equal_values(a: Any, b: Any) -> bool:
    """Whether two expressions are the same number or function: as written, where they have too few values to tell."""
    if not (symbols := _symbols(a, b)):
        return _equal_constants(a, b)
    if exact := _exact_values(a, b):
        return all(x == y for x, y in exact)
    tolerance = _ROUNDED if a.has(sympy.Float) or b.has(sympy.Float) else _AT_POINT
    is_slow = a.has(*_SLOW) or b.has(*_SLOW)
    num_real = num_complex = 0
    for point, x, y in _values_at(_points_of(a, b, symbols), a, b):
        both_real = x.is_real and y.is_real
        if (num_real and not both_real) or max(abs(x), abs(y)) < _NOTHING:
            continue
        if near(x, y, tolerance) and (
            tolerance == _ROUNDED or _near_fully(a, b, point, x, _DIGITS if num_real or is_slow else _POINT_PLACES)
        ):
            num_real, num_complex = num_real + both_real, num_complex + (not both_real)
        elif both_real:
            return False
    return bool(a == b) or ((num_real >= 2 or num_complex >= 4) and not _differ_at_steps(a, b, symbols))


def _points_of(a: Any, b: Any, symbols: Sequence[Any]) -> list[dict[Any, Any]]:
    """Where to compare: at integers what alternates or rounds and is of letters that stand for integers."""
    if ends := limits_of(a) | limits_of(b):
        rest = _points([symbol for symbol in symbols if symbol not in ends])
        return [
            row | {end: sympy.Integer(n + k) for k, end in enumerate(sorted(ends, key=str))}
            for n, row in enumerate(rest, 1)
        ]
    whole = [symbol for symbol in symbols if symbol.name in _WHOLE]
    steps = a.has(*_STEPS) or b.has(*_STEPS)
    if whole and ((steps and len(whole) == len(symbols)) or _alternates(a, whole) or _alternates(b, whole)):
        rest = _points([symbol for symbol in symbols if symbol not in whole])
        return [
            rest[row % len(rest)] | {x: sympy.Integer(n * (k + 1) + k) for k, x in enumerate(whole)}
            for row, n in enumerate(_WHOLE_POINTS)
        ]
    points = _points(symbols)
    return points + _points(symbols, 7) + _points(symbols, 41) if steps else points  # near zero, steps are alike


def _differ_at_steps(a: Any, b: Any, symbols: Sequence[Any]) -> bool:
    """Whether what rounds differs at integers: elsewhere the ceiling is the floor and one."""
    if not (a.has(*_STEPS) or b.has(*_STEPS)):
        return False
    points = ({x: sympy.Integer(n + k) for k, x in enumerate(symbols)} for n in (2, 4, -3))
    return any(
        x.is_real and y.is_real and max(abs(x), abs(y)) >= _NOTHING and not near(x, y, _AT_POINT)
        for _, x, y in _values_at(points, a, b)
    )


def _alternates(expression: Any, whole: Sequence[Any]) -> bool:
    """Whether it has a power of a negative number, or a wave of period 2 pi, in one of these letters."""
    for part in sympy.preorder_traversal(expression):
        if isinstance(part, sympy.Pow) and part.exp.has(*whole) and part.base.is_number and part.base.is_negative:
            return True
        if isinstance(part, _WAVES) and part.has(*whole) and part.has(sympy.pi):
            return True
    return False


def _equal_constants(a: Any, b: Any) -> bool:
    p, q = rational(a), rational(b)
    if p is not None and q is not None:
        return p == q
    x, y = evaluate(a, {}), evaluate(b, {})
    if x is None or y is None:
        return bool(a == b)
    if a.has(sympy.Float) or b.has(sympy.Float):
        return near(x, y, _ROUNDED)
    return near(x, y, _CONSTANT) and near_fully(a, b, x)


def near(x: Any, y: Any, tolerance: str = _CONSTANT) -> bool:
    """Whether two numbers agree to a share of their size."""
    difference, size = abs(x - y), max(abs(x), abs(y))
    return bool(difference <= sympy.Float(tolerance) * size) or (
        bool(difference < sympy.Float("1e-25")) and bool(size > sympy.Float("1e-3"))
    )


def near_fully(a: Any, b: Any, value: Any) -> bool:
    """Whether two constants that agree at first agree far behind the point as well."""
    if a.has(*_SLOW) or b.has(*_SLOW):
        return True
    return _near_fully(a, b, {}, value, _PLACES)


def _near_fully(a: Any, b: Any, point: dict[Any, Any], value: Any, places: int) -> bool:
    """Whether two values agree to so many places behind the point; huge ones only if they are the same expression."""
    size = abs(value)
    num_digits = int(sympy.log(size, 10).evalf(15)) + 1 if size > 1 else 0
    if a == b or (point and num_digits < _DIGITS - places + 8):
        return True
    if num_digits > MAX_COMPARED:
        return False
    x, y = (evaluate(expression, point, num_digits + places + 20) for expression in (a, b))
    return x is not None and y is not None and bool(abs(x - y) <= sympy.Rational(1, 10 ** (places - 12)))


def _real_values(a: Any, b: Any) -> list[tuple[Any, Any]]:
    """Pairs of values of two functions at the points where both are real."""
    return [(x, y) for _, x, y in _values_at(_points(_symbols(a, b)), a, b) if x.is_real and y.is_real]


def differ_by_constant(a: Any, b: Any) -> bool:
    """Whether two functions differ by a number."""
    pairs = _real_values(*(f.replace(sympy.acot, lambda x: -sympy.atan(x)) for f in (a, b)))  # acot jumps at 0
    error = sympy.Float("1e-18")
    return len(pairs) >= 2 and all(
        abs(x - y - (pairs[0][0] - pairs[0][1])) <= error * max(abs(x), abs(y), 1) for x, y in pairs
    )


def proportion(a: Any, b: Any) -> Any | None:
    """The constant by which one function is the other times it; None if there is none."""
    if exact := _exact_values(a, b):
        quotients = {x / y if y else None for x, y in exact if x or y}
        ratio = next(iter(quotients), None)
        return sympy.Rational(ratio) if len(quotients) == 1 and ratio else None
    ratios = [x / y for x, y in _real_values(a, b) if abs(y) > sympy.Float("1e-12")]
    tolerance = "1e-12" if a.has(sympy.Float) or b.has(sympy.Float) else "1e-22"
    is_constant = len(ratios) >= 2 and ratios[0] != 0 and all(near(ratio, ratios[0], tolerance) for ratio in ratios)
    return ratios[0] if is_constant else None
