"""Grades an answer: whether it is mathematically the gold one. Pure; reads both once and compares the trees.

Rules that keep a policy from finding a hole: one place in the message counts (`verifier.extract`); where the gold answer
is a number, only a number that is written out counts, not a formula that comes to it; several values are no answer
where one is asked for; a chain of equations counts only if its sides agree.
"""

import re
import sys
from collections.abc import Callable
from inspect import CO_GENERATOR
from types import FrameType
from typing import Any

from verifier import symbols
from verifier.answers import Answer, Formula, Many, Words
from verifier.compare import same
from verifier.extract import Found, find_answer
from verifier.grade import Grade, correct, unparsable, wrong
from verifier.integers import no_number, show
from verifier.latex import clean, depth_of, without_text
from verifier.leaves import normal, text_of
from verifier.literals import Literal, literal, same_number, too_many_digits
from verifier.names import TooLarge
from verifier.prose import MAX_CANDIDATE
from verifier.reading import read
from verifier.reference import AS_TEXT, MAX_CLEAN_DEPTH, PLAIN_NUMBER, Gold, read_gold
from verifier.stated import also_rounded, listed_twice, number_in

MAX_CALLS = 1_000_000
"""Of functions, in which a limit, sum, product or integral must have shown its value: most need fewer than 300,000."""
ANSWER_CHARS = 200
"""Of the answer that was found, as the grade carries it."""
_ARITHMETIC = re.compile(r"(?:[\d\s.,+*/^!(){}-]|\\(?:cdot|times|frac|sqrt|binom)(?![a-z])){1,100}", re.ASCII)
_LEAD = re.compile(r"\s*(?:(?:the\s+)?(?:final\s+)?answer(?:\s+is|\s*:)[\s:]*)?", re.IGNORECASE)
_SLOW = re.compile(r"\\(?:lim|i*int|oint|sum|prod)(?![a-z])")
_DIVISOR = re.compile(r"mod\s*(?:\}\s*)?\{?\s*(\d{1,30})")
_CHOICE = re.compile(r"\s*\(?\s*([A-J])\s*[).:]")
_OPTION = re.compile(r"(?i:(?:I(?:'d|\s+would)?\s+)?(?:option|choice|choose|pick|select))\s+\(?([A-J])\)?")
_ONE_LETTER = re.compile(r"\(?\s*([A-J])\s*\)?[.:]?")


def grade_math(gold: str, answer: str, *, strict: bool = False) -> Grade:
    """See `verifier.graders.math`, and `math_strict` for a strict one."""
    wanted = read_gold(gold)
    if not answer.strip():
        return unparsable("the answer is empty")
    may_be_same = wanted.literal is None and not strict and len(answer) < 2 * len(gold) + 40
    if may_be_same and normal(_LEAD.sub("", answer, count=1)) == normal(gold):
        return correct("same text").at("whole", answer.strip()[:ANSWER_CHARS])
    found = find_answer(answer, numeric=wanted.literal is not None, strict=strict)
    return _grade_found(wanted, found).at(found.by, found.text[:ANSWER_CHARS])


def _grade_found(wanted: Gold, found: Found) -> Grade:
    if wanted.literal is not None and PLAIN_NUMBER.fullmatch(found.text) and (number := literal(found.text)):
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
        if _other_modulus(wanted.text, text):
            return wrong(f"another modulus: {show(text)}")
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

    def count(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"
        if calls > MAX_CALLS and not frame.f_code.co_flags & CO_GENERATOR:  # one that is closed would swallow it
            raise _OutOfWork

    sys.setprofile(count)
    try:
        return grade()
    except _OutOfWork:
        return wrong("a limit, sum, product or integral without a value in the work that is allowed")
    finally:
        sys.setprofile(profile)


def _grade_tree(gold: Gold, text: str) -> Grade:
    if normal(gold.text) == normal(text):
        return correct("same text")
    if isinstance(gold.tree, Formula | Words) and re.fullmatch(r"[A-J]", gold.tree.text):
        text = _choice_in(text) or text
    tree = read(text)
    is_set = isinstance(gold.tree, Many) and gold.tree.braces
    if same(gold.tree, tree) or same(_alone(gold.tree) if is_set else gold.tree, _alone(tree)):
        return correct("equal")
    is_formula = isinstance(tree, Formula) and not AS_TEXT.search(text) and not re.search(r"[A-Za-z]{2}", text)
    if is_formula and symbols.parse(text) is None:
        return unparsable(f"does not parse: {show(text)}")
    return wrong(f"not equal: {show(text)}")


def _alone(tree: Answer) -> Answer:
    r"""The value of `\{5\}`, or of several boxes with the same one."""
    if not isinstance(tree, Many) or len(set(tree.items)) != 1:
        return tree
    one = tree.items[0]
    return tree if tree.braces and (isinstance(one, Many) or r"\emptyset" in text_of(one)) else one


# -- numbers ----------------------------------------------------------------------------------------------------------


def _grade_number(gold: Gold, wanted: Literal, text: str, found: Found) -> Grade:
    if choice := _CHOICE.match(without_text(gold.text)):
        if (chosen := _choice_in(text)) and chosen != choice[1]:
            return wrong(f"another choice: {show(text)}")
        if _ONE_LETTER.fullmatch(without_text(text).strip()):
            return correct("same choice")
    if also_rounded(text, wanted):
        return correct("the same number, also rounded")
    if (number := number_in(text)) is not None:
        return _number_grade(same_number(wanted, number), text)
    if listed_twice(text, wanted):
        return correct("the same number, repeated")
    grade = no_number(found, text)
    return grade._replace(rule="echo") if _comes_to(gold.text, text) else grade


def _choice_in(text: str) -> str:
    """The letter of `(B) 12`, `option B` or `B`; empty if there is none."""
    plain = without_text(text).strip()
    found = _CHOICE.match(plain) or _OPTION.fullmatch(plain) or _ONE_LETTER.fullmatch(plain)
    return found[1] if found else ""


def _other_modulus(gold: str, answer: str) -> bool:
    """Whether both are rests, of different divisors."""
    mine, theirs = (set(_DIVISOR.findall(text)) for text in (gold, answer))
    return bool(mine and theirs) and mine.isdisjoint(theirs)


def _number_grade(equal: bool, text: str) -> Grade:
    return correct("same number") if equal else wrong(f"another number: {show(text)}")


def _comes_to(gold: str, text: str) -> bool:
    """Whether an expression such as `6 + 10` or `5!` has the gold number as its value."""
    try:
        return _ARITHMETIC.fullmatch(text) is not None and symbols.same_expression(gold, text)
    except TooLarge:
        return False


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
