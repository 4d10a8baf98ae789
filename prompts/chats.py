"""Reads lists of chat messages: `[{"role": ..., "content": ...}, ...]`, and the older `from` and `value`.

A value enters, turns leave; the last is the user's. System turns, examples and earlier turns are kept as they are.
"""

from collections.abc import Mapping
from typing import Any

from stream.messages import Turn

ROLES = {"human": "user", "gpt": "assistant"}
"""Names of roles in ShareGPT's layout."""


def is_chat(value: Any) -> bool:
    """Whether a value is a list of messages, good or bad."""
    return isinstance(value, list) and bool(value) and all(isinstance(message, Mapping) for message in value)


def ends_with_answer(value: Any) -> bool:
    """Whether a chat's last turn is the assistant's: a transcript to learn from, not a prompt."""
    last = value[-1]
    return str(last.get("role", last.get("from"))) in ("assistant", "gpt")


def turns_of(value: Any) -> tuple[Turn, ...]:
    """The turns of a chat up to the last that is not the assistant's.

    Raises:
        ValueError: what is wrong with which message.

    """
    turns = tuple(_turn(number, message) for number, message in enumerate(value, 1))
    while turns and turns[-1].role == "assistant":
        turns = turns[:-1]
    if not turns or turns[-1].role == "system":
        raise ValueError("has no turn of the user to answer; want a last message with role user")
    return turns


def _turn(number: int, message: Mapping[str, Any]) -> Turn:
    role = message.get("role", message.get("from"))
    content = _content(number, message.get("content", message.get("value")))
    if not isinstance(role, str) or not role:
        raise ValueError(f"has message {number} with role {role!r}; want system, user or assistant")
    return Turn(role=ROLES.get(role, role), content=content)


def _content(number: int, content: Any) -> str:
    """A message's text, which may come in parts."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        content = "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else content
    if not isinstance(content, str):
        raise ValueError(f"has message {number} with content {str(content)[:40]!r}; want a text")
    return content
