"""Whether an answer is mathematically the gold one: numbers exactly, lists and tuples by their form, the rest by sympy.

Rules that keep a policy from finding a hole: one place in the message counts (`verifier.extract`); where the gold answer
is a number, only a number that is written out counts, not a formula that comes to it; several values are no answer
where one is asked for; a chain of equations counts only if its sides agree.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from verifier import symbols
from verifier.extract import MAX_CANDIDATE, Found, find_answer, last_boxes
from verifier.graders import BadGold, Grade, correct, unparsable, wrong
from verifier.integers import no_number, show
from verifier.latex import clean, depth_of, unwrap, without_text
from verifier.literals import Literal, literal, same_number, too_many_digits
from verifier.shapes import Chain, Grid, Leaf, Many, Named, Row, Shape, Union, Words, shape_of

MAX_CLEAN_DEPTH = 40
MAX_REPEATED = 50
"""Longest list in which repetitions are looked for."""
_TWO_INTEGERS = re.compile(r"-?\d+,-?\d+", re.ASCII)
"""A decimal with a comma, or a list of two: whichever agrees."""
_PLAIN_NUMBER = re.compile(r"\s*[-+]?[\d.,/]{1,100}\s*", re.ASCII)
"""What needs no cleaning: most answers."""
_TEXT_BEFORE = re.compile(r"\s*\\text\s*\{([^{}]*)\}\s*(?=[-+$\\\d.])")
_NEGATION = re.compile(
    r"\b(?:not?|never|neither|nor|wrong|false|incorrect|except|either|or|least|most|more|less|fewer|greater|than|over|"
    r"under|above|below|between|up to)\b|n't",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"\s*(?:\\approx|\\sim)(?![a-z])\s*(?=[-+$\d.\\])")
_ASIDE = re.compile(r"(?<=[\d%])\s+\([A-Za-z][A-Za-z\s-]*\)$")
"""`84 (eighty-four)`."""
_MODULUS = re.compile(
    r"\s*(?:,\s*)?(?:\\pmod(?![a-z])|\(\s*(?:\\text\s*\{\s*mod\s*\}|\\?mod))\s*\{?\s*(\d{1,30})\s*\}?\s*\)?\s*$"
)
_HALF_OF_DAY = re.compile(r"(?<=\d)\s*([ap])\.?\s*m\b\.?\s*$", re.IGNORECASE)
_EVERYTHING = frozenset({"all real numbers", "all reals", "all real values", "any real number", "every real number"})
_CHOICE = re.compile(r"\s*(?:\(\s*([A-J])\s*\)|([A-J])\s*[).:])")
_ONE_LETTER = re.compile(r"(?:\(\s*([A-J])\s*\)|([A-J]))[.:]?")
_EMPTY = frozenset(
    {"no solution", "no solutions", "none", "empty set", "the empty set", "no real solutions", "no real solution"}
)
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Gold:
    """A reference answer, read."""

    text: str
    shape: Shape
    literal: Literal | None
    """If the answer is a number."""


def grade_math(gold: str, answer: str) -> Grade:
    """See `verifier.graders.math`."""
    wanted = read_gold(gold)
    if not answer.strip():
        return unparsable("the answer is empty")
    found = find_answer(answer, numeric=wanted.literal is not None)
    if wanted.literal is not None and _PLAIN_NUMBER.fullmatch(found.text) and (number := literal(found.text)):
        return _number_grade(same_number(wanted.literal, number), found.text)
    if found.by == "none":
        return unparsable("no answer found")
    if len(found.text) > MAX_CANDIDATE:
        return unparsable(f"the answer is {len(found.text)} characters long; want at most {MAX_CANDIDATE}")
    text = clean(found.text)
    if depth_of(text) > MAX_CLEAN_DEPTH:
        return unparsable(f"brackets are nested {depth_of(text)} deep; want at most {MAX_CLEAN_DEPTH}")
    if too_many_digits(text):
        return unparsable("too many digits")
    try:
        return _grade(wanted, text, found)
    except symbols.TooLarge as error:
        return unparsable(f"too large: {error}")


def _alone(shape: Shape) -> Shape:
    r"""The value of `\{5\}`, or of several boxes with the same one."""
    if isinstance(shape, Many) and len(set(shape.items)) == 1:
        return shape.items[0]
    return shape


def _grade(gold: Gold, text: str, found: Found) -> Grade:
    if gold.literal is not None:
        if (letters := _chosen(gold.text, text)) is not None and letters[0] != letters[1]:
            return wrong(f"another choice: {show(text)}")
        if letters is not None and _ONE_LETTER.fullmatch(without_text(text).strip()):
            return correct("same choice")
        number = literal(_number_text(text))
        if number is not None:
            return _number_grade(same_number(gold.literal, number), text)
        if _TWO_INTEGERS.fullmatch(gold.text) and same(shape_of(gold.text.replace(",", ", ")), shape_of(text)):
            return correct("the same two numbers")
        if _listed_twice(text, gold.literal):
            return correct("the same number, repeated")
        return no_number(found, text)
    if _normal(gold.text) == _normal(text) and not _is_void(text):
        return correct("same text")
    if isinstance(gold.shape, Leaf | Words) and re.fullmatch(r"[A-J]", gold.shape.text):
        choice = _CHOICE.match(without_text(text))
        text = (choice[1] or choice[2]) if choice else text
    shape = shape_of(text)
    if same(_alone(gold.shape), _alone(shape)) or _same_with_other_comma(gold, text):
        return correct("equal")
    if "matrix" in gold.text and "matrix" in text and symbols.same_expression(gold.text, text):
        return correct("equal matrices")
    if isinstance(shape, Leaf) and not re.search(r"[A-Za-z]{2}", text) and symbols.parse(shape.text) is None:
        return unparsable(f"does not parse: {show(text)}")
    return wrong(f"not equal: {show(text)}")


def _chosen(gold: str, answer: str) -> tuple[str, str] | None:
    r"""The letters of `\text{(D)} 60` and of an answer that names one too."""
    choice = _CHOICE.match(without_text(gold))
    chosen = _CHOICE.match(without_text(answer)) or _ONE_LETTER.fullmatch(without_text(answer).strip())
    return (choice[1] or choice[2], chosen[1] or chosen[2]) if choice and chosen else None


def _number_grade(equal: bool, text: str) -> Grade:
    return correct("same number") if equal else wrong(f"another number: {show(text)}")


def _is_void(text: str) -> bool:
    return not re.search(r"[A-Za-z0-9]|\\[a-z]+", text)


@lru_cache(maxsize=4000)
def read_gold(gold: str) -> Gold:
    """Read a reference answer.

    Raises:
        BadGold: it is empty, or nothing that could be compared.

    """
    if not gold.strip():
        raise BadGold("the gold answer is empty")
    if _PLAIN_NUMBER.fullmatch(gold) and (plain := literal(gold)):
        return Gold(gold.strip(), Leaf(gold.strip()), plain)
    text = _gold_text(gold)
    cleaned = clean(text)
    if not cleaned or _is_void(cleaned):
        raise BadGold(f"{gold[:_SHOWN]!r} holds no answer")
    if len(cleaned) > MAX_CANDIDATE or depth_of(cleaned) > MAX_CLEAN_DEPTH or too_many_digits(cleaned):
        raise BadGold(f"{gold[:_SHOWN]!r}... is too long or too deep")
    number = literal(_number_text(cleaned)) if not _names_something(cleaned) else None
    gold_shape = shape_of(cleaned)
    _check(gold_shape, gold)
    return Gold(cleaned, gold_shape, number)


def _gold_text(gold: str) -> str:
    boxed = last_boxes(gold)
    if boxed is not None and boxed.strip():
        return boxed
    opened = re.search(r"\\{1,2}boxed\s*\{(.*)$", gold, re.DOTALL)
    if opened and "\\boxed" not in opened[1]:
        return opened[1]
    hashes = re.search(r"####\s*(.+?)\s*$", gold)
    if hashes:
        return hashes[1]
    if "$" in gold:
        whole = unwrap(gold)
        if literal(clean(whole)) is None and len(re.findall(r"(?<!\\)\$", gold)) >= 2:
            from verifier.extract import is_prose

            if is_prose(re.sub(r"\$[^$]*\$", " ", gold)):
                found = find_answer(gold)
                return found.text if found.by != "none" else gold
            return re.sub(r"(?<!\\)\$", " ", gold)
    return unwrap(gold)


def _names_something(text: str) -> bool:
    """`x = 5` says more than 5: another name is another answer."""
    return "=" in text


def _check(gold_shape: Shape, gold: str) -> None:
    """Raise BadGold for a leaf that is neither words nor an expression."""
    match gold_shape:
        case Leaf(text):
            words = re.search(r"[A-Za-z]{2}|:", re.sub(r"\\[A-Za-z]+", "", text)) and text.count("{") == text.count("}")
            try:
                known = literal(text) is not None or bool(words) or symbols.parse(text) is not None
            except symbols.TooLarge:
                known = True  # it can still be compared as text
            if not known:
                raise BadGold(f"{gold[:_SHOWN]!r} does not parse")
        case Many(items) | Row(items) | Union(items):
            for item in items:
                _check(item, gold)
        case _:
            return


# -- numbers ----------------------------------------------------------------------------------------------------------


def _number_text(text: str) -> str:
    r"""The number that a text states: `x = 5` and `\text{Answer: } 5` as 5, `6 + 10 = 16` as 16 if its sides agree."""
    before = _TEXT_BEFORE.match(text)
    if before and not _NEGATION.search(before[1]):
        text = text[before.end() :]
    text = _ABOUT.sub("", text, count=1) if _ABOUT.match(text) else text
    aside = _ASIDE.search(text)
    if aside and not _NEGATION.search(aside[0]):
        text = text[: aside.start()]
    if "mod" in text and (modulus := _MODULUS.search(text)) and literal(text[: modulus.start()]) is not None:
        text = text[: modulus.start()]
    if "=" not in text and r"\approx" not in text:
        return text
    exact_part, _, approximate = text.partition(r"\approx")
    if approximate and (number := literal(exact_part)) and (rounded := literal(approximate)):
        return exact_part if _is_rounded(number, rounded) else text
    shape = shape_of(text)
    if isinstance(shape, Named) and isinstance(shape.value, Leaf):
        return shape.value.text
    if isinstance(shape, Named) and isinstance(shape.value, Chain):
        return _chain_end(shape.value, named=True) or text
    if isinstance(shape, Chain):
        return _chain_end(shape, named=False) or text
    return text


def _is_rounded(number: Literal, rounded: Literal) -> bool:
    """Whether a decimal is a number cut to the places that it shows, give or take one in the last."""
    return abs(number.value - rounded.value) <= Fraction(1, 10 ** (rounded.decimals or 0))


def _chain_end(chain: Chain, *, named: bool) -> str | None:
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


def _listed_twice(text: str, gold: Literal) -> bool:
    """Several boxes with one and the same number are one answer."""
    items = [literal(_number_text(item)) for item in re.split(r",\s+|\s+(?:and|or)\s+", text)]
    return len(items) > 1 and all(item is not None and same_number(gold, item) for item in items)


def _same_with_other_comma(gold: Gold, text: str) -> bool:
    """`6,8` was read as a decimal, but may be a list of two."""
    if literal(text) is None or not _TWO_INTEGERS.fullmatch(text):
        return False
    return same(gold.shape, shape_of(text.replace(",", ", ")))


def _normal(text: str) -> str:
    return re.sub(r"\s+", "", without_text(text)).strip(".,;").lower() if len(text) > 1 else text


# -- forms ------------------------------------------------------------------------------------------------------------


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
            return _same_many(gold, answer) or _same_reals(gold, answer)
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
            return _same_chains(gold, answer) or _same_reals(gold, answer)
        case (Many(), Row()):
            return (
                not gold.braces
                and answer.opening == "("
                and answer.closing == ")"
                and _in_order(gold.items, answer.items)
            )
        case (Row(), Many()):
            return not answer.braces and (_row_as_listed(gold, answer) or _same_reals(gold, answer))
        case (Leaf(a), Leaf(b)):
            return _same_leaves(a, b)
        case (Leaf(), Chain()):
            end = _end_of(answer)
            if isinstance(end, Leaf) and same(gold, end):
                return True
    return _same_reals(gold, answer) or _same_text(gold, answer)


def _same_named(a: str, value: Shape, b: str, other: Shape) -> bool:
    if _same_label(a, b):
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
        return end if _chain_end(shape, named=named) else shape
    agree = all(_same_leaves(shape.sides[-1], side) for side in shape.sides[:-1])
    return end if agree else shape


def _same_label(a: str, b: str) -> bool:
    def base(label: str) -> str:
        return re.sub(r"_\{?\d+\}?$|_\d$", "", label)

    def head(label: str) -> str:
        return label.partition("(")[0]

    def of_variable(label: str) -> bool:
        return re.search(r"\((?:[A-Za-z](?:,[A-Za-z])*|[A-Za-z]_\w)\)$", label) is not None

    if a == b or base(a) == base(b) or (bool(head(a)) and "(" in a and "(" in b and head(a) == head(b)):
        return True
    return bool(head(a)) and head(a) == head(b) and (of_variable(a) or of_variable(b))


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
    labels = [item.label if isinstance(item, Named) else None for item in golds]
    bases = {re.sub(r"_\{?\d+\}?$", "", label) for label in labels if label is not None}
    if len(bases) > 1 and not any(isinstance(item, Named) for item in answers):
        return _in_order(golds, answers)
    return _matched(golds, answers)


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


# -- sets of reals ----------------------------------------------------------------------------------------------------


def _same_reals(gold: Shape, answer: Shape) -> bool:
    """Intervals, inequalities and unions of them, as sets."""
    a, b = _reals(gold), _reals(answer)
    if a is None or b is None or (a[0] and b[0] and not _same_label(a[0], b[0])):
        return False
    return symbols.same_set(a[1], b[1])


def _reals(shape: Shape) -> tuple[str, Any] | None:
    """(variable or "", set of reals) that a form describes; None if it describes none."""
    match shape:
        case Row((Leaf(start), Leaf(stop)), opening, closing):
            found = symbols.interval(start, stop, opening, closing)
            return None if found is None else ("", found)
        case Chain(sides, relations):
            return symbols.real_set(sides, relations)
        case Named(label, value):
            inside = _reals(value) if isinstance(value, Row | Union | Many | Leaf) else None
            return None if inside is None else (label, inside[1])
        case Union(items):
            return _joined(items, symbols.union)
        case Many(items, True) if all(isinstance(item, Leaf) for item in items):
            numbers = symbols.finite_set([item.text for item in items if isinstance(item, Leaf)])
            return None if numbers is None else ("", numbers)
        case Many(items) if items and all(isinstance(item, Chain | Named) or _is_interval(item) for item in items):
            if any(isinstance(item, Chain) and r"\ne" in item.relations for item in items):
                return _joined(items, symbols.intersection)
            either = _joined(items, symbols.union)
            # "x > 3 and x < 5": all numbers fulfil one of the two, so both are meant
            everything = either is not None and either[1] == symbols.REALS
            return _joined(items, symbols.intersection) if everything else either
        case Words(words) if words in _EVERYTHING:
            return "", symbols.union([symbols.interval(r"-\infty", r"\infty", "(", ")")])
        case Leaf(text) if "\\" in text and re.search(r"mathbb|setminus|emptyset|cup|backslash", text):
            found = symbols.literal_set(text)
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


# -- leaves and relations ---------------------------------------------------------------------------------------------


def _same_leaves(gold: str, answer: str) -> bool:
    a, b = literal(gold), literal(answer)
    if a is not None:
        return b is not None and same_number(a, b)
    if _normal(gold) == _normal(answer):
        return True
    if ":" in gold or ":" in answer:
        return _same_ratio(gold, answer)
    based = re.fullmatch(r"(.+?)_\{?\s*(?:\d+|\\text\s*\{[^{}]*\})\s*\}?", gold)
    if based and re.fullmatch(r"[0-9A-Fa-f.]+", based[1]) and not re.search(r"_", answer):
        return _normal(based[1]) == _normal(answer)
    if re.search(r"\d_", gold + answer):
        # a number in some base, of which the parser knows nothing
        return re.sub(r"[{}\s]", "", gold) == re.sub(r"[{}\s]", "", answer)
    if b is not None:
        return symbols.near_literal(gold, b)
    if re.fullmatch(r"\(?\s*[A-Za-z]\s*\)?", gold) and re.fullmatch(r"\(?\s*[A-Za-z]\s*\)?\.?", answer):
        return re.sub(r"[^A-Za-z]", "", gold) == re.sub(r"[^A-Za-z]", "", answer)
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
    moduli = [_MODULUS.search(sides[1]) for sides in (gold, answer)]
    if not (
        moduli[0] and moduli[1] and int(moduli[0][1]) == int(moduli[1][1]) > 0 and _same_leaves(gold[0], answer[0])
    ):
        return False
    rests = [sides[1][: modulus.start()] for sides, modulus in zip((gold, answer), moduli, strict=True) if modulus]
    numbers = [literal(rest) for rest in rests]
    if numbers[0] is None or numbers[1] is None:
        return _same_leaves(rests[0], rests[1])
    return (numbers[0].value - numbers[1].value) % int(moduli[0][1]) == 0


def warm_up() -> None:
    """Let sympy import and cache what grading needs."""
    for gold, answer in (
        (r"\frac{1}{2}", r"\boxed{0.5}"),
        (r"x^2 + 2x + 1", r"$(x+1)^2$"),
        (r"\frac{\sqrt{3}}{2}\pi", r"The answer is $\sin(\pi/3)\pi$."),
        (r"(-\infty, 3]", r"x \le 3"),
        (r"2x + 4y = 3", r"y = -\frac{x}{2} + \frac{3}{4}"),
        (r"f(x) + \int_0^1 t dt", r"f(x) + \frac12"),
        (r"\{1, \sqrt{2}\}", r"\sqrt2, 1"),
        (r"\begin{pmatrix}1 & x\end{pmatrix}", r"\begin{bmatrix}1 & x\end{bmatrix}"),
    ):
        grade_math(gold, answer)
