"""Writes out finite sums and products at integers, with a value of its own for each term x_i of an unknown sequence. Pure."""

import re
import zlib
from typing import Any

import sympy

MAX_TERMS = 200
_SUBSCRIPT = re.compile(r"(?P<name>[^_]+)_\{?(?P<of>[^{}]*)\}?")


def limits_of(expression: Any) -> set[Any]:
    """The variables up to which an expression sums or multiplies."""
    parts = expression.atoms(sympy.Sum, sympy.Product)
    return {symbol for part in parts for limit in part.limits for end in limit[1:] for symbol in end.free_symbols}


def written_out(expression: Any, point: dict[Any, Any]) -> tuple[Any, dict[Any, Any]] | None:
    """An expression with its sums written out, and the point with values for their terms; None if they are too long."""
    if not expression.has(sympy.Sum, sympy.Product):
        return expression, point
    found = _written(expression.xreplace({symbol: value for symbol, value in point.items() if value.is_Integer}))
    left = {symbol for part in found.atoms(sympy.Sum, sympy.Product) for symbol in part.free_symbols}
    if any("_" in symbol.name for symbol in left):
        return None  # terms x_i are no one number
    terms = {symbol: value_of(symbol.name) for symbol in found.free_symbols if symbol not in point}
    return found, point | terms


def _written(x: Any) -> Any:
    if not x.has(sympy.Sum, sympy.Product):
        return x
    if not isinstance(x, sympy.Sum | sympy.Product):
        return x.func(*map(_written, x.args))
    inside = _written(x.function)
    join = sympy.Add if isinstance(x, sympy.Sum) else sympy.Mul
    for variable, first, last in x.limits:
        if not (first.is_Integer and last.is_Integer and -1 <= last - first < MAX_TERMS):
            return x
        inside = join(*(_term(inside, variable, k) for k in range(int(first), int(last) + 1)), evaluate=False)
    return inside


def _term(x: Any, variable: Any, k: int) -> Any:
    names: dict[Any, Any] = {variable: sympy.Integer(k)}
    for symbol in x.free_symbols:
        if (subscript := _SUBSCRIPT.fullmatch(symbol.name)) and variable.name in subscript["of"]:
            index = subscript["of"].replace(variable.name, f"({k})")
            index = re.sub(r"\((-?\d+)\)([+-]\d{1,4})", lambda sum_: f"({int(sum_[1]) + int(sum_[2])})", index)
            names[symbol] = sympy.Symbol(f"{subscript['name']}:{index}", real=True)
    return x.xreplace(names)


def value_of(name: str) -> Any:
    """A number of its own for each name."""
    return sympy.Float(zlib.crc32(name.encode()) / 2**32 + 0.25, 30)
