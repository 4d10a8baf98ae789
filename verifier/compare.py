"""Compares two answers' trees (`verifier.answers`): item by item, and leaf by leaf."""

import re
from collections.abc import Sequence

from verifier import symbols, units
from verifier.answers import (
    Answer,
    Chain,
    Family,
    Formula,
    Grid,
    Leaf,
    Many,
    Named,
    Number,
    Operation,
    Ratio,
    Row,
    Words,
    text_of,
    with_letters,
)
from verifier.labels import base_of, is_name, renaming
from verifier.latex import split_outside, without_text
from verifier.literals import Literal, same_number
from verifier.reals import same_reals

MAX_REPEATED = 50
"""Longest list in which repetitions are looked for."""
_EMPTY = frozenset(
    {"no solution", "no solutions", "none", "empty set", "the empty set", "no real solutions", "no real solution"}
)
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_CONVERSE = _FLIPPED | {
    r"\subset": r"\supset",
    r"\subseteq": r"\supseteq",
    r"\supset": r"\subset",
    r"\supseteq": r"\subseteq",
}
_ONE_WAY = frozenset({r"\in"})
_INTEGRATION = re.compile(r"\s*\+?\s*[CcKk](?:_\{?\d\}?)?\s*")
"""A constant of integration, whatever its name."""
_PLUS_OR_MINUS = re.compile(r"(?<=[\w})\]|!])\s*[+-]\s*")
_WHOLE = frozenset("klmnjz")
_WORD = re.compile("[A-Za-z]{3}")
_PLAIN_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3}")
_VARIABLE = re.compile("[A-Za-z]'*")
_PERIOD = re.compile(
    r"(?=.*(?:\\pi(?![a-z])|°))(?:[\d\s+*/(){}°-]|(?<![A-Za-z\\])[a-z](?![a-z])|\\(?:pi|frac|cdot|times)(?![a-z]))+"
)
"""A sum with a period in it; a letter under a function or a power is no free one."""


def same(gold: Answer, answer: Answer) -> bool:
    """Whether two trees hold the same answer."""
    if gold == answer and not isinstance(gold, Chain):
        return True
    match gold, answer:
        case (Family(), _) | (_, Family()):
            return _same_families(gold, answer)
        case Named(), Named():
            return _same_named(gold, answer)
        case Named(_, value), _ if not isinstance(answer, Chain):
            return same(value, answer)
        case _, Named(_, value) if not isinstance(gold, Chain):
            return same(gold, end_of(value, named=True))
        case Words(a), Words(b):
            return _same_words(a, b)
        case Ratio(), Ratio():
            return _same_ratio(gold, answer)
        case Ratio((a, b)), Number() | Formula():
            return same(Formula(rf"\frac{{{text_of(a)}}}{{{text_of(b)}}}"), answer)
        case Number() | Formula(), Number() | Formula():
            return _same_leaves(gold, answer)
        case Number() | Formula(), Chain():
            end = end_of(answer)
            return isinstance(end, Number | Formula) and _same_leaves(gold, end)
        case (Chain(), Named(label, Number() | Formula() as value)) if _VARIABLE.fullmatch(label):
            return _same_chains(gold, Chain((Formula(label), value), ("=",))) or same_reals(gold, answer)
        case (Named(label, Number() | Formula() as value), Chain()) if _VARIABLE.fullmatch(label):
            return _same_chains(Chain((Formula(label), value), ("=",)), answer) or same(value, end_of(answer))
        case Chain(), Chain():
            return _same_chains(gold, answer) or same_reals(gold, answer)
        case _:
            return _same_several(gold, answer) or same_reals(gold, answer) or _same_text(gold, answer)


# -- several values ---------------------------------------------------------------------------------------------------


def _same_several(gold: Answer, answer: Answer) -> bool:
    match gold, answer:
        case Many() | Row(), Number(_, _, listed) if listed:
            return _same_several(gold, Many(listed))
        case Many(), Many():
            return _same_lists(gold, answer)
        case Operation(), Operation():
            return _same_operations(gold, answer)
        case Operation(sign, items), Many() if sign in ("lor", "land"):
            return answer.word == {"lor": "or", "land": "and"}[sign] and _matched(items, answer.items)
        case Row(a, start, stop), Row(b, opening, closing):
            return (start, stop) == (opening, closing) and _in_order(a, b)
        case Grid(a), Grid(b):
            return len(a) == len(b) and all(_in_order(row, other) for row, other in zip(a, b, strict=True))
        case (Grid(rows), Row(items)) if all(len(row) == 1 for row in rows):
            return _in_order([row[0] for row in rows], items)
        case (Row(items, "(", ")"), Grid(rows)) if all(len(row) == 1 for row in rows):
            return _in_order(items, [row[0] for row in rows])
        case Many(), Row():
            return not gold.braces and _as_point(gold, answer)
        case Row(), Many():
            return not answer.braces and _as_point(answer, gold)
    return False


