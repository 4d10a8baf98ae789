"""Compares what stands at the leaves of answers' trees: numbers, formulas, words, ratios, and the names of values."""

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from verifier import symbols, units
from verifier.answers import Answer, Chain, Family, Formula, Grid, Many, Named, Number, Operation, Ratio, Row, Words
from verifier.latex import split_outside, without_commands, without_text
from verifier.literals import same_number
from verifier.wording import number_words

_EMPTY = frozenset(
    {"no solution", "no solutions", "none", "empty set", "the empty set", "no real solutions", "no real solution"}
)
_INTEGRATION = re.compile(r"\s*\+?\s*[CcKk](?:_\{?\d\}?)?\s*")
"""A constant of integration, whatever its name."""
_PLUS_OR_MINUS = re.compile(r"(?<=[\w})\]|!])\s*[+-]\s*")
_WHOLE = frozenset("klmnjz")
_WORD = re.compile("[A-Za-z]{3}")
_TRANSPOSE = r"[a-z]\s*\^\s*\{?\s*(?:T|\\top|\\intercal)(?![a-z])\s*\}?"
_ROW_TIMES = re.compile(rf"{_TRANSPOSE}\s*[A-Za-z]|(?<![A-Za-z\\])[A-Za-z]\s*{_TRANSPOSE}")
"""A transposed vector in a product, whose order counts."""
_PERIOD = re.compile(
    r"(?=.*(?:\\pi(?![a-z])|°))(?:[\d\s+*/(){}°-]|\(-1\)\s*\^|(?<![A-Za-z\\])[a-z](?![a-z])|\\(?:pi|frac|cdot|times)(?![a-z]))+"
)
"""A sum with a period in it; a letter under a function or a power is no free one."""
_NAME = re.compile(r"\(?\s*[A-Za-z]\s*\)?\.?")
_FUNCTION_OF_X = re.compile(r"[fgh]\([a-xz]\)")
_LETTER = re.compile(r"\\?[a-z]+")
"""What a function or a sequence is of, and may be named otherwise. Events, P(A), are what they are."""


def text_of(tree: Answer) -> str:
    """The text of a leaf; empty for others."""
    return tree.text if isinstance(tree, Number | Formula | Words) else ""


def normal(text: str) -> str:
    r"""A text without what makes no difference: white space, `\text`, case, the full stop."""
    plain = re.sub(r"(?:(?<!\.\.)\.|[,;])$", "", re.sub(r"\s+", "", without_text(text)))
    return plain.lower() if _WORD.search(without_commands(text)) else plain  # R/r is not r/R


def same_leaves(gold: Number | Formula, answer: Number | Formula) -> bool:
    """Whether two numbers or formulas have the same value."""
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
    if _ROW_TIMES.search(a) or _ROW_TIMES.search(b):
        a, b = (re.sub(r"\\(?:top|intercal)(?![a-z])", "T", re.sub(r"[{}\s]", "", text)) for text in (a, b))
        return a == b
    if isinstance(answer, Number):
        if symbols.is_formula_of_letters(a):
            is_plain = not answer.value.unit and not answer.value.percent
            return is_plain and symbols.same_expression(a, b)
        return symbols.near_literal(a, answer.value)
    if _NAME.fullmatch(a) and _NAME.fullmatch(b):
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
        letters = set(re.findall("[A-Za-z]", without_commands(rest))) - {"e"}
        is_plain = len(letters) == 1 or re.search("[CK]", "".join(terms)) is not None
        if len(others) != len(terms) - 1 or not letters or not is_plain or any(map(str.isupper, letters)):
            return None
        parts.append(rest)
    return (parts[0], parts[1]) if all(parts) else None


def _same_based(gold: str, answer: str) -> bool:
    """Numbers in some base, of which the parser knows nothing; the base may be left out of the answer."""
    plain = [re.sub(r"[{}\s]", "", without_text(text)) for text in (gold, answer)]
    gold, answer = (re.sub("(?<=_)[a-z]+$", lambda of: f"{number_words(of[0]) or of[0]}", text) for text in plain)
    number = gold.partition("_")[0]
    return answer in (gold, number) if re.fullmatch(r"[0-9A-Fa-f.]+", number) else answer == gold


