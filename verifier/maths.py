"""Grading of integers and mathematical expressions."""

import re

from verifier.graders import BadGold, Grade, correct, unparsable, wrong

_INTEGER = re.compile(r"[+-]?\d{1,4000}", re.ASCII)
_BOXED = re.compile(r"\\boxed\s*\{\s*([^{}]{0,5000})\s*\}")
_SAID = re.compile(r"(?:answer|result)\s*(?:is|=|:)\s*\**\s*([+-]?\d{1,4000})(?![\d.,]*\d)", re.IGNORECASE | re.ASCII)


def _integer(text: str) -> int | None:
    text = text.strip().replace(",", "")
    return int(text) if _INTEGER.fullmatch(text) else None


def grade_integer(gold: str, answer: str) -> Grade:
    """See `verifier.graders.integer`."""
    wanted = _integer(gold)
    if wanted is None:
        raise BadGold(f"{gold[:100]!r} is not an integer")
    if not answer.strip():
        return unparsable("the answer is empty")
    found = _integer(_candidate(answer))
    if found is None:
        return unparsable("no integer literal found")
    return correct("same integer") if found == wanted else wrong(f"{found} is another integer")


def _candidate(answer: str) -> str:
    boxes = _BOXED.findall(answer)
    if boxes:
        return str(boxes[-1])
    said = _SAID.findall(answer)
    return str(said[-1]) if said else answer


def grade_math(gold: str, answer: str) -> Grade:
    """See `verifier.graders.math`."""
    from math_verify import parse, verify  # type: ignore[import-untyped]

    if _integer(gold) is not None:
        return grade_integer(gold, answer)
    wanted = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    if not wanted:
        raise BadGold(f"{gold[:100]!r} does not parse")
    found = parse(answer[-2000:], parsing_timeout=None)
    if not found:
        return unparsable("no mathematical answer found")
    return correct("equal") if verify(wanted, found, timeout_seconds=None) else wrong("not equal")


def warm_up() -> None:
    """Load sympy and math-verify, and let them fill their caches."""
    grade_math(r"\frac{1}{2}", r"\boxed{0.5}")
