"""Recognizes how a source keeps its problems, and turns its rows into prompts. Rows and a table enter, prompts leave.

A few rows say which keys hold text and answer; a key that the recipe names is the only one that counts, and two keys that
may both be meant are refused. What was taken is told in one line. Pure.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prompts.answers import NO_ANSWERS, Mark, find_marked, needed_mark, single
from prompts.chats import ends_with_answer, is_chat, turns_of
from prompts.rows import Row
from stream.config import PromptsTable
from stream.errors import UserError
from stream.json_lines import has_lone_surrogate
from stream.messages import Prompt, Turn

TEXT_KEYS = ("prompt", "question", "problem", "query", "messages", "conversations", "text", "instruction")
ANSWER_KEYS = (
    "answer", "final_answer", "expected_answer", "reference_answer", "ground_truth", "gt_answer", "gold", "target", "label",
)  # fmt: skip
WORKED_KEYS = ("solution",)
"""Keys of worked solutions, which count where there is no answer."""
VERL = ("prompt", "reward_model.ground_truth")
ORZ = ("0.value", "1.ground_truth.value")
"""Text and answer in the layouts of verl (DAPO-Math-17k, Skywork-OR1) and Open-Reasoner-Zero."""
TASK_KEYS = ("task", "data_source", "subject", "type", "source")
LEVEL_KEYS = ("level", "difficulty")
UNGRADED = ("apps", "code_contests", "codecontests", "codeforces", "taco")
"""Ends of verl's `data_source` whose answers are programs, which no built-in grader runs."""
MAX_LABEL = 100
KEYS_SHOWN = 12


class LeftOut(UserError):
    """A row that is no prompt and no mistake either, such as a proof: left out and counted."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a source keeps what."""

    text_keys: tuple[str, ...]
    """The first that a row has is taken."""
    answer_keys: tuple[str, ...]
    mark: Mark = ""
    """What answers must be marked with; "" if they need not be."""
    is_worked: bool = False
    """The answers are marked in worked solutions, where one without a mark is a proof and no mistake."""


def find_layout(sample: Sequence[Row], table: PromptsTable) -> Layout:
    """The layout of a source, by some of its rows.

    Raises:
        UserError: no key or more than one may hold the text or the answer.

    """
    rows = [row for row in sample if not row.problem]
    text_keys = (table.text_key,) if table.text_key else _found("text", [(row, _texts(row.values)) for row in rows])
    answers = [(row, _answers(row.values)) for row in rows]
    answer_keys = (table.answer_key,) if table.answer_key else _found("answer", answers)
    is_worked = all(key.lower() in WORKED_KEYS for key in answer_keys)
    values = [str(value) for row in rows if (value := single(_first(row.values, answer_keys)[1])) is not None]
    return Layout(text_keys, answer_keys, needed_mark(values, is_worked), is_worked)


def _found(what: str, candidates: Sequence[tuple[Row, list[str]]]) -> tuple[str, ...]:
    """The keys that hold the text or answer, those of most rows first."""
    counts: dict[str, int] = {}
    for row, keys in candidates:
        if len({str(pick(row.values, key)) for key in keys}) > 1:
            raise UserError(
                f"{row.where} may have its {what} at {' or at '.join(keys)}; set prompts.{what}_key to the one that is meant"
            )
        for key in keys[:1]:
            counts[key] = counts.get(key, 0) + 1
    if not counts and candidates:
        row = candidates[0][0]
        raise UserError(
            f"{row.where} has no {what} at any usual key; it has {keys_of(row)}: set prompts.{what}_key to the one that is meant"
        )
    return tuple(sorted(counts, key=lambda key: -counts[key]))


def keys_of(row: Row) -> str:
    """A row's keys, for messages."""
    names = list(map(str, row.values))
    return ", ".join(names[:KEYS_SHOWN]) + (", ..." if len(names) > KEYS_SHOWN else "") if names else "no keys"


def _texts(values: Mapping[str, Any]) -> list[str]:
    """Keys that may hold the text. A transcript, whose last turn is the answer, counts only where it is alone."""
    if all(pick(values, key) is not None for key in VERL):
        return [VERL[0]]
    if pick(values, ORZ[0]) is not None:
        return [ORZ[0]]
    found = [key for key in _present(values, TEXT_KEYS) if isinstance(values[key], str) or is_chat(values[key])]
    prompts = [key for key in found if not (is_chat(values[key]) and ends_with_answer(values[key]))]
    return prompts or found


def _answers(values: Mapping[str, Any]) -> list[str]:
    for key in (VERL[1], ORZ[1]):
        if pick(values, key) is not None:
            return [key]
    return _present(values, ANSWER_KEYS) or _present(values, WORKED_KEYS)


