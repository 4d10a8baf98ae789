"""Compares two outer forms (`verifier.shapes`) of an answer: item by item, and leaf by leaf."""

import re
from collections.abc import Sequence

from verifier import symbols
from verifier.latex import without_text
from verifier.literals import literal, other_measure, same_number
from verifier.reals import same_reals
from verifier.shapes import Chain, Grid, Leaf, Many, Named, Row, Shape, Union, Words, same_label, shape_of

MAX_REPEATED = 50
"""Longest list in which repetitions are looked for."""
MODULUS = re.compile(
    r"\s*(?:,\s*)?(?:\\pmod(?![a-z])|\(\s*(?:\\text\s*\{\s*mod\s*\}|\\?mod))\s*\{?\s*(\d{1,30})\s*\}?\s*\)?\s*$"
)
_HALF_OF_DAY = re.compile(r"(?<=\d)\s*([ap])\.?\s*m\b\.?\s*$", re.IGNORECASE)
_INTEGRATION = re.compile(r"\+\s*([CcKk])\s*$")
"""A constant of integration, whatever its name."""
_EMPTY = frozenset(
    {"no solution", "no solutions", "none", "empty set", "the empty set", "no real solutions", "no real solution"}
)


def same(gold: Shape, answer: Shape) -> bool:
    """Whether two forms hold the same answer."""
    if gold == answer and not isinstance(gold, Chain):
        return True
    match gold, answer:
        case Named(a, value), Named(b, other):
            return _same_named(a, value, b, other)
        case Named(_, value), _ if not isinstance(answer, Chain):
            return same(value, answer)
        case _, Named(_, other) if not isinstance(gold, Chain):
            return same(gold, _end_of(other, named=True))
        case Words(a), Words(b):
            return _same_words(a, b)
        case (Many(), Many()):
            other_word = {gold.word, answer.word} == {"and", "or"} and any(isinstance(x, Chain) for x in gold.items)
            return (not other_word and _same_many(gold, answer)) or same_reals(gold, answer)
        case (Row(), Row()):
            return _same_rows(gold, answer)
        case (Grid(a), Grid(b)):
            return _same_grids(a, b)
        case (Grid(a), Row(items)) if all(len(row) == 1 for row in a):
            return _in_order([row[0] for row in a], items)
        case (Row(items, "(", ")"), Grid(b)) if all(len(row) == 1 for row in b):
            return _in_order(items, [row[0] for row in b])
        case (Union(a), Union(b)) if len(a) == len(b) and _as_sets(a, b):
            return True
        case (Chain(), Named(label, Leaf(text))) if len(label) == 1:
            return _same_chains(gold, Chain((label, text), ("=",)))
        case (Named(label, Leaf(text)), Chain()) if len(label) == 1:
            return _same_chains(Chain((label, text), ("=",)), answer) or same(Leaf(text), _end_of(answer))
        case (Chain(), Chain()):
            return _same_chains(gold, answer) or same_reals(gold, answer)
        case (Many(), Row()):
            return (
                not gold.braces
                and answer.opening == "("
                and answer.closing == ")"
                and _in_order(gold.items, answer.items)
            )
        case (Row(), Many()):
            return not answer.braces and (_row_as_listed(gold, answer) or same_reals(gold, answer))
        case (Leaf(a), Leaf(b)):
            return _same_leaves(a, b)
        case (Leaf(), Chain()):
            end = _end_of(answer)
            if isinstance(end, Leaf) and same(gold, end):
                return True
    return same_reals(gold, answer) or _same_text(gold, answer)


def _same_named(a: str, value: Shape, b: str, other: Shape) -> bool:
    if same_label(a, b):
        return same(value, _end_of(other, named=True) if not isinstance(value, Chain) else other) or (
            isinstance(value, Chain)
            and isinstance(other, Chain)
            and same(_end_of(value, loose=True), _end_of(other, loose=True))
        )
    if isinstance(value, Leaf) and isinstance(other, Leaf):
        return symbols.same_relation((a, "=", value.text), (b, "=", other.text)) and len(a) == len(b) == 1
    return False


def _end_of(shape: Shape, *, named: bool = False, loose: bool = False) -> Shape:
    """The last side of a chain of equations, if the other sides agree with it."""
    if not isinstance(shape, Chain) or any(relation != "=" for relation in shape.relations):
        return shape
    end = shape_of(shape.sides[-1])
    if loose:
        return end
    numbers = [literal(side) for side in shape.sides]
    if numbers[-1] is not None:
        return end if chain_end(shape, named=named) else shape
    agree = all(_same_leaves(shape.sides[-1], side) for side in shape.sides[:-1])
    return end if agree else shape


def _same_words(a: str, b: str) -> bool:
    if a == b or (a in _EMPTY and b in _EMPTY):
        return True
    names = [sorted(re.sub(r"^(?:the|an?) ", "", word) for word in re.split(r" and ", text)) for text in (a, b)]
    return names[0] == names[1]


