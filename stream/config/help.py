"""Shows every key of a recipe: its kind, its default and its meaning, table by table."""

import json
import textwrap
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from stream.config.recipe import Config

WIDTH = 110


def help_text(usage: str) -> str:
    """What `--help` prints for a command that takes a recipe."""
    lines = [
        f"usage: {usage} [--table.key VALUE ...]",
        "",
        "CONFIG is a recipe, a TOML file with the tables below (configs/ has some). The command line wins over the file,",
        "the file over the defaults. A value that is no text is written as in JSON: --allocator.prior '[1, 3]'.",
    ]
    for table, field in Config.model_fields.items():
        kind: Any = field.annotation
        lines += ["", f"[{table}]  {kind.__doc__}"]
        for key, entry in kind.model_fields.items():
            lines.append(f"  --{table}.{key} {_kind(entry.annotation)}{_default(entry)}")
            meaning = " ".join((entry.description or "").split())
            lines += textwrap.wrap(meaning, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (UnionType, Union):
        return "|".join(_kind(kind) for kind in arguments if kind is not NoneType)
    if origin is tuple:
        return "LIST"
    names: dict[Any, str] = {int: "INT", float: "FLOAT", bool: "true|false", Path: "PATH", str: "TEXT"}
    return names.get(annotation, "JSON")


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is None:
        return ""
    text = default if isinstance(default, str) else json.dumps(default, default=str)
    return f"  (default: {text or 'empty'})"