def _present(values: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """The row's own spelling of the keys that it has a value for, in the order of `wanted`."""
    spelled = {str(key).lower(): str(key) for key, value in values.items() if not _is_blank(value)}
    return [spelled[key] for key in wanted if key in spelled]


def _is_blank(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _first(values: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, Any]:
    """Key and value of the first of the keys that the row has; of the first key, if it has none."""
    found = ((key, pick(values, key)) for key in keys)
    return next(((key, value) for key, value in found if not _is_blank(value)), (keys[0], pick(values, keys[0])))


def pick(values: Mapping[str, Any], key: str) -> Any:
    """The value at a key such as `answer`, `reward_model.ground_truth` or `prompt.0.content`; None if there is none."""
    if key in values:
        return values[key]
    value: Any = values
    for part in key.split("."):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping):
            value = value.get(part)
        else:
            return None
    return value


# -- rows to prompts --------------------------------------------------------------------------------------------------


def prompt_of(row: Row, layout: Layout, table: PromptsTable) -> Prompt:
    """The prompt that a row describes.

    Raises:
        LeftOut: the row is a proof, or of a task that the recipe leaves out.
        UserError: it has no text, no answer or no grader.

    """
    if row.problem:
        raise UserError(f"{row.where} {row.problem}")
    text, messages = _text_of(row, layout)
    task, level = _label(row.values, TASK_KEYS), _label(row.values, LEVEL_KEYS)
    grader = _grader_of(row, task, table)
    return Prompt(
        prompt_id=_id_of(row.values, text, messages),
        text=text,
        answer=_answer_of(row, layout, grader),
        grader=grader,
        task=task,
        level=level,
        messages=messages,
    )


def _text_of(row: Row, layout: Layout) -> tuple[str, tuple[Turn, ...]]:
    key, value = _first(row.values, layout.text_keys)
    messages: tuple[Turn, ...] = ()
    if is_chat(value):
        try:
            messages = turns_of(value)
        except ValueError as error:
            raise UserError(f"{row.where}: the chat at {key!r} {error}") from None
        value = messages[-1].content
    text = _scalar(row, "text", key, value)
    for turn in messages:
        _refuse_half_characters(row, key, turn.content)
    return text, messages


def _answer_of(row: Row, layout: Layout, grader: str) -> str:
    key, value = _first(row.values, layout.answer_keys)
    text = _scalar(row, "answer", key, single(value))
    if text.strip().lower() in NO_ANSWERS:
        raise LeftOut(f"{row.where} has {text.strip()!r} in place of an answer at {key!r}")
    if grader == "regex":
        return text
    marked = find_marked(text)
    if marked is not None:
        return marked.answer
    if layout.mark:
        kind = LeftOut if layout.is_worked else UserError
        raise kind(
            f"{row.where} has no {layout.mark} in its answer at {key!r}, as the others have, but ends in {_shown(text[-40:])}; "
            "mark the answer, or remove the row"
        )
    return text


def _scalar(row: Row, what: str, key: str, value: Any) -> str:
    if _is_blank(value):
        found = f"{key!r} is {_shown(value)}" if pick(row.values, key) is not None else f"no key {key!r}"
        raise UserError(
            f"{row.where} has no {what}: {found}; it has {keys_of(row)}: give it one, or set prompts.{what}_key"
        )
    if not isinstance(value, str | int | float):
        kinds = "a text or a list of messages" if what == "text" else "a text or a number"
        raise UserError(
            f"{row.where} has {what} {_shown(value)} at {key!r}; want {kinds}: prompts.{what}_key may name what lies inside, "
            "such as a.b or a.0"
        )
    _refuse_half_characters(row, key, str(value))
    return str(value)


def _refuse_half_characters(row: Row, key: str, text: str) -> None:
    if has_lone_surrogate(text):
        raise UserError(f"{row.where} has half a character (a lone surrogate) at {key!r}: write the whole character")


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."


def _label(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The first short text or number at one of the keys; a float without its zeros."""
    for key in keys:
        value = pick(values, key)
        if isinstance(value, float):
            value = f"{value:g}"
        if isinstance(value, str | int) and not _is_blank(value) and len(str(value)) <= MAX_LABEL:
            return str(value)
    return ""


def _grader_of(row: Row, task: str, table: PromptsTable) -> str:
    """The row's own, the task's, or the recipe's."""
    own = row.values.get("grader")
    if isinstance(own, str) and own:
        return own
    if task in table.graders:
        if not table.graders[task]:
            raise LeftOut(f"{row.where} is of task {task!r}, which prompts.graders leaves out")
        return table.graders[task]
    style = pick(row.values, "reward_model.style")
    if style == "model" or (style is not None and task.lower().endswith(UNGRADED)):
        raise UserError(
            f"{row.where} has data_source {task!r} and reward_model.style {style!r}, which no built-in grader grades; "
            f'name one, or leave the task out: prompts.graders = {{ "{task}" = "" }}'
        )
    return table.grader


def _id_of(values: Mapping[str, Any], text: str, messages: Sequence[Turn]) -> str:
    """The row's own id; else one of the prompt's content, which stays when lines are added or files move."""
    own = values.get("prompt_id", values.get("id"))
    if isinstance(own, str | int) and not _is_blank(own):
        return str(own)
    content = repr([(turn.role, turn.content) for turn in messages]) if messages else text
    return hashlib.sha256(content.encode()).hexdigest()[:16]
