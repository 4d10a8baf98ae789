"""Compares intervals, inequalities and unions of them as sets of real numbers."""

import re
from collections.abc import Sequence
from typing import Any

import sympy

from verifier.answers import Answer, Chain, Formula, Many, Named, Number, Operation, Row, Words
from verifier.leaves import text_of
from verifier.symbols import FLIPPED, parse
from verifier.values import evaluate

REALS = sympy.S.Reals
_X = sympy.Symbol("x", real=True)
_EVERYTHING = frozenset({"all real numbers", "all reals", "all real values", "any real number", "every real number"})
_JOINS = {"cup": sympy.Union, "cap": sympy.Intersection, "setminus": sympy.Complement}
_SETS = {"R": REALS, "Z": sympy.S.Integers, "N": sympy.S.Naturals, "Q": sympy.S.Rationals}
_NAMED_SET = re.compile(r"\\mathbb\s*\{?\s*([RZNQ])\s*\}?|\\emptyset")
_VARIABLE = r"(?:[A-Za-z]|\\(?:theta|alpha|beta|phi|omega|lambda))(?:_\{?\w+\}?)?(?:\([A-Za-z]\))?"
_SIDE = re.compile(rf"{_VARIABLE}|\|\s*{_VARIABLE}\s*\|")


def same_reals(gold: Answer, answer: Answer) -> bool:
    """Whether two trees are the same set of reals."""
    a = _reals(gold)
    b = _reals(answer) if a is not None else None
    if a is None or b is None or (a[0] and b[0] and a[0] != b[0]):
        return False
    if isinstance(answer, Many) and answer.word == "and" and not (isinstance(gold, Many) and gold.word == "and"):
        both = _joined(answer.items, sympy.Intersection)
        if both is not None and both[1].is_empty:
            return False
    try:
        return bool(a[1] == b[1]) or bool(a[1].symmetric_difference(b[1]).is_empty)
    except Exception:  # sympy raises what it likes
        return False


def _reals(tree: Answer) -> tuple[str, Any] | None:
    """(variable or "", set of reals) that a tree describes; None if it describes none."""
    match tree:
        case Row((Number() | Formula() as start, Number() | Formula() as stop), opening, closing):
            return _interval(start, stop, opening, closing)
        case Chain(sides, relations, ""):
            return _solutions(sides, relations)
        case Named(label, value):
            inside = ("", sympy.FiniteSet(_exact(value))) if isinstance(value, Number) else _reals(value)
            return None if inside is None else (label, inside[1])
        case Operation(sign, items) if sign in _JOINS and (sign != "setminus" or len(items) == 2):
            return _joined(items, _JOINS[sign])
        case Many(items, True) if all(isinstance(item, Number | Formula) for item in items):
            numbers = [_exact(item) for item in items]
            return None if any(number is None for number in numbers) else ("", sympy.FiniteSet(*numbers))
        case Many(items) if items and all(isinstance(item, Chain | Named) or _is_interval(item) for item in items):
            return _alternatives(tree)
        case Words(words) if words in _EVERYTHING:
            return "", REALS
        case Formula(text) if named := _NAMED_SET.fullmatch(text.strip()):
            return "", _SETS.get(named[1], sympy.S.EmptySet)
    return None


def _alternatives(tree: Many) -> tuple[str, Any] | None:
    if tree.word != "or" and any(isinstance(item, Chain) and r"\ne" in item.relations for item in tree.items):
        return _joined(tree.items, sympy.Intersection)
    if all(isinstance(item, Named) and isinstance(item.value, Number) for item in tree.items):
        return None  # equations alone are a list of values
    either = _joined(tree.items, sympy.Union)
    # "x > 3 and x < 5": all numbers fulfil one of the two, so both are meant
    everything = either is not None and either[1] == REALS and tree.word != "or"
    return _joined(tree.items, sympy.Intersection) if everything else either


def _is_interval(tree: Answer) -> bool:
    """Whether brackets hold an interval for sure, and no point."""
    if not isinstance(tree, Row) or len(tree.items) != 2:
        return False
    return (tree.opening, tree.closing) != ("(", ")") or any(r"\infty" in text_of(item) for item in tree.items)


def _joined(items: Sequence[Answer], join: Any) -> tuple[str, Any] | None:
    parts = [_reals(item) for item in items]
    known = [part for part in parts if part is not None]
    variables = {variable for variable, _ in known if variable}
    if len(known) < len(parts) or len(variables) > 1:
        return None
    return "".join(variables), join(*(part for _, part in known))


def _solutions(sides: Sequence[Answer], relations: Sequence[str]) -> tuple[str, Any] | None:
    r"""The variable and the set of reals of an inequality in one variable: `0 < x`, `-1 \le x < 2`, `x \ne 3`.

    None unless one side is a variable and the others are numbers.
    """
    named = [isinstance(side, Formula) and _SIDE.fullmatch(side.text) is not None for side in sides]
    if sum(named) != 1 or len(sides) > 3 or (len(sides) == 3 and not named[1]):
        return None
    place = named.index(True)
    found: Any = REALS
    for index, relation in enumerate(relations):
        is_left = index == place
        bound = _exact(sides[index + 1 if is_left else index])
        piece = None if bound is None else _half_line(relation, bound, is_left)
        if piece is None:
            return None
        found = found.intersect(piece)
    variable = text_of(sides[place])
    if variable.startswith("|"):
        found = found.intersect(sympy.Interval(0, sympy.oo))
        return variable.strip("| "), sympy.Union(found, sympy.imageset(sympy.Lambda(_X, -_X), found))
    return variable, found


def _half_line(relation: str, bound: Any, variable_is_left: bool) -> Any | None:
    if relation == r"\ne":
        return REALS - sympy.FiniteSet(bound)
    if relation not in FLIPPED:
        return None
    is_open = relation in "<>"
    if (relation in ("<", r"\le")) == variable_is_left:
        return sympy.Interval(-sympy.oo, bound, True, is_open)
    return sympy.Interval(bound, sympy.oo, is_open, True)


def _exact(tree: Answer) -> Any | None:
    """The exact real number, or infinity, that a leaf is; None for others."""
    if isinstance(tree, Number):
        return sympy.Rational(tree.value.value)
    text = text_of(tree).strip()
    if re.fullmatch(r"[+-]?\s*\\infty", text):
        return -sympy.oo if "-" in text else sympy.oo
    found: Any = parse(text) if isinstance(tree, Formula) else None
    if found is None or found.free_symbols:
        return None
    value = evaluate(found, {})
    if value is None or not value.is_real:
        return None
    return found if not found.has(sympy.Float) else sympy.nsimplify(value)


def _interval(start: Answer, stop: Answer, opening: str, closing: str) -> tuple[str, Any] | None:
    """None unless these are numbers in order, and infinity is left out."""
    a, b = _exact(start), _exact(stop)
    if a is None or b is None or not bool(a < b):
        return None
    if (a == -sympy.oo and opening != "(") or (b == sympy.oo and closing != ")"):
        return None
    return "", sympy.Interval(a, b, opening == "(", closing == ")")
