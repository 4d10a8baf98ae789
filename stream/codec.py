"""Turns messages into bytes and back: MessagePack with a schema version on every record, as docs/wire.md describes it.

A record is the array [major, minor, class name, body], arrays of numbers in it are little-endian bytes. A newer minor
version is read (unknown fields are ignored), another major one is refused. Nothing is unpickled or evaluated (law 7).
"""

from typing import Any, TypeVar

import msgspec
import numpy as np

from stream.errors import BadRecord

SCHEMA_VERSION = (1, 0)
MAX_RECORD_BYTES = 32 << 20

M = TypeVar("M")
_ARRAY_DTYPES = {1: np.dtype("<i4"), 2: np.dtype("<f4")}
_ARRAY_CODES = {"i": 1, "f": 2}


def encode(message: object) -> bytes:
    """Bytes of one message.

    Raises:
        BadRecord: the message is larger than MAX_RECORD_BYTES.

    """
    data = _ENCODER.encode((*SCHEMA_VERSION, type(message).__name__, message))
    if len(data) > MAX_RECORD_BYTES:
        raise BadRecord(f"{type(message).__name__} has {len(data)} bytes; the most is {MAX_RECORD_BYTES}")
    return data


def decode(data: bytes, message_type: type[M]) -> M:
    """The message in `data`, checked field by field against `message_type`.

    Raises:
        BadRecord: not msgpack, another class, another major version, a field missing or of another type.

    """
    try:
        major, _minor, name, body = _HEADER.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRecord(f"not a Rucksack record: {error}") from None
    if major != SCHEMA_VERSION[0]:
        raise BadRecord(f"schema version is {major}; this program reads {SCHEMA_VERSION[0]}: upgrade the older side")
    if name != message_type.__name__:
        raise BadRecord(f"record holds a {name}; this topic carries {message_type.__name__}")
    try:
        message: M = _decoder(message_type).decode(body)
        return message
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise BadRecord(f"{name}: {error}") from None


def to_builtins(message: object) -> Any:
    """The message as plain dicts, lists and numbers, for tables and JSON."""
    return msgspec.to_builtins(message, enc_hook=lambda value: value.tolist())


def _pack_array(value: Any) -> msgspec.msgpack.Ext:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in _ARRAY_CODES:
        raise TypeError(f"cannot encode {type(value).__name__}: want a one-dimensional integer or float array")
    code = _ARRAY_CODES[value.dtype.kind]
    return msgspec.msgpack.Ext(code, value.astype(_ARRAY_DTYPES[code]).tobytes())


def _unpack_array(code: int, data: memoryview) -> np.ndarray[Any, Any]:
    if code not in _ARRAY_DTYPES:
        raise ValueError(f"unknown array code {code}; want 1 (int32) or 2 (float32)")
    return np.frombuffer(bytes(data), dtype=_ARRAY_DTYPES[code])


def _check_array(expected: type, value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        raise ValueError(f"want an array, got {type(value).__name__}")
    return value


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_pack_array)
_HEADER: msgspec.msgpack.Decoder[tuple[int, int, str, msgspec.Raw]] = msgspec.msgpack.Decoder(
    tuple[int, int, str, msgspec.Raw]
)


_DECODERS: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {}


def _decoder(message_type: type[Any]) -> msgspec.msgpack.Decoder[Any]:
    if message_type not in _DECODERS:
        decoder = msgspec.msgpack.Decoder(message_type, ext_hook=_unpack_array, dec_hook=_check_array)
        _DECODERS[message_type] = decoder
    return _DECODERS[message_type]