def _same_text(gold: Shape, answer: Shape) -> bool:
    """Words against a leaf: `odd` may have been read as a product of letters."""
    match gold, answer:
        case (Words(words), Leaf(text)) | (Leaf(text), Words(words)):
            if words in _EMPTY and r"\emptyset" in text:
                return True
            if text[:1] in ("+", "-"):
                return False
            plain = re.sub(r"[^a-zA-Z0-9]+", " ", without_text(text)).strip()
            return plain == words if len(words) == 1 else plain.lower() == words
    return False


def _same_many(gold: Many, answer: Many) -> bool:
    golds, answers = list(gold.items), list(answer.items)
    if len(golds) != len(answers):
        if max(len(golds), len(answers)) > MAX_REPEATED:
            return False
        distinct = _distinct(golds)
        if gold.braces or answer.braces or len(distinct) == len(golds):
            golds, answers = distinct, _distinct(answers)
    if len(golds) != len(answers):
        return False
    bases = {_base(item.label) for item in golds if isinstance(item, Named)}
    if len(bases) > 1 and not any(isinstance(item, Named) for item in answers):
        return _in_order(golds, answers)
    if gold.braces and not bases and len({_base(item.label) for item in answers if isinstance(item, Named)}) > 1:
        return False  # "x = 1, y = 2" is no set of two values
    return _matched(golds, answers)


def _base(label: str) -> str:
    """A name without the number of the solution."""
    return re.sub(r"_\{?\d+\}?$", "", label)


def _distinct(items: Sequence[Shape]) -> list[Shape]:
    found: list[Shape] = []
    for item in items:
        if not any(same(other, item) for other in found):
            found.append(item)
    return found


def _matched(golds: Sequence[Shape], answers: Sequence[Shape]) -> bool:
    """Whether each gold item has an answer of its own. Equality is an equivalence, so the first match will do."""
    left = list(answers)
    for gold in golds:
        index = next((index for index, answer in enumerate(left) if same(gold, answer)), None)
        if index is None:
            return False
        del left[index]
    return not left


def _in_order(golds: Sequence[Shape], answers: Sequence[Shape]) -> bool:
    return len(golds) == len(answers) and all(same(a, b) for a, b in zip(golds, answers, strict=True))


def _same_rows(gold: Row, answer: Row) -> bool:
    return (gold.opening, gold.closing) == (answer.opening, answer.closing) and _in_order(gold.items, answer.items)


def _row_as_listed(gold: Row, answer: Many) -> bool:
    """A point (3, 2) given as `3, 2` or as `x = 3, y = 2`."""
    if gold.opening != "(" or gold.closing != ")":
        return False
    values = {item.label: item for item in answer.items if isinstance(item, Named) and len(item.label) == 1}
    if values:
        return len(values) == len(answer.items) and _in_order(gold.items, [values[label] for label in sorted(values)])
    return _in_order(gold.items, answer.items)


def _same_grids(a: tuple[tuple[Shape, ...], ...], b: tuple[tuple[Shape, ...], ...]) -> bool:
    return len(a) == len(b) and all(_in_order(row, other) for row, other in zip(a, b, strict=True))


def _as_sets(a: Sequence[Shape], b: Sequence[Shape]) -> bool:
    return _matched(a, b)


# -- leaves and relations ---------------------------------------------------------------------------------------------


def normal(text: str) -> str:
    r"""A text without what makes no difference: white space, `\text`, case, the full stop."""
    return re.sub(r"\s+", "", without_text(text)).strip(".,;").lower() if len(text) > 1 else text


def chain_end(chain: Chain, *, named: bool) -> str | None:
    """The literal at an end of a chain of equations whose sides agree; None if there is none.

    A named chain, `x = 2 + 3 = 5`, is a derivation: its end counts, unless it begins with another number.
    """
    if any(relation != "=" for relation in chain.relations):
        return None
    numbers = [literal(side) for side in chain.sides]
    last = numbers[-1]
    if named:
        if last is None or (numbers[0] is not None and not same_number(numbers[0], last)):
            return None
        return chain.sides[-1]
    end = next((index for index in (len(numbers) - 1, 0) if numbers[index] is not None), None)
    if end is None:
        return None
    number = numbers[end]
    assert number is not None
    for side, other in zip(chain.sides, numbers, strict=True):
        if other is not None:
            if not same_number(number, other):
                return None
        elif not _is_unknown(side) and not symbols.near_literal(side, number):
            return None
    return chain.sides[end]


def _is_unknown(side: str) -> bool:
    """Whether a side is made of variables, as in `2a + b = 17`: then the equation states their value."""
    plain = re.sub(r"[\^_]\s*(?:\{[^{}]*\}|\w)|\d+(?=\s*[A-Za-z(\\])|\\[a-z]+", "", side)
    return re.search(r"[A-Za-z]", plain) is not None and not re.search(r"\d", plain)


