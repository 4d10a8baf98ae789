"""Reads reference answers, as data sets write them: boxed, behind `####`, or in a sentence."""

import re
from dataclasses import dataclass
from functools import lru_cache

from verifier import symbols
from verifier.answers import Answer, Formula, Many, Number, Operation, Row
from verifier.extract import find_answer
from verifier.golds import damage_in
from verifier.grade import BadGold
from verifier.integers import show
from verifier.latex import clean, depth_of, unwrap
from verifier.leaves import normal
from verifier.literals import Literal, literal, too_many_digits
from verifier.marks import last_box
from verifier.names import TooLarge
from verifier.prose import MAX_CANDIDATE, is_prose
from verifier.reading import read
from verifier.stated import NEGATION, number_in

MAX_CLEAN_DEPTH = 40
PLAIN_NUMBER = re.compile(r" *[-+]?[\d.,/]{1,100} *", re.ASCII)
"""What needs no cleaning: most answers."""
AS_TEXT = re.compile(
    r"\\(?:mathbb|emptyset|p?mod|angle|circ|forall|exists|n?mid|dagger|neg|partial|o?i*nt|sum|prod|lim)(?![a-z])|\d(?:\s*_| \d)|\\\{|\.\.\."
)
"""Signs beyond our grammar: what has them is compared as text."""
_DOLLAR = re.compile(r"(?<!\\)\$")
_STATES = re.compile(r"\b(?:is|are|equals?|answer)\b|[=:]", re.IGNORECASE)
"""What makes a sentence with a formula state it; others, such as `a circle of radius $3$`, are the answer as a whole."""
_STATED_NEXT = re.compile(
    r"(?:\b(?:is|are|equals?|answer|be)|[=:])(?:\s+(?:equal\s+to|simply|just|exactly))?\s*$", re.IGNORECASE
)
_PRODUCT = re.compile(r"[+-]?\d+[A-Za-z]$")
_NO_NUMBER = re.compile(rf"=|\\equiv(?!.*mod)|^{_PRODUCT.pattern}")
"""`x = 5` says more than 5: another name is another answer."""


@dataclass(frozen=True, slots=True)
class Gold:
    """A reference answer, read."""

    text: str
    tree: Answer
    literal: Literal | None
    """If the answer is a number."""


@lru_cache(maxsize=4000)
def read_gold(gold: str) -> Gold:
    """Read a reference answer; raises BadGold if it is empty, or nothing that could be compared."""
    if not gold.strip():
        raise BadGold("the gold answer is empty")
    if PLAIN_NUMBER.fullmatch(gold) and "," not in gold and (number := literal(gold)):
        return Gold(gold.strip(), Number(gold.strip(), number), number)
    if damage := damage_in(gold):
        raise BadGold(damage)
    cleaned = clean(_gold_text(gold))
    if not re.search("[A-Za-z0-9]", cleaned) or not normal(cleaned):
        raise BadGold(f"{show(gold)} holds no answer")
    if len(cleaned) > MAX_CANDIDATE or depth_of(cleaned) > MAX_CLEAN_DEPTH or too_many_digits(cleaned):
        raise BadGold(f"{show(gold)} is too long or too deep")
    tree = read(cleaned)
    if isinstance(tree, Number) and tree.listed:
        tree = Many(tree.listed)  # 3,4: a list and no decimal, see verifier.golds
    if _PRODUCT.match(cleaned):
        tree = Formula(cleaned)  # 2A: twice A, no two amperes
    _check(tree, gold)
    is_number = not isinstance(tree, Many) and not _NO_NUMBER.search(cleaned)
    return Gold(cleaned, tree, number_in(cleaned) if is_number else None)


def _gold_text(gold: str) -> str:
    if (box := last_box(gold)) and (box.listed or box.text).strip():
        return box.listed or box.text
    if (opened := re.search(r"\\{1,2}boxed\s*\{(.*)$", gold, re.DOTALL)) and "\\boxed" not in opened[1]:
        return opened[1]
    if hashes := re.search(r"####\s*(.+?)\s*$", gold):
        return hashes[1]
    whole = unwrap(gold)
    if len(_DOLLAR.findall(gold)) < 2 or literal(clean(whole)) is not None:
        return whole
    if not is_prose(re.sub(r"\$[^$]*\$", " ", gold)):
        return _DOLLAR.sub(" ", gold)
    found = find_answer(gold)
    return found.text if found.by != "none" and _states_formula(gold) else gold


def _states_formula(gold: str) -> bool:
    """Whether a sentence states its last formula: `The answer is $5$ apples`, but not `$n$ is a multiple of $6$`."""
    before, formula, behind = gold.rsplit("$", 2)
    if re.search("[=<>]", formula) and _STATES.search(gold):
        return not NEGATION.search(behind)
    before = re.sub(r"(?:\$[^$]*\$(?:\s|,|and\b|or\b)*)+$", "", before)
    return _STATED_NEXT.search(before) is not None and not _STATES.search(behind)


def _check(tree: Answer, gold: str) -> None:
    """Raise BadGold for a leaf that is neither words nor an expression."""
    match tree:
        case Formula(text):
            if gold.replace(" ", "").isdigit():
                raise BadGold(f"{show(gold)} is a number or a list of several")
            as_text = AS_TEXT.search(text) or re.search(r"[A-Za-z]{2}|:", re.sub(r"\\[A-Za-z]+", "", text))
            try:
                known = (as_text and text.count("{") == text.count("}")) or symbols.parse(text) is not None
            except TooLarge:
                known = True  # it can still be compared as text
            if not known:
                raise BadGold(f"{show(gold)} does not parse")
        case Many(items) | Row(items) | Operation(_, items):
            for item in items:
                _check(item, gold)
