"""Compares two answers' trees (`verifier.answers`): item by item, and leaf by leaf."""

import re
from collections.abc import Sequence

from verifier import symbols
from verifier.answers import Answer, Chain, Family, Formula, Grid, Many, Named, Number, Operation, Ratio, Row, Words
from verifier.leaves import base_of, renaming, same_leaves, same_ratio, same_text, same_words, text_of, with_letters
from verifier.literals import Literal, same_number
from verifier.reals import same_reals
from verifier.units import same_time

MAX_REPEATED = 50
"""Longest list in which repetitions are looked for."""
_SUBSETS = (r"\subset", r"\subseteq", r"\supset", r"\supseteq")
_CONVERSE = symbols.FLIPPED | dict(zip(_SUBSETS, _SUBSETS[2:] + _SUBSETS[:2], strict=True))
_VARIABLE = re.compile("[A-Za-z]'*")


def same(gold: Answer, answer: Answer) -> bool:
    """Whether two trees hold the same answer."""
    if gold == answer and not isinstance(gold, Chain):
        return True
    if isinstance(gold, Many | Named) and isinstance(answer, Many | Named):
        gold, answer = _spread(gold), _spread(answer)
    match gold, answer:
        case Family(a, value, natural), Family(b, other, also):  # the letter, and where it starts, may be another
            if (renamed := with_letters(other, {b: a})) is None or natural != also:
                return False
            is_set = isinstance(value, Named) and a not in value.label and not natural
            others = (with_letters(renamed, {a: f"({k})"}) for k in (f"{a}-1", f"{a}+1", f"-{a}") if is_set)
            return any(tree is not None and same(value, tree) for tree in (renamed, *others))
        case Family(_, value), _:
            return same(value, answer)
        case _, Family(_, value):
            return same(gold, value)
        case Named(), Many() | Row() if (several := _each(gold)) != gold:
            return _same_several(several, answer)
        case Many() | Row(), Named() if (several := _each(answer)) != answer:
            return _same_several(gold, several)
        case Named(), Named():
            return _same_named(gold, answer)
        case Named(_, value), _ if not isinstance(answer, Chain):
            return same(end_of(value, named=True), answer)
        case _, Named(_, value) if not isinstance(gold, Chain):
            return same(gold, end_of(value, named=True))
        case Words(a), Words(b):
            return same_words(a, b)
        case Ratio(), Ratio():
            return same_ratio(gold, answer)
        case Ratio(parts, "a" | "p" as half), Number(_, Literal(hour, unit="a.m" | "p.m" as unit)):
            return same_time(([*map(text_of, parts)], half), ([f"{hour}", "00"], unit[0]))
        case Ratio((a, b)), Number() | Formula():
            return same(Formula(rf"\frac{{{text_of(a)}}}{{{text_of(b)}}}"), answer)
        case Number() | Formula(), Number() | Formula():
            return same_leaves(gold, answer)
        case Number() | Formula(), Chain():
            end = end_of(answer)
            return isinstance(end, Number | Formula) and same_leaves(gold, end)
        case (Chain(), Named(label, Number() | Formula() as value)) if _VARIABLE.fullmatch(label):
            return _same_chains(gold, Chain((Formula(label), value), ("=",))) or same_reals(gold, answer)
        case (Named(label, Number() | Formula() as value), Chain()) if _VARIABLE.fullmatch(label):
            whole = Chain((Formula(label), value), ("=",))
            return _same_chains(whole, answer) or (label not in _letters(answer) and same(value, end_of(answer)))
        case Chain(), Chain():
            return _same_chains(gold, answer) or same_reals(gold, answer)
        case _:
            return _same_several(gold, answer) or same_reals(gold, answer) or same_text(gold, answer)


def _spread(tree: Answer) -> Answer:
    """`(a, b) = (1, 2)` as `a = 1, b = 2`."""
    match tree:
        case Named(label, Row(values, "(", ")")) if label[:1] == "(" and label.count(",") == len(values) - 1:
            return Many(tuple(map(Named, label[1:-1].split(","), values)))
    return tree


# -- several values ---------------------------------------------------------------------------------------------------


def _same_several(gold: Answer, answer: Answer) -> bool:
    match gold, answer:
        case Many() | Row(), Number(_, _, listed) if listed:
            return _same_several(gold, Many(listed))
        case Many(), Many():
            return _same_lists(gold, answer)
        case Operation(sign, items), Operation(other, parts):
            return sign == other and (_in_order if sign in ("to", "setminus") else _matched)(items, parts)
        case Operation("lor" | "land" as sign, items), Many():
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


