"""Grades multiple choice: finds the letters that a message settles on."""

import re

from stream.messages import FoundBy
from verifier.extract import find_answer
from verifier.grade import BadGold, Grade, correct, unparsable, wrong
from verifier.latex import clean, without_text

_ONE = r"\(?[A-Za-z](?![A-Za-z])\)?"
_GOLD = re.compile(rf"{_ONE}(?:(?:\s*[,;&]\s*(?:and\s+)?|\s+and\s+|\s+){_ONE})*\.?")
_ANNOUNCED = re.compile(
    r"(?:answer|choice|option|choose|pick|select|go with)\b[^.\n]{0,40}?(?<![A-Za-z'])\(?\s*\**\(?([A-Z])\)?(?![A-Za-z'])",
)


def grade_choice(gold: str, answer: str) -> Grade:
    """See `verifier.graders.choice`."""
    wanted = _letters(gold)
    if not wanted:
        raise BadGold(f"{gold[:100]!r} is no letter of a multiple choice, such as B, (B) or A, C")
    if not answer.strip():
        return unparsable("the answer is empty")
    letters, found_by = _chosen(answer)
    if not letters:
        return unparsable("no letter found")._replace(found_by="none")
    shown = ", ".join(sorted(letters))
    grade = correct(f"chose {shown}") if letters == wanted else wrong(f"chose {shown}")
    return grade._replace(found_by=found_by, answer=shown)


def _letters(text: str) -> frozenset[str]:
    """The letters of `B`, `(B)`, `A, C`, `A and C`, `ac`; none of anything else."""
    plain = re.sub(r"\s+", " ", without_text(clean(text))).strip(" .$")
    if re.fullmatch(r"[A-Z]{2,6}", plain) and len(set(plain)) == len(plain):
        return frozenset(plain)
    if _GOLD.fullmatch(plain) is None:
        return frozenset()
    return frozenset(letter.upper() for letter in re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", plain))


def _chosen(answer: str) -> tuple[frozenset[str], FoundBy]:
    """The letters that a message settles on, and where it does."""
    found = find_answer(answer)
    if found.by in ("box", "tag", "hashes", "whole") or (found.by in ("line", "stated") and _letters(found.text)):
        plain = without_text(clean(found.text)).strip(" .$*")
        letters = _letters(plain)
        # "(B) 12 apples": the letter before its text
        first = re.match(r"\(?([A-Z])\s*[).:]\s*\S", plain)
        if letters or first:
            return letters or frozenset(first[1] if first else ""), found.by
        if found.by != "whole":
            return frozenset(), "none"
    text = answer[-2000:].rpartition("</think>")[2]
    announced = _ANNOUNCED.findall(text)
    if announced:
        return frozenset(announced[-1]), "stated"
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return _letters(lines[-1].strip(" *")) if lines else frozenset(), "last"