def _same_lists(gold: Many, answer: Many) -> bool:
    if {gold.word, answer.word} == {"and", "or"} and any(isinstance(item, Chain) for item in gold.items):
        return False
    if answer.word == "or" != gold.word and all(isinstance(item, Words) for item in answer.items):
        return False
    golds, answers = list(gold.items), list(answer.items)
    if len(golds) != len(answers):
        if max(len(golds), len(answers)) > MAX_REPEATED:
            return False
        distinct = _distinct(golds)
        if gold.braces or answer.braces or len(distinct) == len(golds):
            golds, answers = distinct, _distinct(answers)
    if len(golds) != len(answers):
        return False
    return _same_items(golds, answers, gold.braces)


def _same_items(golds: list[Answer], answers: list[Answer], is_set: bool) -> bool:
    """Items in any order, unless the names on one side order those on the other."""
    gold_names = {base_of(item.label) for item in golds if isinstance(item, Named)}
    names = {base_of(item.label): item for item in answers if isinstance(item, Named)}
    if len(gold_names) > 1 and not names:
        return _in_order(golds, answers)
    if len(names) > 1 and not gold_names:
        if is_set:
            return False  # "x = 1, y = 2" is no set of two values
        if len(names) == len(answers):
            return _in_order(golds, [names[name] for name in sorted(names)])
    return _matched(golds, answers)


def _distinct(items: Sequence[Answer]) -> list[Answer]:
    found: list[Answer] = []
    for item in items:
        if not any(same(other, item) for other in found):
            found.append(item)
    return found


def _matched(golds: Sequence[Answer], answers: Sequence[Answer]) -> bool:
    """Whether each gold item has an answer of its own. Equality is an equivalence, so the first match will do."""
    left = list(answers)
    for gold in golds:
        index = next((index for index, answer in enumerate(left) if same(gold, answer)), None)
        if index is None:
            return False
        del left[index]
    return not left


def _in_order(golds: Sequence[Answer], answers: Sequence[Answer]) -> bool:
    return len(golds) == len(answers) and all(same(a, b) for a, b in zip(golds, answers, strict=True))


def _as_point(listed: Many, point: Row) -> bool:
    """A point (3, 2) given as `3, 2` or as `x = 3, y = 2`."""
    if (point.opening, point.closing) != ("(", ")"):
        return False
    values = {item.label: item.value for item in listed.items if isinstance(item, Named) and len(item.label) == 1}
    if values:
        ordered = [values[label] for label in sorted(values)]
        return len(values) == len(listed.items) and _in_order(point.items, ordered)
    return _in_order(point.items, listed.items)


def _same_operations(gold: Operation, answer: Operation) -> bool:
    if gold.sign != answer.sign or len(gold.items) != len(answer.items):
        return False
    return (_in_order if gold.sign in ("to", "setminus") else _matched)(gold.items, answer.items)


# -- names, families, chains ------------------------------------------------------------------------------------------


def _same_named(gold: Named, answer: Named) -> bool:
    names = renaming(gold.label, answer.label)
    if names is not None:
        other = with_letters(answer.value, names) if names else answer.value
        if other is None:
            return False
        if isinstance(gold.value, Chain) and isinstance(other, Chain):
            return same(gold.value, other) or same(gold.value.sides[-1], other.sides[-1])
        return same(gold.value, other if isinstance(gold.value, Chain) else end_of(other, named=True))
    a, b = text_of(gold.value), text_of(answer.value)
    if len(gold.label) == len(answer.label) == 1 and a and b:
        return symbols.same_relation((gold.label, "=", a), (answer.label, "=", b))
    return False


def _same_families(gold: Answer, answer: Answer) -> bool:
    r"""`x = 2k, k \in \mathbb{Z}`: the letter may be another on the other side."""
    match gold, answer:
        case Family(a, value), Family(b, other):
            renamed = other if a == b else with_letters(other, {b: a})
            return renamed is not None and same(value, renamed)
        case Family(_, value), _:
            return same(value, answer)
        case _, Family(_, value):
            return same(gold, value)
    return False


