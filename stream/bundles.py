"""Puts several messages into one record, and takes them apart again: a record costs a client much more than its bytes.

Enters and leaves: messages as `stream.codec` encodes them. A record's value is one message, or a bundle: the MessagePack
array of them, in the order in which they were sent. What is neither is handed on as it is, for the codec to refuse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

MAX_MESSAGES = 32
"""Most messages of a bundle: what reads by records takes no more at once than it can hold."""
MAX_BYTES = 65_536
"""A bundle that has so many is full."""
_SPLITTER: msgspec.msgpack.Decoder[list[msgspec.Raw]] = msgspec.msgpack.Decoder(list[msgspec.Raw])


def bundle(messages: Sequence[bytes]) -> bytes:
    """The value of a record that holds these messages; of a single one, the message itself."""
    return messages[0] if len(messages) == 1 else _array_header(len(messages)) + b"".join(messages)


def unbundle(value: bytes) -> list[bytes]:
    """The messages of a record."""
    if not _begins_as_bundle(value):
        return [value]
    try:
        return [bytes(message) for message in _SPLITTER.decode(value)]
    except msgspec.MsgspecError:
        return [value]


def _array_header(size: int) -> bytes:
    return bytes([0x90 | size]) if size < 16 else b"\xdc" + size.to_bytes(2, "big")


def _begins_as_bundle(value: bytes) -> bool:
    """An array that begins with an array: a message begins with a number."""
    header = 1 if value[:1] and 0x90 <= value[0] <= 0x9F else {b"\xdc": 3, b"\xdd": 5}.get(value[:1], 0)
    return bool(header) and value[header : header + 1] in _ARRAYS


_ARRAYS = {bytes([first]) for first in (*range(0x90, 0xA0), 0xDC, 0xDD)}


@dataclass(slots=True)
class Bundle:
    """Messages that wait to be sent together, to one partition."""

    key: bytes
    """Of the first of them."""
    messages: list[bytes] = field(default_factory=list)
    acks: list[Callable[[], None]] = field(default_factory=list)
    """To be called once they are durable."""
    num_bytes: int = 0

    def add(self, message: bytes, on_ack: Callable[[], None] | None) -> None:
        """Put one message behind the others."""
        self.messages.append(message)
        self.num_bytes += len(message)
        if on_ack is not None:
            self.acks.append(on_ack)

    @property
    def full(self) -> bool:
        """Whether it is time to send it."""
        return len(self.messages) >= MAX_MESSAGES or self.num_bytes >= MAX_BYTES

    def acknowledge(self) -> None:
        """Tell that all of them are durable."""
        for ack in self.acks:
            ack()
