r"""Finds where in a model's message its answer is.

In this order: the last balanced `\boxed{}` or `<answer>`, a line `#### x`, the last "answer is ...", the message itself if
it is no prose, a number alone on the last line, the last formula or number. Always one place: a message that names
several candidates cannot collect the reward by one of them being right.
"""

import re
from typing import NamedTuple

from stream.messages import FoundBy
from verifier.denial import is_denied, with_tail
from verifier.latex import unwrap
from verifier.marks import Mark, after_thinking, last_line, last_mark
from verifier.prose import (
    BOLD_PART,
    MAX_CANDIDATE,
    introduces,
    is_prose,
    last_answer,
    plain_end,
    stated_answer,
)

TAIL_CHARS = 20_000
"""Only so much of the end of a message is searched: answers stand last."""
_REPLY = re.compile(r"^A(?:nswer)?:[ \t]*(\S.*)$", re.MULTILINE)
_CODE_LINE = re.compile(
    r"^[ \t]*`{0,3}(?:(?:return|yield|assert|raise|import|from\s+\w+\s+import)\s.*|lambda\b.*:.*|"
    r"(?:(?:def|class|for|while|if|elif|with|except)\b.*|else|try|finally)[ \t]*:(?:\n[ \t]+\w+[ ]?[+*/-]?=[ ].*)*)[ \t]*`{0,3}[ \t]*$",
    re.MULTILINE,
)
_CODE = re.compile(
    r"[\w=][ ]?\(\)|\b(?:None|True|False)\s+(?:or|and)\s+[-\d'\"(]|\bif\s(?:[^.\n]{1,60}\selse\s|\w+:)|\(\s*\w+\s*:=|==[^=\n]*\s(?:or|and)\s|__[a-z]\w*__|\.[a-z_]\w*\(\s*['\"\])\d]"
    r"|\w\(\s*['\"]|\b(?:sum|max|min|len|sorted|list|set|any|all|int|str|range)\(\[|(?<!\\)\blambda\b[^\n]{0,60}:"
    r"|&&|\?\?|\bcout\s*<<|#include|\b\w+\([^()]*\)\s+-?\d|\b(?:True|False|None)\s*[|&]|(?:^|\n)\s*(?:echo|SELECT)\s|['\"]\w*['\"]\s+(?:or|and)\b|\b(?:if|while|elif|and|or|not)\s+(?:True|False|None)\b|\b[a-z_]{3,}\((?:[a-z]+\()?\["
    r"|(?:\[|\w\()[^()\[\]\n]{1,60}\sfor\s\w+\sin\s|\bnot\s+\w+\s+or\s+[-\d'\"]|\w\([^()]*\)\s+(?:or|and|if|else)\s+[-\d'\"]|(?:^|\s)else\s+[-\d]|^\s*(?:del|try|except|finally)\b[^\n]*[:;]"
)
"""An expression of a programming language, such as `run() or 8` and `5 if False else 8`: code is no answer."""
_NUMBER_ALONE = re.compile(
    r"[ \t]*(?:#{1,6}[ \t]+)?(?:\*\*|\$\$?|\\\()?[ \t]*(?:(?:[A-Za-z](?:[ \t]?[+*-][ \t]?[A-Za-z]){0,3})?[ \t]*=[ \t]*)?[-+\u2212]?[$€£]?[ \t]?\d(?:[\d.,/]*\d)?[ \t]?(?:%|[A-Za-z°]{1,12})?[ \t]*(?:\*\*|\$\$?|\\\))?\.?[ \t]*"
)
_STRUCK = re.compile(
    r"<!--.{0,2000}?-->|~~[^~\n]{1,200}~~|<(?P<tag>del|s|strike)>[^<>]{0,200}</(?P=tag)>", re.IGNORECASE | re.DOTALL
)
_TAG = re.compile(r"</?(?!su[bp]\b|script\b)[a-z][a-z_]{0,20}\s*/?>", re.IGNORECASE)


class Found(NamedTuple):
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
    mark = last_mark(text, numeric=numeric, strict=strict)
    if mark is None:
        return _NONE if strict else _unmarked(text, numeric)
    if mark.by == "tag":
        mark = mark._replace(text=find_answer(mark.text, numeric=numeric).text)
    return _stated_by(mark) if mark.text.strip() or mark.listed else _NONE


def _stated_by(mark: Mark) -> Found:
    """A marked answer with what multiplies it; denied if the words around it say so."""
    if is_denied(mark):
        return Found(f"not {mark.listed or mark.text}", mark.by)
    return Found(mark.listed or (mark.text if mark.by == "stated" else with_tail(mark.text, mark.after)), mark.by)


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
    if not is_number and len(text) <= MAX_CANDIDATE and not is_prose(text) and not introduces(text, numeric):
        return _NONE if _is_code(text) else Found(unwrap(BOLD_PART.sub(r"\1", unwrap(text))), "whole")
    stated, rest = stated_answer(text, numeric)
    if stated:
        line = last_line(text)
        by: FoundBy = "line" if line and line.text == stated else "stated"
        return _NONE if _is_code(_line_with(stated, lines)) else _stated_by(Mark(by, "", stated, _behind(stated, rest)))
    if is_number:
        return Found(unwrap(lines[-1].strip().lstrip("#").strip()), "last")
    last = (not numeric and plain_end(text)) or last_answer(text, numeric)
    return Found(last, "last") if last and not _is_code(_line_with(last, lines)) else _NONE


def _behind(answer: str, text: str) -> str:
    """What follows an answer in a text."""
    return re.split(rf"{re.escape(answer.lstrip('-'))}(?![\d.,]*\d)", text, maxsplit=1)[-1]


def _is_code(text: str) -> bool:
    return len(text) <= MAX_CANDIDATE and _CODE.search(text) is not None


def _line_with(answer: str, lines: list[str]) -> str:
    """The last line that holds an answer."""
    return next((line for line in reversed(lines) if answer in line), lines[-1] if lines else "")