def end_of(tree: Answer, *, named: bool = False) -> Answer:
    """The last side of a chain of equations, if the other sides agree with it."""
    if not isinstance(tree, Chain) or any(relation != "=" for relation in tree.relations):
        return tree
    end = tree.sides[-1]
    if isinstance(end, Number):
        return end if number_of(tree, named=named) is not None else tree
    if not isinstance(end, Formula):
        return tree
    agree = all(isinstance(side, Number | Formula) and _same_leaves(end, side) for side in tree.sides[:-1])
    return end if agree else tree


def number_of(tree: Answer, *, named: bool = False) -> Number | None:
    """The number that an answer states: `x = 5` as 5, `6 + 10 = 16` as 16 if its sides agree; None if it states none.

    A named chain, `x = 2 + 3 = 5`, is a derivation: its end counts, unless a side of it is another number.
    """
    match tree:
        case Number():
            return tree
        case Named(_, value):
            return number_of(value, named=True)
        case Chain((left, Number() as right), (r"\equiv",), modulus) if modulus:
            return right if _leaves_rest(left, right.value, int(modulus)) else None
        case Chain(sides, relations, "") if set(relations) == {"="}:
            ends = [side for side in (sides[-1], sides[0]) if isinstance(side, Number)]
            if not ends or (named and ends[0] is not sides[-1]):
                return None
            return ends[0] if all(_may_be(side, ends[0].value, named=named) for side in sides) else None
    return None


def _may_be(side: Answer, number: Literal, *, named: bool) -> bool:
    if isinstance(side, Number):
        return same_number(number, side.value)
    if not isinstance(side, Formula):
        return named
    if named:
        return symbols.is_formula_of_letters(side.text) or symbols.near_literal(side.text, number, rounded=True)
    return _is_unknown(side.text) or symbols.near_literal(side.text, number)


def _leaves_rest(left: Answer, rest: Literal, modulus: int) -> bool:
    value = symbols.integer_of(text_of(left)) if text_of(left) else None
    return value is not None and modulus > 0 and (value - rest.value) % modulus == 0


def _is_unknown(side: str) -> bool:
    """Whether a side is made of variables, as in `2a + b = 17`: then the equation states their value.

    One multiple of one variable is none: `2a = 3` states a.
    """
    side = re.sub(r"(?<![A-Za-z\\])[A-Za-z]\(\s*-?\w+\s*\)", "f", side)
    if re.fullmatch(r"(?:-\s*\d*|\d+)\s*\*?\s*[A-Za-z]", side):
        return False
    plain = re.sub(r"\\bmod\s*\d+|[\^_]\s*(?:\{[^{}]*\}|\w)|\d+(?=\s*[A-Za-z(\\])|\\[a-z]+", "", side)
    return re.search(r"[A-Za-z]", plain) is not None and not re.search(r"\d", plain)


def _same_chains(gold: Chain, answer: Chain) -> bool:
    if len(gold.sides) != len(answer.sides):
        return False
    if gold.modulus or answer.modulus:
        return _same_congruences(gold, answer)
    is_numeric = gold.relations[0] in _FLIPPED or gold.relations[0] in ("=", r"\ne")
    if len(gold.sides) == 2 and is_numeric and all(text_of(side) for side in (*gold.sides, *answer.sides)):
        a, b = ((text_of(chain.sides[0]), chain.relations[0], text_of(chain.sides[1])) for chain in (gold, answer))
        return symbols.same_relation(a, b)
    turned = Chain(answer.sides[::-1], tuple(_CONVERSE.get(relation, relation) for relation in answer.relations[::-1]))
    if not _ONE_WAY.isdisjoint(gold.relations):
        turned = answer
    return any(gold.relations == other.relations and _in_order(gold.sides, other.sides) for other in (answer, turned))


def _same_congruences(gold: Chain, answer: Chain) -> bool:
    r"""`n \equiv 3 \pmod 7` is `n \equiv 10 \pmod 7`."""
    if gold.relations != answer.relations or gold.modulus != answer.modulus or not same(gold.sides[0], answer.sides[0]):
        return False
    a, b = gold.sides[1], answer.sides[1]
    if isinstance(a, Number) and isinstance(b, Number) and int(gold.modulus) > 0:
        return (a.value.value - b.value.value) % int(gold.modulus) == 0
    return same(a, b)


# -- leaves -----------------------------------------------------------------------------------------------------------


def normal(text: str) -> str:
    r"""A text without what makes no difference: white space, `\text`, case, the full stop."""
    if len(text) < 2:
        return text
    plain = re.sub(r"\s+", "", without_text(text)).strip(".,;")
    return plain.lower() if _WORD.search(re.sub(r"\\[A-Za-z]+", " ", text)) else plain  # R/r is not r/R


