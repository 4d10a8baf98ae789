"""Spreads messages into columns: which ones a topic's Parquet file has, and a message's values in them.

Nested messages are spread into columns of their own: those of a `Prompt`, `Sampling` or `Budgeting` carry its name in
front (`prompt_text`, `sampling_top_p`), those of a `Job` or `Trajectory` only where an outer message has the name
already (`job_created_s`). Tuples of messages become lists of structs, arrays lists of numbers, mappings maps.
"""

import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

_ALWAYS_PREFIXED = frozenset({"prompt", "sampling", "budgeting"})
_SCALARS = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_(), bytes: pa.binary()}


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    path: tuple[str, ...]
    """Attributes from the message to the value."""
    type: Any
    """The arrow type."""

    def values(self, messages: Sequence[Any]) -> Any:
        """The column of these messages, as an arrow array."""
        values = [_follow(message, self.path) for message in messages]
        if values and all(isinstance(value, np.ndarray) for value in values):
            return _number_lists(values, self.type)
        return pa.array([_plain(value) for value in values], self.type)


def columns_of(message_type: type[Any]) -> list[Column]:
    """The columns of a message type, outer fields before inner ones."""
    columns: dict[str, Column] = {}
    level: list[tuple[tuple[str, ...], type[Any]]] = [((), message_type)]
    while level:
        inner: list[tuple[tuple[str, ...], type[Any]]] = []
        for path, owner in level:
            for name, hint in _fields(owner):
                if _is_message(hint):
                    inner.append(((*path, name), hint))
                    continue
                column = _column_name(path, name, columns)
                columns[column] = Column(column, (*path, name), arrow_type(hint))
        level = inner
    return list(columns.values())


def _column_name(path: tuple[str, ...], name: str, taken: typing.Container[str]) -> str:
    if not path:
        return name
    prefixed = name if name.startswith(f"{path[-1]}_") else f"{path[-1]}_{name}"
    return prefixed if path[-1] in _ALWAYS_PREFIXED or name in taken else name


def _fields(owner: type[Any]) -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(owner)
    return ((each.name, _without_none(hints[each.name])) for each in msgspec.structs.fields(owner))


def _is_message(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint


def arrow_type(hint: Any) -> Any:
    """The arrow type of a field's type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SCALARS:
        return _SCALARS[hint]
    if origin is typing.Literal:
        return pa.string()
    if origin is np.ndarray:
        return pa.list_(pa.from_numpy_dtype(typing.get_args(arguments[1])[0]))
    if origin is tuple:
        return pa.list_(arrow_type(arguments[0]))
    if _is_message(hint):
        return pa.struct([(name, arrow_type(inner)) for name, inner in _fields(hint)])
    if origin is not None and issubclass(origin, typing.Mapping):
        return pa.map_(*map(arrow_type, arguments))
    raise TypeError(f"no arrow type for {hint!r}")


def _follow(message: Any, path: tuple[str, ...]) -> Any:
    """The value at a path; None where an optional message on the way is missing."""
    try:
        return attrgetter(".".join(path))(message)
    except AttributeError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, typing.Mapping):
        return list(value.items())
    if isinstance(value, msgspec.Struct):
        return {each.name: _plain(getattr(value, each.name)) for each in msgspec.structs.fields(value)}
    return value


def _number_lists(arrays: Sequence[Any], kind: Any) -> Any:
    """A list column without a Python object per number: all arrays end to end, and where each begins."""
    offsets = np.zeros(len(arrays) + 1, np.int32)
    np.cumsum([array.size for array in arrays], out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(arrays), kind.value_type))
