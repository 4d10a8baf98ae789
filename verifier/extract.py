r"""Finds where in a model's message its answer is.

In this order: the last balanced `\boxed{}` or `<answer>`, a line `#### x`, the last "answer is ...", the message itself if
it is no prose, a number alone on the last line, the last formula or number. Always one place: a message that names
several candidates cannot collect the reward by one of them being right.
"""

import re
from dataclasses import dataclass

from stream.messages import FoundBy
from verifier.denial import is_denied, with_tail
from verifier.latex import unwrap
from verifier.marks import after_thinking, around_box, last_boxes, last_hashes, last_tagged
from verifier.prose import (
    BOLD_PART,
    MAX_CANDIDATE,
    SEVERAL_UNITS,
    introduces,
    is_prose,
    last_answer,
    plain_end,
    stated_answer,
)

TAIL_CHARS = 20_000
"""Only so much of the end of a message is searched: answers stand last."""
_REPLY = re.compile(r"^A(?:nswer)?:[ \t]*(\S.*)$", re.MULTILINE)
_ANSWER_LINE = re.compile(r"^[ \t]*(?:\*\*)?(?:Final )?Answer:(?:\*\*)?[ \t]*(\S.*)$", re.MULTILINE | re.IGNORECASE)
_CODE_LINE = re.compile(
    r"^[ \t]*`{0,3}(?:(?:def|class)\s+\w+.*:|(?:return|yield|assert|raise|import|from\s+\w+\s+import)\s.*|lambda\b.*:.*|"
    r"(?:for|while|if|elif|with)\b.*:)[ \t]*`{0,3}[ \t]*$",
    re.MULTILINE,
)
_CODE = re.compile(
    r"\w\(\)|\b(?:None|True|False)\s+(?:or|and)\s+[-\d'\"(]|\bif\s[^.\n]{1,60}\selse\s|__[a-z]\w*__|\.[a-z_]\w*\(\s*['\"\])\d]"
    r"|\w\(\s*['\"]|\b(?:sum|max|min|len|sorted|list|set|any|all|int|str|range)\(\[|(?<!\\)\blambda\b[^\n]{0,60}:"
    r"|&&|\?\?|\bcout\s*<<|#include|\b\w+\([^()]*\)\s+-?\d|\b(?:True|False|None)\s*[|&]|(?:^|\n)\s*(?:echo|SELECT)\s|['\"]\w*['\"]\s+(?:or|and)\b|\b(?:if|while|elif|and|or|not)\s+(?:True|False|None)\b|\b[a-z_]{3,}\((?:[a-z]+\()?\["
    r"|\bnot\s+\w+\s+or\s+[-\d'\"]|\w\([^()]*\)\s+(?:or|and|if|else)\s+[-\d'\"]|(?:^|\s)else\s+[-\d]|^\s*(?:del|try|except|finally)\b[^\n]*[:;]"
)
"""An expression of a programming language, such as `run() or 8` and `5 if False else 8`: code is no answer."""
_CALL = re.compile(r"\w\([^()]*\)\s+(?:or|and|if|else)\s")
_NUMBER_ALONE = re.compile(
    r"[ \t]*(?:#{1,6}[ \t]+)?(?:\*\*|\$|\\\()?[ \t]*(?:=[ \t]*)?[-+\u2212]?[$€£]?[ \t]?\d[\d.,/]*[ \t]?%?[ \t]*(?:\*\*|\$|\\\))?\.?[ \t]*"
)
_STRUCK = re.compile(
    r"<!--.{0,2000}?-->|~~[^~\n]{1,200}~~|<(?P<tag>del|s|strike)>[^<>]{0,200}</(?P=tag)>", re.IGNORECASE | re.DOTALL
)
_TAG = re.compile(r"</?(?:answer|b|strong|i|em|u|p|br|span|div|center)\s*/?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate, and by what it was found."""

    text: str
    by: FoundBy


_NONE = Found("", "none")


def find_answer(message: str, *, numeric: bool = False, strict: bool = False) -> Found:
    """The text in the message that is its answer; `by` is "none" if there is none.

    Args:
        numeric: the gold answer is a number, so that the last number may stand for an answer that nothing announces.
        strict: only the last box, an `<answer>` tag, a line `####` or a line `Answer:` counts.

    """
    text = after_thinking(message.rstrip())[-TAIL_CHARS:].strip()
    if "~~" in text or "</" in text or "<!--" in text:
        text = _STRUCK.sub(" ", text).strip()
    if not text:
        return _NONE
    if text.isascii() and text.isdigit() and not strict:
        return Found(text, "whole")
    return _marked(text, numeric, strict) or (_NONE if strict else _unmarked(text, numeric))


def _marked(text: str, numeric: bool, strict: bool) -> Found | None:
    """What a box, a tag, hashes or, in strict mode, a line `Answer:` marks; None if there is no such mark."""
    tagged, start, behind = last_tagged(text) or (None, 0, 0)
    boxes = last_boxes(text[behind:])
    if boxes is not None:
        if not boxes.strip():
            return _NONE
        around = around_box(text[behind:])
        return Found(f"not {boxes}", "box") if around is None else _as_stated(Found(boxes, "box"), *around)
    if tagged is not None:
        inner = find_answer(tagged, numeric=numeric)
        return _as_stated(Found(inner.text, "tag"), text[:start], inner.text, text[behind:]) if inner.text else _NONE
    if hashes := last_hashes(text, numeric):
        line, start, behind = hashes
        return _as_stated(Found(unwrap(line), "hashes"), text[:start], line, text[behind:])
    line, start, behind = _answer_line(text) if strict else ("", 0, 0)
    return _as_stated(Found(line, "line"), text[:start], line, text[behind:]) if line else None


def _as_stated(found: Found, before: str, text: str, after: str) -> Found:
    """A marked answer with what multiplies it; denied if the words around it say so."""
    if is_denied(before, text, after, by_conclusion=found.by != "stated"):
        return Found(f"not {found.text}", found.by)
    return found if found.by == "stated" else Found(with_tail(found.text, after), found.by)


def _unmarked(text: str, numeric: bool) -> Found:
    """What a message without marks states, or is."""
    text = text.partition("<|")[0].strip() or text
    text = _TAG.sub(" ", _CODE_LINE.sub("", text)).strip()
    if text.startswith("Q") and (replies := _REPLY.findall(text)):
        text = replies[-1]
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and len({line.strip() for line in lines}) == 1:
        text = lines[0].strip()
    if not text:
        return _NONE
    is_number = numeric and (len(lines) > 1 or text.startswith("#")) and _NUMBER_ALONE.fullmatch(lines[-1]) is not None
    if SEVERAL_UNITS.fullmatch(text):
        return Found(text, "whole")
    if not is_number and len(text) <= MAX_CANDIDATE and not is_prose(text) and not introduces(text, numeric):
        return (
            _NONE
            if _is_code(text) or _CALL.search(text)
            else Found(unwrap(BOLD_PART.sub(r"\1", unwrap(text))), "whole")
        )
    stated = stated_answer(text, numeric)
    if stated:
        by: FoundBy = "line" if stated == _answer_line(text)[0] else "stated"
        found = Found(stated, by)
        return _NONE if _is_code(_line_with(stated, lines)) else _as_stated(found, "", stated, _behind(stated, text))
    if is_number:
        return Found(unwrap(lines[-1].strip().lstrip("#").strip()), "last")
    last = (not numeric and plain_end(text)) or last_answer(text, numeric)
    return Found(last, "last") if last and not _is_code(_line_with(last, lines)) else _NONE


def _behind(answer: str, text: str) -> str:
    """What follows the last place of an answer in a text."""
    return re.split(rf"{re.escape(answer)}(?![\d.,]*\d)", text)[-1]


def _is_code(text: str) -> bool:
    return len(text) <= MAX_CANDIDATE and _CODE.search(text) is not None


def _line_with(answer: str, lines: list[str]) -> str:
    """The last line that holds an answer."""
    return next((line for line in reversed(lines) if answer in line), lines[-1] if lines else "")


def _answer_line(text: str) -> tuple[str, int, int]:
    """The content of the last line `Answer: x`, bold marks and a full stop aside, and its place; empty if there is none."""
    lines = [*_ANSWER_LINE.finditer(text)]
    content = re.sub(r"(?<!\\right)\.$", "", lines[-1][1].replace("**", "").strip()) if lines else ""
    return (unwrap(content), *lines[-1].span()) if lines else ("", 0, 0)