def _same_leaves(gold: Leaf, answer: Leaf) -> bool:
    match gold, answer:
        case Number(_, value), Number(_, other):
            return same_number(value, other)
        case Number(), Formula():
            return False
    a, b = gold.text, answer.text
    if normal(a) == normal(b):
        return True
    measure = answer.value.unit if isinstance(answer, Number) else symbols.unit_of(b)
    if units.differ(symbols.unit_of(a), measure):
        return False
    if re.search(r"\d_", a + b):
        return _same_based(a, b)
    if isinstance(answer, Number):
        if symbols.is_formula_of_letters(a):
            is_plain = not answer.value.unit and not answer.value.percent and not _PLAIN_WORD.search(a)
            return is_plain and symbols.same_expression(a, b)
        return symbols.near_literal(a, answer.value)
    if is_name(a) and is_name(b):
        return a.strip("() .") == b.strip("() .")
    if (parts := _antiderivatives(a, b)) is not None:
        return symbols.same_antiderivative(*parts)
    return symbols.same_expression(a, _with_integer_letter(a, b))


def _antiderivatives(gold: str, answer: str) -> tuple[str, str] | None:
    """Two antiderivatives without their constants; None if other capital letters say that these are no such constants."""
    parts = []
    for text in (gold, answer):
        terms = [sign.strip() + term for sign, term in split_outside(text, _PLUS_OR_MINUS)]
        others = [term for term in terms if not _INTEGRATION.fullmatch(term)]
        rest = "".join(others).removeprefix("+")
        letters = set(re.findall("[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", rest))) - {"e"}
        is_plain = len(letters) == 1 or re.search("[CK]", "".join(terms)) is not None
        if len(others) != len(terms) - 1 or not letters or not is_plain or any(map(str.isupper, letters)):
            return None
        parts.append(rest)
    return (parts[0], parts[1]) if all(parts) else None


def _same_based(gold: str, answer: str) -> bool:
    """Numbers in some base, of which the parser knows nothing; the base may be left out of the answer."""
    based = re.fullmatch(r"(.+?)_\{?\s*(?:\d+|\\text\s*\{[^{}]*\})\s*\}?", gold)
    if based and re.fullmatch(r"[0-9A-Fa-f.]+", based[1]) and "_" not in answer:
        return normal(based[1]) == normal(answer)
    return re.sub(r"[{}\s]", "", gold) == re.sub(r"[{}\s]", "", answer)


def _with_integer_letter(gold: str, answer: str) -> str:
    r"""`\frac{\pi}{3} + n\pi` with the gold's letter k for n: the solutions of an equation with a period."""
    if not _PERIOD.fullmatch(gold) or not _PERIOD.fullmatch(answer):
        return answer
    mine, theirs = (set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", text))) for text in (gold, answer))
    if mine == theirs or len(mine) != 1 or len(theirs) != 1 or not mine | theirs <= _WHOLE:
        return answer
    changed = with_letters(Formula(answer), {theirs.pop(): mine.pop()})
    return text_of(changed) if changed is not None else answer


def _same_words(a: str, b: str) -> bool:
    plain, other = (re.sub(r"^(?:the|an?) ", "", words) for words in (a, b))
    return plain == other or (a in _EMPTY and b in _EMPTY)


def _same_text(gold: Answer, answer: Answer) -> bool:
    """Words against a leaf: `odd` may have been read as a product of letters."""
    match gold, answer:
        case (Words(words), Formula(text) | Number(text)) | (Formula(text) | Number(text), Words(words)):
            if words in _EMPTY and r"\emptyset" in text:
                return True
            if text[:1] in ("+", "-") or re.search(r"[+*/^=<>]", text):
                return False
            plain = re.sub(r"[^a-zA-Z0-9]+", " ", without_text(text)).strip()
            return plain == words if len(words) == 1 else _same_words(plain.lower(), words)
    return False


def _same_ratio(gold: Ratio, answer: Ratio) -> bool:
    """3 : 4 is 6 : 8, but 12:00 is a time."""
    if len(gold.parts) != len(answer.parts):
        return False
    a, b = ([text_of(part) for part in ratio.parts] for ratio in (gold, answer))
    if gold.half or answer.half or any(re.fullmatch(r"0\d", part) for part in (*a[1:], *b[1:])):
        return units.same_time((a, gold.half), (b, answer.half))
    if not all(a) or not all(b):
        return False
    if any(re.fullmatch("0+", part) for part in a + b):
        return a == b
    return all(
        symbols.same_expression(rf"({a[0]})*({q})", rf"({b[0]})*({p})") for p, q in zip(a[1:], b[1:], strict=True)
    )
