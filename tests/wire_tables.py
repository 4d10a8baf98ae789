"""Makes the tables of docs/wire.md from the classes in stream/messages.py, and reads them back.

python tests/wire_tables.py        # writes the tables anew; run it after a change of a message
"""

import ast
import inspect
import json
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from stream import messages

DOCUMENT = Path(__file__).parent.parent / "docs" / "wire.md"
COLUMNS = ("field", "type", "default", "unit", "meaning")
CLASSES: dict[str, type[Any]] = {
    name: value
    for name, value in vars(messages).items()
    if isinstance(value, type) and issubclass(value, msgspec.Struct) and value is not msgspec.Struct
}
MEANINGS = {
    "content": "What is said",
    "created_s": "Wall clock, since the epoch",
    "elapsed_s": "Time that it took",
    "final": "The last of the run",
    "grader": "Name of the grader",
    "group_id": "The group, as in `Job`",
    "host": "Name of the machine",
    "key": "Its key",
    "level": "The prompt's level",
    "metrics": "Figures by name, as in metrics.md",
    "mode": "Allocation mode, `allocator.mode`",
    "num_correct": "Sum of the rewards",
    "num_graded": "Rollouts whose reward counts",
    "num_rollouts": "Rollouts of the group",
    "offset": "An offset in it",
    "partition": "Number of the partition",
    "pid": "Process id",
    "policy_version": "The version of these weights",
    "producer": "Worker that sampled it; empty if it was abandoned",
    "prompt_id": "The prompt",
    "reason": "Why, in a few words",
    "reward_sum": "Sum of their rewards",
    "role": "Worker that refused it",
    "round": "The allocator's round, from 0",
    "scores": "Prompt by prompt",
    "start": "The first of them",
    "step": "Updates that made it, in its lineage",
    "stop": "Behind the last of them",
    "task": "The prompt's task",
    "temperature": "Of the sampling; 0 is greedy",
    "topic": "Name on the broker",
}
"""Of fields whose class says nothing about them, as their name says it."""
UNITS = {
    "_s": "s",
    "_tokens": "tokens",
    "cost": "tokens",
    "_logprobs": "nats",
    "staleness": "versions",
    **dict.fromkeys(("_rollouts", "_graded", "_observed", "_trials", "_sampled", "debt"), "rollouts"),
}
"""By the end of a field's name."""


def rows_of(message: type[Any]) -> list[tuple[str, ...]]:
    """One row for each field of a message, in the order of the wire."""
    hints, meanings = get_type_hints(message), _docstrings(message)
    return [
        (
            f"`{field.name}`",
            wire_type(hints[field.name]),
            _default(field),
            next((unit for end, unit in UNITS.items() if field.name.endswith(end)), ""),
            (meanings.get(field.name) or MEANINGS.get(field.name) or _meaning_of(hints[field.name])).rstrip("."),
        )
        for field in msgspec.structs.fields(message)
    ]


def wire_type(hint: Any) -> str:
    """How MessagePack has a value of this type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is np.ndarray:
        return {np.int32: "int32 array", np.float32: "float32 array"}[get_args(arguments[1])[0]]
    if origin is tuple:
        return f"array of {wire_type(arguments[0])}"
    if origin is Mapping:
        return f"map of {wire_type(arguments[0])} to {wire_type(arguments[1])}"
    if origin in (Union, types.UnionType):
        return f"{wire_type(arguments[0])} or nil"
    if origin is Literal:
        return "str"
    if hint in CLASSES.values():
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return "bin" if hint is bytes else str(hint.__name__)


def documented_rows(document: str, name: str) -> list[tuple[str, ...]]:
    """The rows of a message's table in the document."""
    section = document.partition(f"\n### {name}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [tuple(cell.strip().replace("\\|", "|") for cell in line.strip("|").split(" | ")) for line in lines]


def table_of(message: type[Any]) -> str:
    """A table whose columns line up, but for the last."""
    rows = [COLUMNS, *rows_of(message)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS) - 1)]
    lines = [
        "| " + " | ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in (*widths, len(COLUMNS[-1]))) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def write(document: Path = DOCUMENT) -> None:
    """Put the tables in their places, below the headings with the classes' names."""
    text = document.read_text()
    for name, message in CLASSES.items():
        heading = f"\n### {name}\n"
        before, found, after = text.partition(heading)
        assert found, f"{document} has no heading {heading.strip()!r}: add one"
        following = re.search(r"^##", after, re.MULTILINE)
        rest = "\n" + after[following.start() :] if following else ""
        summary = inspect.cleandoc(message.__doc__ or "")
        text = f"{before}{heading}\n{summary}\n\n{table_of(message)}\n{rest}"
    document.write_text(text)


def _docstrings(message: type[Any]) -> dict[str, str]:
    """The strings beneath the fields."""
    (tree,) = ast.parse(inspect.getsource(message)).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for before, node in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(node, ast.Expr):
            found[before.target.id] = " ".join(str(ast.literal_eval(node.value)).split())
    return found


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is msgspec.NODEFAULT:
        return "" if field.default_factory is msgspec.NODEFAULT else json.dumps(field.default_factory())
    value = field.default.decode() if isinstance(field.default, bytes) else field.default
    return "nil" if value is None else json.dumps(value)


def _meaning_of(hint: Any) -> str:
    """Of a field that is named after the message it holds: the first sentence of that message."""
    (message,) = [message for message in CLASSES.values() if message in (hint, *get_args(hint))]
    return (inspect.getdoc(message) or "").partition(". ")[0]


if __name__ == "__main__":
    write()
