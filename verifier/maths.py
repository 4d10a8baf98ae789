"""Grades an answer: whether it is mathematically the gold one. Pure; reads both once and compares the trees.

Rules that keep a policy from finding a hole: one place in the message counts (`verifier.extract`); where the gold answer
is a number, only a number that is written out counts, not a formula that comes to it; several values are no answer
where one is asked for; a chain of equations counts only if its sides agree.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from verifier import symbols
from verifier.answers import Answer, Formula, Many, Number, Operation, Row, Words
from verifier.compare import number_of, same
from verifier.extract import Found, find_answer
from verifier.golds import damage_in
from verifier.grade import BadGold, Grade, correct, unparsable, wrong
from verifier.integers import no_number, show
from verifier.latex import clean, depth_of, unwrap, without_text
from verifier.leaves import normal
from verifier.literals import Literal, literal, same_number, too_many_digits
from verifier.marks import last_boxes
from verifier.names import TooLarge
from verifier.prose import MAX_CANDIDATE, is_prose
from verifier.reading import MODULUS, read
from verifier.wording import number_words

MAX_CLEAN_DEPTH = 40
MAX_CALLS = 1_000_000
"""Of functions, in which a limit, sum, product or integral must have shown its value: most need fewer than 300,000."""
ANSWER_CHARS = 200
"""Of the answer that was found, as the grade carries it."""
_ARITHMETIC = re.compile(r"(?:[\d\s.,+*/^!(){}-]|\\(?:cdot|times|frac|sqrt|binom)(?![a-z])){1,100}", re.ASCII)
_PLAIN_NUMBER = re.compile(r"\s*[-+]?[\d.,/]{1,100}\s*", re.ASCII)
"""What needs no cleaning: most answers."""
_TEXT_BEFORE = re.compile(
    r"\s*(?:\\text\s*\{([^{}]*)\}|[A-Za-z]\s*:\s|(?i:(?:the\s+)?(?:final\s+)?answer)\s*(?:is\s|[:=]))\s*(?=[-+$\\\d.])"
)
_ALL_TEXT = re.compile(r"\\text\s*\{([^{}]*\d[^{}]*)\}")
_NEGATION = re.compile(
    r"\b(?:not?|never|cannot|invalid|rejected|impossible|none|without|but|unless|neither|nor|wrong|false|incorrect|except|either|or|least|most|more|less|fewer|greater|than|over|"
    r"under|above|below|between|up to|negative|minus|plus|times|by|twice|half|double|triple|squared?|cubed?|root|"
    r"reciprocal|inverse|opposite|log|factorial|multiple|divisible|nearly|almost|close|maybe|perhaps|possibly|sure)\b|n't"
    r"|(?:\w+s|sum|product|part|half)\s+of\s*$|(?:problem|question|exercise|equation|figure|example|step)\s*$",
    re.IGNORECASE,
)
_SLOW = re.compile(r"\\(?:lim|i*int|oint|sum|prod)(?![a-z])")
_OPEN_LIST = re.compile(r"(?:,|(?<![.\d])\d+)\s*\.\.\.$")
"""`5, ...`: the first of more."""
_ABOUT = re.compile(r"\s*(?:\\approx|\\sim)(?![a-z])\s*(?=[-+$\d.\\])")
_ALSO = re.compile(r",?\s+(?:and|or)\s+(?:(?:equivalently|simply|just)\s+)?|,\s+")
_IN_PARENTHESES = re.compile(r"(?<=\d)\s+\(([\d.]{1,40}%?)\)$")
_OR_ABOUT = re.compile(r",?\s+or\s+(?:about|approximately|roughly|around)\s+|\s*\\approx(?![a-z])\s*")
_ASIDE = re.compile(r"(?<=[\d%])\s+(?:\\text\s*\{\s*)?\((?P<words>[A-Za-z][A-Za-z\s-]*)\)\s*\}?$")
"""`84 (eighty-four)`."""
_WORKED_OUT = re.compile(r"\s*\(\s*(=[^()]{1,60})\)$")
"""`6 (= 18/3)`."""
_DIVISOR = re.compile(r"mod\s*(?:\}\s*)?\{?\s*(\d{1,30})")
_CHOICE = re.compile(r"\s*(?:\(\s*([A-J])\s*\)|([A-J])\s*[).:])")
_OPTION = re.compile(r"(?i:(?:I(?:'d|\s+would)?\s+)?(?:option|choice|choose|pick|select))\s+\(?([A-J])\)?")
_ONE_LETTER = re.compile(r"(?:\(\s*([A-J])\s*\)|([A-J]))[.:]?")
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


def grade_math(gold: str, answer: str, *, strict: bool = False) -> Grade:
    """See `verifier.graders.math`, and `math_strict` for a strict one."""
    wanted = read_gold(gold)
    if not answer.strip():
        return unparsable("the answer is empty")
    if answer.strip() == gold.strip() and not strict and wanted.literal is None:
        return correct("same text")._replace(found_by="whole", answer=answer.strip()[:ANSWER_CHARS])
    found = find_answer(answer, numeric=wanted.literal is not None, strict=strict)
    return _grade_found(wanted, found)._replace(found_by=found.by, answer=found.text[:ANSWER_CHARS])


def _grade_found(wanted: Gold, found: Found) -> Grade:
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

    def grade() -> Grade:
        return _grade_number(wanted, wanted.literal, text, found) if wanted.literal else _grade_tree(wanted, text)

    try:
        return _with_limit(grade) if _SLOW.search(text) or _SLOW.search(wanted.text) else grade()
    except TooLarge as error:
        return unparsable(f"too large: {error}")


class _OutOfWork(BaseException):
    """No Exception, which sympy would catch."""


def _with_limit(grade: Callable[[], Grade]) -> Grade:
    """A grade, or `wrong` where it takes too much work. Work is counted in calls, which no busy machine makes more."""
    calls, profile = 0, sys.getprofile()

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"
        if calls > MAX_CALLS:
            raise _OutOfWork

    sys.setprofile(count)
    try:
        return grade()
    except _OutOfWork:
        return wrong("a limit, sum, product or integral without a value in the work that is allowed")
    finally:
        sys.setprofile(profile)


def _grade_tree(gold: Gold, text: str) -> Grade:
    if normal(gold.text) == normal(text) and not _is_void(text):
        return correct("same text")
    if isinstance(gold.tree, Formula | Words) and re.fullmatch(r"[A-J]", gold.tree.text):
        plain = without_text(text).strip()
        choice = _CHOICE.match(plain) or _OPTION.fullmatch(plain)
        text = next(filter(None, choice.groups())) if choice else text
    if _other_modulus(gold.text, text):
        return wrong(f"another modulus: {show(text)}")
    tree = read(text)
    is_set = isinstance(gold.tree, Many) and gold.tree.braces
    if same(gold.tree, tree) or same(_alone(gold.tree) if is_set else gold.tree, _alone(tree)):
        return correct("equal")
    if "matrix" in gold.text and "matrix" in text and symbols.same_expression(gold.text, text):
        return correct("equal matrices")
    if isinstance(tree, Formula) and not re.search(r"[A-Za-z]{2}", text) and symbols.parse(tree.text) is None:
        return unparsable(f"does not parse: {show(text)}")
    return wrong(f"not equal: {show(text)}")


def _alone(tree: Answer) -> Answer:
    r"""The value of `\{5\}`, or of several boxes with the same one."""
    return tree.items[0] if isinstance(tree, Many) and len(set(tree.items)) == 1 else tree


# -- numbers ----------------------------------------------------------------------------------------------------------


def _grade_number(gold: Gold, wanted: Literal, text: str, found: Found) -> Grade:
    if (letters := _chosen(gold.text, text)) is not None and letters[0] != letters[1]:
        return wrong(f"another choice: {show(text)}")
    if letters is not None and _ONE_LETTER.fullmatch(without_text(text).strip()):
        return correct("same choice")
    if _also_rounded(text, wanted):
        return correct("the same number, also rounded")
    if (number := _number_in(text)) is not None and _other_modulus(gold.text, text):
        return wrong(f"another modulus: {show(text)}")
    if number is not None:
        return _number_grade(same_number(wanted, number), text)
    if _listed_twice(text, wanted):
        return correct("the same number, repeated")
    grade = no_number(found, text)
    return grade._replace(rule="echo") if _comes_to(gold.text, text) else grade


def _other_modulus(gold: str, answer: str) -> bool:
    """Whether both are rests, of different divisors."""
    divisors = [_DIVISOR.search(text) for text in (gold, answer)]
    return divisors[0] is not None and divisors[1] is not None and divisors[0][1] != divisors[1][1]


def _number_grade(equal: bool, text: str) -> Grade:
    return correct("same number") if equal else wrong(f"another number: {show(text)}")


def _number_in(text: str) -> Literal | None:
    r"""The number that a text states: `x = 5` and `\text{Answer: } 5` as 5, `6 + 10 = 16` as 16 if its sides agree."""
    if all_text := _ALL_TEXT.fullmatch(text):
        text = all_text[1]
    if _OPEN_LIST.search(text):
        return None
    text = _WORKED_OUT.sub(r" \1", text.removeprefix("= "), count=1)
    before = _TEXT_BEFORE.match(text)
    if before and not _NEGATION.search(before[1] or ""):
        text = text[before.end() :]
    text = _ABOUT.sub("", text, count=1) if _ABOUT.match(text) else text
    if (aside := _ASIDE.search(text)) and not _NEGATION.search(aside[0]):
        said = number_words(aside["words"].lower())
        number = literal(text[: aside.start()])
        if said is None or (number is not None and number.value == said):
            text = text[: aside.start()]
    rest = MODULUS.search(text) if "mod" in text else None
    is_operation = rest is not None and rest[0].lstrip(" ,").startswith((r"\bmod", r"\mod"))
    if rest and not is_operation and (number := literal(text[: rest.start()])) is not None:
        return number if abs(number.value) < int(rest[1]) else None
    exact_part, _, approximate = text.partition(r"\approx")
    if approximate and (number := literal(exact_part)) and (rounded := literal(approximate)):
        is_rounded = abs(number.value - rounded.value) < Fraction(1, 10 ** (rounded.decimals or 0))
        return number if is_rounded else None
    stated = number_of(read(text))
    return stated.value if stated is not None else None


def _also_rounded(text: str, gold: Literal) -> bool:
    """Whether a text states a number and what it rounds to, `2/3 or about 0.667`, and one of them is the gold one."""
    text = _IN_PARENTHESES.sub(r" \\approx \1", text)
    if (about := _OR_ABOUT.search(text)) is None:
        return False
    number, rounded = _number_in(text[: about.start()]), literal(text[about.end() :])
    if number and rounded and rounded.percent and not number.percent:
        rounded = Literal(rounded.value / 100, (rounded.decimals or 0) + 2)
    if number is None or rounded is None:
        return False
    if 2 * abs(number.value - rounded.value) > Fraction(1, 10 ** (rounded.decimals or 0)):
        return False
    return same_number(gold, number) or same_number(gold, rounded)


def _listed_twice(text: str, gold: Literal) -> bool:
    """Several boxes with one and the same number are one answer."""
    items = [_number_in(item) for item in _ALSO.split(text)]
    return len(items) > 1 and all(item is not None and same_number(gold, item) for item in items)


def _comes_to(gold: str, text: str) -> bool:
    """Whether an expression such as `6 + 10` or `5!` has the gold number as its value."""
    try:
        return _ARITHMETIC.fullmatch(text) is not None and symbols.same_expression(gold, text)
    except TooLarge:
        return False


def _chosen(gold: str, answer: str) -> tuple[str, str] | None:
    r"""The letters of `\text{(D)} 60` and of an answer that names one too."""
    choice = _CHOICE.match(without_text(gold))
    chosen = _CHOICE.match(without_text(answer)) or _ONE_LETTER.fullmatch(without_text(answer).strip())
    return (choice[1] or choice[2], chosen[1] or chosen[2]) if choice and chosen else None


# -- golds ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4000)
def read_gold(gold: str) -> Gold:
    """Read a reference answer; raises BadGold if it is empty, or nothing that could be compared."""
    if not gold.strip():
        raise BadGold("the gold answer is empty")
    if damage := damage_in(gold):
        raise BadGold(damage)
    if _PLAIN_NUMBER.fullmatch(gold) and "," not in gold and (number := literal(gold)):
        return Gold(gold.strip(), Number(gold.strip(), number), number)
    text = _gold_text(gold)
    cleaned = clean(text)
    if not cleaned or _is_void(cleaned):
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
    return Gold(cleaned, tree, _number_in(cleaned) if is_number else None)


def _gold_text(gold: str) -> str:
    if (boxed := last_boxes(gold)) is not None and boxed.strip():
        return boxed
    if (opened := re.search(r"\\{1,2}boxed\s*\{(.*)$", gold, re.DOTALL)) and "\\boxed" not in opened[1]:
        return opened[1]
    hashes = re.search(r"####\s*(.+?)\s*$", gold)
    if hashes:
        return hashes[1]
    if "$" in gold:
        whole = unwrap(gold)
        if literal(clean(whole)) is None and len(re.findall(r"(?<!\\)\$", gold)) >= 2:
            if is_prose(re.sub(r"\$[^$]*\$", " ", gold)):
                found = find_answer(gold)
                return found.text if found.by != "none" and _states_formula(gold) else gold
            return re.sub(r"(?<!\\)\$", " ", gold)
    return unwrap(gold)


def _states_formula(gold: str) -> bool:
    """Whether a sentence states its last formula: `The answer is $5$ apples`, but not `$n$ is a multiple of $6$`."""
    before, _, rest = gold.rpartition("$")[0].rpartition("$")
    behind = gold.rpartition("$")[2]
    if re.search(r"[=<>]", rest) and _STATES.search(gold):
        return not _NEGATION.search(behind)
    before = re.sub(r"(?:\$[^$]*\$(?:\s|,|and\b|or\b)*)+$", "", before)
    return _STATED_NEXT.search(before) is not None and not _STATES.search(behind)


def _is_void(text: str) -> bool:
    return not re.search(r"[A-Za-z0-9]|\\[a-z]+", text)


def _check(tree: Answer, gold: str) -> None:
    """Raise BadGold for a leaf that is neither words nor an expression."""
    match tree:
        case Formula(text):
            words = re.search(r"[A-Za-z]{2}|:", re.sub(r"\\[A-Za-z]+", "", text)) and text.count("{") == text.count("}")
            try:
                known = bool(words) or "mathbb" in text or symbols.parse(text) is not None
            except TooLarge:
                known = True  # it can still be compared as text
            if not known:
                raise BadGold(f"{show(gold)} does not parse")
        case Many(items) | Row(items) | Operation(_, items):
            for item in items:
                _check(item, gold)


def warm_up() -> None:
    """Let sympy import and cache what grading needs."""
    for gold, answer in (
        (r"\frac{1}{2}", r"\boxed{0.5}"),
        (r"x^2 + 2x + 1", r"$(x+1)^2$"),
        (r"\frac{\sqrt{3}}{2}\pi", r"The answer is $\sin(\pi/3)\pi$."),
        (r"(-\infty, 3]", r"x \le 3"),
        (r"2x + 4y = 3", r"y = -\frac{x}{2} + \frac{3}{4}"),
        (r"f(x) + \int_0^1 t dt", r"f(x) + \frac12"),
        (r"\int_0^x e^{-t^2}dt", r"\int_0^x e^{-u^2}du"),  # tables that no answer's MAX_CALLS should pay for
        (r"\{1, \sqrt{2}\}", r"\sqrt2, 1"),
        (r"\begin{pmatrix}1 & x\end{pmatrix}", r"\begin{bmatrix}1 & x\end{bmatrix}"),
    ):
        grade_math(gold, answer)
