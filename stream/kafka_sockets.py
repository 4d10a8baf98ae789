"""Reads from kafka-python's sockets in large pieces, and to the last byte. Importing it changes kafka-python's transports.

What enters is a connection with something to read, what leaves is all of it that has come. kafka-python 3.0.12 reads 4 KiB at
a time. Each read lets go of the interpreter's lock, and gets it back 5 ms late where another thread computes, as while
vLLM is imported: 256 MB took 26 s.
"""

import ssl
from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

PIECE_BYTES = 1 << 20
_NOTHING_YET = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def receive(transport: Any) -> tuple[bytes, KafkaConnectionError | None]:
    """What has come; the end of the connection only after the last of it. A broker that refuses a login says why and hangs
    up: kafka-python drops what it says if both come together.
    """
    pieces: list[bytes] = []
    end: KafkaConnectionError | None = None
    while end is None:
        try:
            piece = transport._sock.recv(PIECE_BYTES)
        except _NOTHING_YET:
            break
        except Exception as error:
            end = KafkaConnectionError(error)
        else:
            pieces.append(piece)
            end = None if piece else KafkaConnectionError("socket disconnected")
    data = b"".join(pieces)
    return data, None if data else end


for _transport in (KafkaTCPTransport, KafkaSSLTransport):
    _transport._sock_recv = receive
