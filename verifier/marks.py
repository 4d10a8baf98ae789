r"""Finds what a message marks as its answer: the last `\boxed{}`, `<answer>` or `####`, outside of all reasoning.

A mark inside reasoning is none, a box that is denied or corrected is no answer, and of a box and a tag the later counts.
"""

import re

from verifier.prose import LIST_GLUE, MAX_CANDIDATE

_BOX = re.compile(r"\\{1,2}(?:boxed|fbox)\s*")
_NAMED_GLUE = re.compile(
    r"[^\\{}]{0,40}?(?<![a-z])(?:and|or)(?![a-z])(?!\s+(?:so|thus|hence|then|therefore)\b)[^\\{}]{0,25}|[^\\{}A-Za-z]{0,12}(?:[A-Za-z](?:_?\d)?\s*=\s*)?",
    re.DOTALL,
)
_WRAPPING = re.compile(r"\\[()\[\]]|\$|\\text\s*\{([^{}]*)\}|\\q?quad(?![a-z])")
_NAME = r"(?:seed:)?(?:[a-z_]*(?:think|thought|reason|reflect|scratch|analysis|monologue|deliberat|rationale)[a-z_]*|cot)\d?\s*(?:[|｜]?>|▷)"
"""Of a tag that says thinking: `<think>`, `<|start_of_reasoning|>`, `◁think▷`, `<cot>`."""
_REASONING = re.compile(rf"(?:<[|｜]?|◁)\s*(?!end_){_NAME}|\[(?:THINK|THINKING|REASONING)\]", re.IGNORECASE)
_REASONING_END = re.compile(
    rf"(?:<[|｜]?|◁)\s*(?:/|end_(?:of_)?)\s*{_NAME}|\[/(?:THINK|THINKING|REASONING)\]", re.IGNORECASE
)
_CHANNEL = "<|channel|>"
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\s*(?:<\|constrain\|>\w*)?<\|message\|>")
"""gpt-oss writes its reasoning in channels of its own; only the last `final` one is for the reader."""
_END_OF_CHANNEL = re.compile(r"<\|(?:end|return|start|call|channel)\|>")
_BARE_CHANNEL = re.compile(r"analysis(?=[A-Z])")
"""The same without its special tokens: `analysisWe need ...assistantfinalThe answer is 5`."""
_THEN = re.compile(r"[\s$.,;)\]\\]{0,12}(?:and|or)(?:\s+then)?[\s$(\[\\]{0,12}", re.IGNORECASE)
"""Between a box and one that is listed with it: such a box is no correction."""
_OPEN_TAG = re.compile(r"<answer>", re.IGNORECASE)
_CLOSE_TAG = re.compile(r"</answer>", re.IGNORECASE)
_HASHES = re.compile(r"(?:^|(?<=[\s:]))####[ \t]*:?[ \t]*(\S.*)$", re.MULTILINE)


def after_thinking(text: str) -> str:
    """What follows the reasoning; what precedes it, if that never ended (nothing, as a rule)."""
    if _CHANNEL in text:
        final = _FINAL_CHANNEL.split(text)
        text = _END_OF_CHANNEL.split(final[-1])[0] if len(final) > 1 else text.partition(_CHANNEL)[0]
    elif _BARE_CHANNEL.match(text):
        text = text.rpartition("assistantfinal")[2] if "assistantfinal" in text else ""
    closing = [*_REASONING_END.finditer(text)]
    text = text[closing[-1].end() :] if closing else text
    opening = _REASONING.search(text)
    return text[: opening.start()] if opening else text


def last_tagged(text: str) -> tuple[str, int, int] | None:
    """What is in the last `<answer>`, which may be left open at the end, and where that begins and ends."""
    closing = [*_CLOSE_TAG.finditer(text)]
    opened = [*_OPEN_TAG.finditer(text, closing[-1].end() if closing else 0)]
    if opened and text[opened[-1].end() :].strip():
        return text[opened[-1].end() :], opened[-1].start(), len(text)
    while closing:
        close = closing.pop()
        opening = _OPEN_TAG.search(text, closing[-1].end() if closing else 0, close.start())
        if opening:
            return text[opening.end() : close.start()], opening.start(), close.end()
    return None


def last_hashes(text: str, numeric: bool) -> tuple[str, int, int] | None:
    """What follows the last `####`, titles aside where a number is wanted, and where that begins and ends."""
    found = [*_HASHES.finditer(text)]
    if numeric:
        found = [line for line in found if re.search(r"\d", line[1])] or found
    return (found[-1][1].rstrip(" \t#"), *found[-1].span()) if found else None


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


def around_box(text: str) -> tuple[str, str, str] | None:
    """The last whole box between what precedes and what follows it; None if one with another content was begun behind."""
    unfinished, start = "", len(text)
    for match in reversed(list(_BOX.finditer(text))[-50:]):
        content, end = _content(text, match.end())
        if content is None:
            unfinished, start = unfinished or text[match.end() :].lstrip("{ ").rstrip(), match.start()
            continue
        if unfinished and not content.strip().startswith(unfinished) and not _THEN.fullmatch(text[end:start]):
            return None
        return text[: match.start()], content, text[end:]
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
