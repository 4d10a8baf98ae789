r"""Finds what a message marks as its answer: the last `\boxed{}`, `<answer>`, `####` or line `Answer:`, outside of reasoning.

A mark inside reasoning is none; of a box and a tag the later counts, and both before hashes, and these before a line.
"""

import re
from typing import NamedTuple

from stream.messages import FoundBy
from verifier.latex import unwrap
from verifier.prose import LIST_GLUE, MAX_CANDIDATE

BOX = re.compile(r"\\\\?(?:boxed|f(?:rame)?box)\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
"""A brace, or an escaped character that is none."""
_PLAIN_CONTENT = re.compile(r"\{([^{}\\]{0,300})\}|[-+]?[\w.,/]{0,100}\w")
_NAMED_GLUE = re.compile(
    r"[^\\{}]{0,40}?(?<![a-z])(?:and|or)(?![a-z])(?!\s+(?:so|thus|hence|then|therefore|rather)\b)[^\\{}]{0,25}|[^\\{}A-Za-z]{0,12}(?:[A-Za-z](?:_?\d)?\s*=\s*)?",
    re.DOTALL,
)
_NAME = r"(?:seed:)?(?:[a-z_]*(?:think|thought|reason|reflect|scratch|analysis|monologue|deliberat|rationale)[a-z_]*|cot)\d?\s*(?:[|｜]?>|▷)"
"""Of a tag that says thinking: `<think>`, `<|start_of_reasoning|>`, `◁think▷`, `<cot>`."""
_REASONING = re.compile(
    rf"(?:<[|｜]?|◁)\s*(?!end_){_NAME}|\[(?:THINK|THINKING|REASONING)\]|<\|im_start\|>\s*think\b", re.IGNORECASE
)
_REASONING_END = re.compile(
    rf"(?:<[|｜]?|◁)\s*(?:/|end_(?:of_)?)\s*{_NAME}|\[/(?:THINK|THINKING|REASONING)\]|<\|im_start\|>\s*answer\b",
    re.IGNORECASE,
)
_CHANNEL = "<|channel|>"
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\s*(?:<\|constrain\|>\w*)?<\|message\|>")
"""gpt-oss writes its reasoning in channels of its own; only the last `final` one is for the reader."""
_END_OF_CHANNEL = re.compile(r"<\|(?:end|return|start|call|channel)\|>")
_BARE_CHANNEL = re.compile(r"analysis(?=[\w\\$(\n]|.*assistantfinal)", re.DOTALL)
"""The same without its special tokens: `analysisWe need ...assistantfinalThe answer is 5`."""
_TAG = re.compile(
    r"<(?:final[_ -]?)?answer>((?:(?!</?(?:final[_ -]?)?answer>).)*)(</(?:final[_ -]?)?answer>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_BOX_TOKENS = re.compile(r"<\|begin_of_box\|>(.{1,3000}?)<\|end_of_box\|>", re.DOTALL)
_HASHES = re.compile(r"(?:^|(?<=[\s:]))####[ \t]*:?[ \t]*(\S.*)$", re.MULTILINE)
_LINE = re.compile(
    r"^[ \t]*(?:(?:#{1,6}|[-*>])[ \t]+)?(?:\*\*)?(?:(?:The|My) )?(?:Final )?Answer(?:\*\*[:\uff1a]|[:\uff1a]\*\*|[:\uff1a])[ \t]*(\S.*)$",
    re.MULTILINE | re.IGNORECASE,
)


class Mark(NamedTuple):
    """A marked answer between what precedes and what follows it."""

    by: FoundBy
    before: str
    text: str
    after: str
    listed: str = ""
    """All the answers of a list of boxes, of which `text` is the last."""


def after_thinking(text: str) -> str:
    """What follows the reasoning; what precedes it, if that never ended (nothing, as a rule)."""
    text = _BOX_TOKENS.sub(r"\\boxed{\1}", text) if "_of_box" in text else text
    if _CHANNEL in text:
        final = _FINAL_CHANNEL.split(text)
        text = _END_OF_CHANNEL.split(final[-1])[0] if len(final) > 1 else text.partition(_CHANNEL)[0]
    elif _BARE_CHANNEL.match(text):
        text = text.rpartition("assistantfinal")[2] if "assistantfinal" in text else ""
    if "<" not in text and "◁" not in text and "[" not in text:
        return text
    closing = [*_REASONING_END.finditer(text)]
    text = text[closing[-1].end() :] if closing else text
    opening = _REASONING.search(text)
    return text[: opening.start()] if opening else text


def last_mark(text: str, *, numeric: bool, strict: bool) -> Mark | None:
    """The mark that counts; a line `Answer:` only in strict mode, as prose is read for it otherwise."""
    tag = last_tag(text)
    boxed = last_box(tag.after if tag else text)
    return boxed or tag or _last_hashes(text, numeric) or (last_line(text) if strict else None)


def last_tag(text: str) -> Mark | None:
    """The last `<answer>`, which may be left open at the end."""
    tags = [tag for tag in _TAG.finditer(text) if tag[2] or tag[1].strip()] if "<" in text else []
    return _mark("tag", tags[-1], tags[-1][1]) if tags else None


def _last_hashes(text: str, numeric: bool) -> Mark | None:
    """The last `####`, titles aside where a number is wanted."""
    found = [*_HASHES.finditer(text)] if "####" in text else []
    if numeric:
        found = [line for line in found if re.search(r"\d", line[1])] or found
    return _mark("hashes", found[-1], unwrap(found[-1][1].rstrip(" \t#"))) if found else None


def last_line(text: str) -> Mark | None:
    """The last line `Answer: x`, bold marks and a full stop aside."""
    if not (lines := [*_LINE.finditer(text)]):
        return None
    return _mark("line", lines[-1], unwrap(re.sub(r"(?<!\\right)\.$", "", lines[-1][1].replace("**", "").strip())))


def _mark(by: FoundBy, place: re.Match[str], content: str) -> Mark:
    return Mark(by, place.string[: place.start()], content, place.string[place.end() :])


def last_box(text: str) -> Mark | None:
    """The last balanced box, with those that it is listed with."""
    if "box" not in text:
        return None
    last: Mark | None = None
    listed: list[str] = []
    start = 0
    for match in reversed([*BOX.finditer(text)][-50:]):
        content, end = _content(text, match.end())
        if content is None:
            continue
        if last is None:
            last = Mark("box", text[: match.start()], content, text[end:])
        elif not _is_list(text[end:start]):
            break
        if content not in listed:
            listed.insert(0, content)
        start = match.start()
    return last._replace(listed=", ".join(listed)) if last and len(listed) > 1 else last


def _is_list(between: str) -> bool:
    """Whether this joins two boxes, with no more than "and", a comma or a name."""
    if LIST_GLUE.fullmatch(between):
        return True
    return _NAMED_GLUE.fullmatch(between) is not None


def _content(text: str, start: int) -> tuple[str | None, int]:
    """What a box holds, and where it ends; None if that is not in sight."""
    if plain := _PLAIN_CONTENT.match(text, start):
        return plain[1] if plain[0].startswith("{") else plain[0], plain.end()
    if text[start : start + 1] != "{":
        return None, start
    depth = 0
    for token in _BRACE.finditer(text, start, start + MAX_CANDIDATE + 2):
        depth += (token[0] == "{") - (token[0] == "}")
        if depth == 0:
            return _inner(text[start + 1 : token.start()]), token.end()
    return None, start


def _inner(content: str) -> str:
    """A box in a box is one box."""
    inner = BOX.match(content.strip())
    if inner:
        found, end = _content(content.strip(), inner.end())
        if found is not None and end == len(content.strip()):
            return found
    return content