def _same_leaves(gold: str, answer: str) -> bool:
    a, b = literal(gold), literal(answer)
    if a is not None:
        return b is not None and same_number(a, b)
    if normal(gold) == normal(answer):
        return True
    if other_measure(symbols.unit_of(gold), symbols.unit_of(answer)):
        return False
    if ":" in gold or ":" in answer:
        return _same_ratio(gold, answer)
    based = re.fullmatch(r"(.+?)_\{?\s*(?:\d+|\\text\s*\{[^{}]*\})\s*\}?", gold)
    if based and re.fullmatch(r"[0-9A-Fa-f.]+", based[1]) and not re.search(r"_", answer):
        return normal(based[1]) == normal(answer)
    if re.search(r"\d_", gold + answer):
        # a number in some base, of which the parser knows nothing
        return re.sub(r"[{}\s]", "", gold) == re.sub(r"[{}\s]", "", answer)
    if b is not None:
        return symbols.near_literal(gold, b)
    if re.fullmatch(r"\(?\s*[A-Za-z]\s*\)?", gold) and re.fullmatch(r"\(?\s*[A-Za-z]\s*\)?\.?", answer):
        return re.sub(r"[^A-Za-z]", "", gold) == re.sub(r"[^A-Za-z]", "", answer)
    constant = _INTEGRATION.search(answer)
    if constant and gold.endswith("C") and constant[1] not in gold + answer[: constant.start()]:
        answer = answer[: constant.start()] + "+ C"
    return symbols.same_expression(gold, answer)


def _same_ratio(gold: str, answer: str) -> bool:
    """3 : 4 is 6 : 8, but 12:00 is a time."""
    answer = re.sub(r"^(\d+) to (\d+)$", r"\1:\2", answer)
    halves = [_HALF_OF_DAY.search(without_text(text)) for text in (gold, answer)]
    if halves[0] and halves[1] and halves[0][1].lower() != halves[1][1].lower():
        return False
    gold, answer = (_HALF_OF_DAY.sub("", re.sub(r"\s*\\text\s*\{[^{}]*\}$", "", text)) for text in (gold, answer))
    sides = [[part.strip() for part in text.split(":")] for text in (gold, answer)]
    if len(sides[0]) == 1 or len(sides[1]) == 1:
        return len(sides[0]) == 2 and _same_leaves(rf"\frac{{{sides[0][0]}}}{{{sides[0][1]}}}", answer)
    if len(sides[0]) != len(sides[1]):
        return False
    if any(re.fullmatch(r"0\d", part) for part in (*sides[0][1:], *sides[1][1:])):
        return [part.lstrip("0") for part in sides[0]] == [part.lstrip("0") for part in sides[1]]
    first = [rf"({a})*({d})" for a, d in zip(sides[0], sides[1][::-1], strict=True)]
    if len(sides[0]) == 2:
        return symbols.same_expression(first[0], first[1])
    return all(
        symbols.same_expression(rf"({sides[0][0]})*({b})", rf"({sides[1][0]})*({a})")
        for a, b in zip(sides[0][1:], sides[1][1:], strict=True)
    )


def _same_chains(gold: Chain, answer: Chain) -> bool:
    if len(gold.sides) != len(answer.sides):
        return False
    flips = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
    if gold.relations == answer.relations == (r"\equiv",):
        return _same_congruences(gold.sides, answer.sides)
    if len(gold.sides) == 2:
        return symbols.same_relation(
            (gold.sides[0], gold.relations[0], gold.sides[1]), (answer.sides[0], answer.relations[0], answer.sides[1])
        )
    turned = Chain(answer.sides[::-1], tuple(flips.get(relation, relation) for relation in answer.relations[::-1]))
    return any(
        gold.relations == other.relations
        and all(_same_leaves(a, b) for a, b in zip(gold.sides, other.sides, strict=True))
        for other in (answer, turned)
    )


def _same_congruences(gold: Sequence[str], answer: Sequence[str]) -> bool:
    r"""`n \equiv 3 \pmod 7` is `n \equiv 10 \pmod 7`."""
    moduli = [MODULUS.search(sides[1]) for sides in (gold, answer)]
    if not (
        moduli[0] and moduli[1] and int(moduli[0][1]) == int(moduli[1][1]) > 0 and _same_leaves(gold[0], answer[0])
    ):
        return False
    rests = [sides[1][: modulus.start()] for sides, modulus in zip((gold, answer), moduli, strict=True) if modulus]
    numbers = [literal(rest) for rest in rests]
    if numbers[0] is None or numbers[1] is None:
        return _same_leaves(rests[0], rests[1])
    return (numbers[0].value - numbers[1].value) % int(moduli[0][1]) == 0
