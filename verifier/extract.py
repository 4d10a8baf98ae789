r"""Finds the answer in a model's message.

In this order: the last balanced `\boxed{}`, the last `<answer>`, a line `#### x`, the last "answer is ...", the message
itself if it is no prose, the last formula or number. Always one place: a message that names several candidates cannot
collect the reward by one of them being right.
"""

import re
from dataclasses import dataclass

from stream.messages import FoundBy
from verifier.latex import unwrap
from verifier.prose import (
    BOLD_PART,
    LIST_GLUE,
    MAX_CANDIDATE,
    introduces,
    is_prose,
    last_answer,
    plain_end,
    stated_answer,
)

TAIL_CHARS = 20_000
"""Only so much of the end of a message is searched: answers stand last."""
_BOX = re.compile(r"\\{1,2}(?:boxed|fbox)\s*")
_NAMED_GLUE = re.compile(
    r"[^\\{}]{0,40}?(?<![a-z])(?:and|or)(?![a-z])(?!\s+(?:so|thus|hence|then|therefore)\b)[^\\{}]{0,25}|[^\\{}A-Za-z]{0,12}(?:[A-Za-z](?:_?\d)?\s*=\s*)?",
    re.DOTALL,
)
_WRAPPING = re.compile(r"\\[()\[\]]|\$|\\text\s*\{([^{}]*)\}|\\q?quad(?![a-z])")
_REASONING = re.compile(r"<(?:think|thinking|thought|reasoning|reason|scratchpad)>", re.IGNORECASE)
_REASONING_END = re.compile(r"</(?:think|thinking|thought|reasoning|reason|scratchpad)>", re.IGNORECASE)
_CHANNEL = "<|channel|>"
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\s*(?:<\|constrain\|>\w*)?<\|message\|>")
"""gpt-oss writes its reasoning in channels of its own; only the last `final` one is for the reader."""
_BOX_DENIED = re.compile(
    r"[\s$.)*\\]{0,6}(?:is|was|isn't|wasn't|can(?:not|'t) be|would be)?\s*(?:not|never|n't|wrong|incorrect|false)\b"
    r"|[\s$.)*\\]{0,6}(?:isn't|wasn't|can't be|cannot be)\b",
    re.IGNORECASE,
)
CORRECTION_CHARS = 80
_CORRECTED = re.compile(
    r"\b(?:correct(?:ed|ion|s)?|instead|actually|rather|should|mistake|wait|wrong|no,|not|fix(?:ed)?|revised?)\b",
    re.IGNORECASE,
)
_PYTHON = re.compile(r"\w\([^()]*\)\s+(?:or|and|if|else)\s|\bif\s+\S+\s+else\s|\belse\s+[-\d]", re.IGNORECASE)
"""An expression of Python, such as `run() or 8` and `5 if False else 8`: code is no answer."""
_OPEN_TAG = re.compile(r"<answer>", re.IGNORECASE)
_CLOSE_TAG = re.compile(r"</answer>", re.IGNORECASE)
_REPLY = re.compile(r"^A(?:nswer)?:[ \t]*(\S.*)$", re.MULTILINE)
_ANSWER_LINE = re.compile(r"^[ \t]*(?:\*\*)?(?:Final )?Answer:(?:\*\*)?[ \t]*(\S.*)$", re.MULTILINE | re.IGNORECASE)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*)$", re.MULTILINE)
_CODE_LINE = re.compile(
    r"^[ \t]*(?:(?:def|class)\s+\w+.*:|(?:return|assert|raise|import|from\s+\w+\s+import)\s.*|lambda\b.*:.*|"
    r"(?:for|while|if|elif|with)\b.*:)[ \t]*$",
    re.MULTILINE,
)
_STRUCK = re.compile(r"~~[^~\n]{1,200}~~|<(?P<tag>del|s|strike)>[^<>]{0,200}</(?P=tag)>", re.IGNORECASE)
_TAG = re.compile(r"</?(?:answer|b|strong|i|em|u|p|br|span|div|center)\s*/?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate, and by what it was found."""

    text: str
    by: FoundBy


def find_answer(message: str, *, numeric: bool = False, strict: bool = False) -> Found:
    """The text in the message that is its answer; `by` is "none" if there is none.

    Args:
        numeric: the gold answer is a number, so that the last number may stand for an answer that nothing announces.
        strict: only the last box, an `<answer>` tag, a line `####` or a line `Answer:` counts.

    """
    text = after_thinking(message.rstrip())[-TAIL_CHARS:].strip()
    if "~~" in text or "</" in text:
        text = _STRUCK.sub(" ", text).strip()
    if not text:
        return Found("", "none")
    if text.isascii() and text.isdigit() and not strict:
        return Found(text, "whole")
    tagged = _last_tagged(text)
    if tagged is not None:
        inner = find_answer(tagged, numeric=numeric)
        return Found(inner.text, "tag" if inner.by != "none" else "none")
    boxes = last_boxes(text)
    if boxes is not None:
        return Found("", "none") if _is_denied(text) else Found(boxes, "box" if boxes.strip() else "none")
    hashes = _HASHES.findall(text)
    if hashes:
        return Found(hashes[-1], "hashes")
    if strict:
        line = _answer_line(text)
        return Found(line, "line") if line else Found("", "none")
    text = text.partition("<|")[0].strip() or text
    text = _TAG.sub(" ", _CODE_LINE.sub("", text)).strip()
    if not text or (len(text) <= MAX_CANDIDATE and _PYTHON.search(text)):
        return Found("", "none")
    if text.startswith("Q") and (replies := _REPLY.findall(text)):
        text = replies[-1]
    if "\n" in text and len(lines := {line.strip() for line in text.splitlines()} - {""}) == 1:
        text = lines.pop()
    if len(text) <= MAX_CANDIDATE and not is_prose(text) and not introduces(text, numeric):
        return Found(unwrap(BOLD_PART.sub(r"\1", unwrap(text))), "whole")
    stated = stated_answer(text, numeric)
    if stated:
        return Found(stated, "line" if stated == _answer_line(text) else "stated")
    last = (not numeric and plain_end(text)) or last_answer(text, numeric)
    return Found(last, "last") if last else Found("", "none")


def _answer_line(text: str) -> str:
    """The content of the last line `Answer: x`, bold marks and a full stop aside; empty if there is none."""
    lines = _ANSWER_LINE.findall(text)
    return unwrap(re.sub(r"(?<!\\right)\.$", "", lines[-1].replace("**", "").strip())) if lines else ""


def after_thinking(text: str) -> str:
    """What follows the reasoning; what precedes it, if that never ended (nothing, as a rule)."""
    if _CHANNEL in text:
        final = _FINAL_CHANNEL.split(text)
        text = final[-1] if len(final) > 1 else text.partition(_CHANNEL)[0]
    closing = [*_REASONING_END.finditer(text)]
    text = text[closing[-1].end() :] if closing else text
    opening = _REASONING.search(text)
    return text[: opening.start()] if opening else text


def last_boxes(text: str) -> str | None:
    """Content of the last balanced box, with those that it is listed with, comma between; None if there is no box."""
    boxes: list[str] = []
    after = -1  # where the box behind starts
    for match in reversed(list(_BOX.finditer(text))[-50:]):
        content, end = _content(text, match.end())
        if content is None:
            continue
        if boxes:
            between = text[end:after]
            if not (LIST_GLUE.fullmatch(between) or (len(between) <= 90 and _NAMED_GLUE.fullmatch(_plain(between)))):
                break
        if content not in boxes:
            boxes.insert(0, content)
        after = match.start()
    return ", ".join(boxes) if boxes else None


def _is_denied(text: str) -> bool:
    """Whether the last whole box is denied at once, or corrected by one that was cut off."""
    matches = [*_BOX.finditer(text)]
    content, end = _content(text, matches[-1].end())
    if content is not None:
        return _BOX_DENIED.match(text, end) is not None
    return _CORRECTED.search(text[: matches[-1].start()][-CORRECTION_CHARS:]) is not None


def _last_tagged(text: str) -> str | None:
    """What stands in the last `<answer>` that is closed."""
    closing = [*_CLOSE_TAG.finditer(text)]
    while closing:
        stop = closing.pop().start()
        start = closing[-1].end() if closing else 0
        opening = _OPEN_TAG.search(text, start, stop)
        if opening:
            return text[opening.end() : stop]
    return None


def _plain(between: str) -> str:
    return _WRAPPING.sub(lambda match: match[1] or "", between)


def _content(text: str, start: int) -> tuple[str | None, int]:
    if text[start : start + 1] == "{":
        depth = 0
        for index in range(start, min(len(text), start + MAX_CANDIDATE + 2)):
            if text[index] == "\\":
                continue
            escaped = text[index - 1] == "\\" and text[index - 2 : index] != "\\\\"
            if text[index] in "{}" and not escaped:
                depth += 1 if text[index] == "{" else -1
                if depth == 0:
                    return _inner(text[start + 1 : index]), index + 1
        return None, start
    bare = re.match(r"[-+]?[\w.,/]*\w", text[start : start + 100])
    return (bare[0], start + bare.end()) if bare else (None, start)


def _inner(content: str) -> str:
    """A box in a box is one box."""
    inner = _BOX.match(content.strip())
    if inner:
        found, end = _content(content.strip(), inner.end())
        if found is not None and end == len(content.strip()):
            return found
    return content
