"""Chooses the ports of a local cluster: the given ones, those it had before, or free ones."""

import logging
import random
import socket

from localkafka.settings import HOST, NodePorts
from stream.errors import UserError

log = logging.getLogger(__name__)

# Below the ports that the system hands to outgoing connections (32768 and up on Linux): a broker that is killed
# must find its port free when it comes back, whatever its clients dial in the meantime.
_LOWEST, _HIGHEST = 20_000, 32_000


def choose_ports(
    nodes: list[int], wanted: list[int] | None, saved: dict[int, NodePorts] | None
) -> dict[int, NodePorts]:
    """Ports of every node. Raises: UserError where a wanted one is in use."""
    for port in wanted or []:
        _refuse_unusable(port)
    if saved and not wanted:
        return _ports_again(saved)
    taken = set(wanted or [])
    brokers = wanted or [_free_port(taken) for _ in nodes]
    return {n: NodePorts(broker=b, controller=_free_port(taken)) for n, b in zip(nodes, brokers, strict=True)}


def _refuse_unusable(port: int) -> None:
    if not 1 <= port <= 65_535:
        raise UserError(f"ports: got {port}, expected 1 to 65535")
    if not is_free(port):
        raise UserError(
            f"ports: {port} is in use on {HOST} or not for you to use, expected a free port; "
            "stop what listens there (`ss -ltnp` shows it), or give no ports to have free ones chosen"
        )


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        # As Java does on Linux: connections of a broker that just ended do not hold its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _ports_again(saved: dict[int, NodePorts]) -> dict[int, NodePorts]:
    """The ports of last time, each replaced only if another program has it now."""
    taken: set[int] = set()
    return {
        n: NodePorts(broker=_same(p.broker, taken), controller=_same(p.controller, taken)) for n, p in saved.items()
    }


def _same(port: int, taken: set[int]) -> int:
    if is_free(port):
        return port
    other = _free_port(taken)
    log.warning("broker_port_moved was=%d now=%d", port, other)
    return other


def _free_port(taken: set[int]) -> int:
    """A port that is free and not handed out before; it is added to `taken`."""
    while True:
        port = random.randrange(_LOWEST, _HIGHEST)
        if port not in taken and is_free(port):
            taken.add(port)
            return port
