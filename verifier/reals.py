"""Compares intervals, inequalities and unions of them as sets of real numbers."""

import re
from collections.abc import Sequence
from typing import Any

import sympy

from verifier.literals import literal
from verifier.shapes import Chain, Leaf, Many, Named, Row, Shape, Union, Words, same_label
from verifier.symbols import evaluate, is_value, parse

REALS = sympy.S.Reals
_X = sympy.Symbol("x", real=True)
_EVERYTHING = frozenset({"all real numbers", "all reals", "all real values", "any real number", "every real number"})


def same_reals(gold: Shape, answer: Shape) -> bool:
    """Intervals, inequalities and unions of them, as sets."""
    a, b = _reals(gold), _reals(answer)
    if isinstance(answer, Many) and answer.word == "and" and not (isinstance(gold, Many) and gold.word == "and"):
        both = _joined(answer.items, intersection)
        b = None if both is not None and both[1].is_empty else b
    if a is None or b is None or (a[0] and b[0] and not same_label(a[0], b[0])):
        return False
    return same_set(a[1], b[1])


def _reals(shape: Shape) -> tuple[str, Any] | None:
    """(variable or "", set of reals) that a form describes; None if it describes none."""
    match shape:
        case Row((Leaf(start), Leaf(stop)), opening, closing):
            found = interval(start, stop, opening, closing)
            return None if found is None else ("", found)
        case Chain(sides, relations):
            return real_set(sides, relations)
        case Named(label, value):
            inside = _reals(value) if isinstance(value, Row | Union | Many | Leaf) else None
            return None if inside is None else (label, inside[1])
        case Union(items):
            return _joined(items, union)
        case Many(items, True) if all(isinstance(item, Leaf) for item in items):
            numbers = finite_set([item.text for item in items if isinstance(item, Leaf)])
            return None if numbers is None else ("", numbers)
        case Many(items) if items and all(isinstance(item, Chain | Named) or _is_interval(item) for item in items):
            if any(isinstance(item, Chain) and r"\ne" in item.relations for item in items):
                return _joined(items, intersection)
            either = _joined(items, union)
            # "x > 3 and x < 5": all numbers fulfil one of the two, so both are meant
            everything = either is not None and either[1] == REALS and shape.word != "or"
            return _joined(items, intersection) if everything else either
        case Words(words) if words in _EVERYTHING:
            return "", union([interval(r"-\infty", r"\infty", "(", ")")])
        case Leaf(text) if "\\" in text and re.search(r"mathbb|setminus|emptyset|cup|backslash", text):
            found = literal_set(text)
            return None if found is None else ("", found)
    return None


def _is_interval(shape: Shape) -> bool:
    """Whether brackets hold an interval for sure, and no point."""
    if not isinstance(shape, Row) or len(shape.items) != 2:
        return False
    return (shape.opening, shape.closing) != ("(", ")") or any(
        isinstance(item, Leaf) and r"\infty" in item.text for item in shape.items
    )


def _joined(items: Sequence[Shape], join: Any) -> tuple[str, Any] | None:
    parts = [_reals(item) for item in items]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or len({part[0] for part in known if part[0]}) > 1:
        return None
    return next((part[0] for part in known if part[0]), ""), join([part[1] for part in known])


def real_set(chain_sides: Sequence[str], relations: Sequence[str]) -> tuple[str, Any] | None:
    r"""The variable and the set of reals of an inequality in one variable: `0 < x`, `-1 \le x < 2`, `x \ne 3`.

    None unless one side is a variable and the others are numbers.
    """
    name = r"(?:[A-Za-z]|\\(?:theta|alpha|beta|phi|omega|lambda))(?:_\{?\w+\}?)?(?:\([A-Za-z]\))?"
    named = [re.fullmatch(rf"{name}|\|\s*{name}\s*\|", side) is not None for side in chain_sides]
    if sum(named) != 1 or len(chain_sides) > 3:
        return None
    values = [None if is_name else exact(side) for side, is_name in zip(chain_sides, named, strict=True)]
    if sum(value is None for value in values) != 1:
        return None
    place = values.index(None)
    found: Any = sympy.S.Reals
    for index, relation in enumerate(relations):
        left, right = values[index], values[index + 1]
        if index not in (place, place - 1):
            return None
        bound, variable_is_left = (right, True) if index == place else (left, False)
        piece = _half_line(relation, bound, variable_is_left)
        if piece is None:
            return None
        found = found.intersect(piece)
    variable = chain_sides[place]
    if variable.startswith("|"):
        found = found.intersect(sympy.Interval(0, sympy.oo))
        mirrored = sympy.Union(
            *(_mirrored(part) for part in (found.args if isinstance(found, sympy.Union) else (found,)))
        )
        return variable.strip("| "), sympy.Union(found, mirrored)
    return variable, found


def _mirrored(part: Any) -> Any:
    if isinstance(part, sympy.Interval):
        return sympy.Interval(-part.end, -part.start, part.right_open, part.left_open)
    return sympy.imageset(sympy.Lambda(_X, -_X), part)


def _half_line(relation: str, bound: Any, variable_is_left: bool) -> Any | None:
    infinity = sympy.oo
    below = {"<": True, r"\le": True, ">": False, r"\ge": False}
    if relation == r"\ne":
        return sympy.S.Reals - sympy.FiniteSet(bound)
    if relation not in below:
        return None
    is_open = relation in "<>"
    if below[relation] == variable_is_left:
        return sympy.Interval(-infinity, bound, True, is_open)
    return sympy.Interval(bound, infinity, is_open, True)


def exact(text: str) -> Any | None:
    """The exact real number, or infinity, that a formula without variables is."""
    if re.fullmatch(r"[+-]?\s*\\infty", text.strip()):
        return -sympy.oo if "-" in text else sympy.oo
    number = literal(text)
    if number is not None:
        return sympy.Rational(number.value.numerator, number.value.denominator)
    found = parse(text)
    if found is None or not is_value(found) or found.free_symbols or evaluate(found, {}) is None:
        return None
    value = evaluate(found, {})
    if value is None or not value.is_real:
        return None
    return found if not found.has(sympy.Float) else sympy.nsimplify(value)


def interval(start: str, stop: str, opening: str, closing: str) -> Any | None:
    """The interval between two numbers, None if they are no numbers in order."""
    a, b = exact(start), exact(stop)
    if a is None or b is None or not bool(a < b):
        return None
    if (a == -sympy.oo and opening != "(") or (b == sympy.oo and closing != ")"):
        return None  # infinity is no number that could belong to it
    return sympy.Interval(a, b, opening == "(", closing == ")")


def same_set(a: Any, b: Any) -> bool:
    """Whether two sets of reals are the same."""
    try:
        return bool(a == b) or bool(a.symmetric_difference(b).is_empty)
    except Exception:
        return False


def finite_set(texts: Sequence[str]) -> Any | None:
    """The set of these numbers."""
    values = [exact(text) for text in texts]
    return None if any(value is None for value in values) else sympy.FiniteSet(*values)


def literal_set(text: str) -> Any | None:
    r"""What `\mathbb{R}`, `\emptyset` and differences of sets mean."""
    found = parse(text)
    if isinstance(found, sympy.Complement | sympy.Union | sympy.Intersection):
        return found.func(*found.args)  # the parser leaves them as they stand
    return found if isinstance(found, sympy.Set) else None


def union(sets: Sequence[Any]) -> Any:
    """Of sets of reals."""
    return sympy.Union(*sets)


def intersection(sets: Sequence[Any]) -> Any:
    """Of sets of reals."""
    return sympy.Intersection(*sets)