def _with_integer_letter(gold: str, answer: str) -> str:
    r"""`\frac{\pi}{3} + n\pi` with the gold's letter k for n: the solutions of an equation with a period."""
    if not _PERIOD.fullmatch(gold) or not _PERIOD.fullmatch(answer):
        return answer
    mine, theirs = (set(re.findall(r"[A-Za-z]", without_commands(text))) for text in (gold, answer))
    if mine == theirs or len(mine) != 1 or len(theirs) != 1 or not mine | theirs <= _WHOLE:
        return answer
    return symbols.renamed(answer, {theirs.pop(): mine.pop()})


def same_words(a: str, b: str) -> bool:
    """Whether two answers in words are the same, articles aside."""
    plain, other = (re.sub(r"^(?:the|an?) ", "", words) for words in (a, b))
    return plain == other or (a in _EMPTY and b in _EMPTY)


def same_text(gold: Answer, answer: Answer) -> bool:
    """Words against a leaf: `odd` may have been read as a product of letters."""
    match gold, answer:
        case (Words(words), Formula(text) | Number(text)) | (Formula(text) | Number(text), Words(words)):
            if words in _EMPTY and r"\emptyset" in text:
                return True
            if text[:1] in ("+", "-") or re.search(r"[+*/^=<>]", text):
                return False
            plain = re.sub(r"[^a-zA-Z0-9]+", " ", without_text(text)).strip()
            return plain == words if len(words) == 1 else same_words(plain.lower(), words)
    return False


def same_ratio(gold: Ratio, answer: Ratio) -> bool:
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


# -- names: x, x_1, f(x), a_n, P(X = 3) -------------------------------------------------------------------------------


def renaming(gold: str, answer: str) -> dict[str, str] | None:
    """Letters of the answer that the gold calls otherwise, f(t) for f(x); None if the two name different things."""
    if gold == answer or base_of(gold) == base_of(answer):
        return {}
    for name, function in ((gold, answer), (answer, gold)):
        if name == "y" and _FUNCTION_OF_X.fullmatch(function):
            return {}  # y = 3x - 2 is f(x) = 3x - 2
    (head, mine), (other_head, theirs) = _parts(gold), _parts(answer)
    if not head or head != other_head:
        return None
    if not mine or not theirs:
        return {} if all(re.fullmatch(r"[A-Za-z](?:_\w)?", argument) for argument in mine or theirs) else None
    if len(mine) != len(theirs) or len(set(theirs)) != len(theirs) or not re.fullmatch(r"\\?[A-Za-z]'*", head):
        return None
    pairs = [pair for pair in zip(theirs, mine, strict=True) if pair[0] != pair[1]]
    return dict(pairs) if all(_LETTER.fullmatch(letter) for pair in pairs for letter in pair) else None


def _parts(label: str) -> tuple[str, list[str]]:
    """The name of a function or a sequence, and what it is of: f(x), a_n."""
    if function := re.fullmatch(r"([^(\[]+)[(\[](.*)[)\]]", label):
        return function[1], function[2].split(",")
    sequence = re.fullmatch(r"([A-Za-z])_([a-z])", label)
    return (sequence[1], [sequence[2]]) if sequence else (label, [])


def base_of(label: str) -> str:
    """A name of an unknown without the number of the solution. The terms of a sequence, a_1, are named by theirs."""
    return re.sub(r"^((?:[k-tw-z]|\\?(?:lambda|theta))'*)_\{?\d+\}?$", r"\1", label)


def with_letters(tree: Answer, names: dict[str, str]) -> Answer | None:
    """A tree with other names for some letters; None if another letter has a new name already."""
    there: set[str] = set()

    def change(text: str) -> str:
        there.update(symbols.LETTER.findall(text))
        return symbols.renamed(text, names)

    changed: Answer = _changed(tree, change)
    return None if there.intersection(set(names.values()) - set(names)) else changed


def _changed(part: Any, change: Callable[[str], str]) -> Any:
    """A tree, or a part of one, with every formula and label changed."""
    match part:
        case tuple():
            return tuple(_changed(item, change) for item in part)
        case Formula(text):
            return Formula(change(text))
        case Named(name, value) | Family(name, value):
            return replace(part, **{fields(part)[0].name: change(name), "value": _changed(value, change)})
        case Many() | Operation() | Row() | Grid() | Chain():
            return type(part)(*(_changed(getattr(part, field.name), change) for field in fields(part)))
    return part