def _each(tree: Answer) -> Answer:
    """`a = b = 1` as `a = 1, b = 1`."""
    labels, value = list[str](), tree
    while isinstance(value, Named) and _VARIABLE.fullmatch(value.label):
        labels, value = [*labels, value.label], value.value
    is_each = len(labels) > 1 and isinstance(value, Number | Formula)
    return Many(tuple(Named(label, value) for label in labels)) if is_each else tree


def _same_lists(gold: Many, answer: Many) -> bool:
    if {gold.word, answer.word} == {"and", "or"} and any(isinstance(item, Chain) for item in gold.items):
        return False
    if answer.word == "or" != gold.word:
        about = [_letters(item) for item in answer.items if isinstance(item, Named | Chain)]
        if all(isinstance(item, Words) for item in answer.items) or (about and not set.intersection(*about)):
            return False
    golds, answers = list(gold.items), list(answer.items)
    if len(golds) != len(answers) and max(len(golds), len(answers)) <= MAX_REPEATED:
        distinct = _distinct(golds)
        if gold.braces or answer.braces or len(distinct) == len(golds):
            golds, answers = distinct, _distinct(answers)
    return len(golds) == len(answers) and _same_items(golds, answers, gold.braces)


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
    counted = [
        {item.value.unit.rstrip("s"): item for item in items if isinstance(item, Number)} for items in (golds, answers)
    ]
    if len(golds) == len(counted[0]) > 1 and counted[0].keys() == counted[1].keys():  # 2 red, 3 blue
        return all(same(item, counted[1][unit]) for unit, item in counted[0].items())
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
        if (match := next((answer for answer in left if same(gold, answer)), None)) is None:
            return False
        left.remove(match)
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


# -- names, chains ----------------------------------------------------------------------------------------------------


def _same_named(gold: Named, answer: Named) -> bool:
    names = renaming(gold.label, answer.label)
    if names is not None:
        if (other := with_letters(answer.value, names)) is None:
            return False
        return same(end_of(gold.value, named=True), end_of(other, named=True))
    a, b = text_of(gold.value), text_of(answer.value)
    if all(map(_VARIABLE.fullmatch, (gold.label, answer.label))) and a and b:
        return symbols.same_relation((gold.label, "=", a), (answer.label, "=", b))
    return False


def _letters(tree: Named | Chain) -> set[str]:
    """What a name, or the sides of a chain before the last, are made of."""
    sides = [tree.label] if isinstance(tree, Named) else map(text_of, tree.sides[:-1])
    return {letter for side in sides for letter in symbols.LETTER.findall(side)}


def end_of(tree: Answer, *, named: bool = False) -> Answer:
    """The last side of a chain of equations, if the other sides agree with it."""
    if not isinstance(tree, Chain) or any(relation != "=" for relation in tree.relations):
        return tree
    end = tree.sides[-1]
    if isinstance(end, Formula):
        agree = all(isinstance(side, Number | Formula) and same_leaves(end, side) for side in tree.sides[:-1])
    else:
        agree = isinstance(end, Number) and number_of(tree, named=named) is not None
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
            whole = symbols.integer_of(text_of(left)) if text_of(left) else None
            leaves_it = whole is not None and int(modulus) > 0 and (whole - right.value.value) % int(modulus) == 0
            return right if leaves_it else None
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
    is_numeric = gold.relations[0] in symbols.FLIPPED or gold.relations[0] in ("=", r"\ne")
    if len(gold.sides) == 2 and is_numeric and all(text_of(side) for side in (*gold.sides, *answer.sides)):
        a, b = ((text_of(chain.sides[0]), chain.relations[0], text_of(chain.sides[1])) for chain in (gold, answer))
        return symbols.same_relation(a, b)
    turned = Chain(answer.sides[::-1], tuple(_CONVERSE.get(relation, relation) for relation in answer.relations[::-1]))
    return any(
        gold.relations == other.relations and _in_order(gold.sides, other.sides)
        for other in ((answer,) if r"\in" in gold.relations else (answer, turned))
    )


def _same_congruences(gold: Chain, answer: Chain) -> bool:
    r"""`n \equiv 3 \pmod 7` is `n \equiv 10 \pmod 7`."""
    if gold.relations != answer.relations or gold.modulus != answer.modulus or not same(gold.sides[0], answer.sides[0]):
        return False
    a, b = gold.sides[1], answer.sides[1]
    if isinstance(a, Number) and isinstance(b, Number) and int(gold.modulus) > 0:
        return (a.value.value - b.value.value) % int(gold.modulus) == 0
    return same(a, b)
