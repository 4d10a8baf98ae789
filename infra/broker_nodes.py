"""Restarts the nodes of a run's own broker that died or stand still, with back-off, and gives up on one that keeps dying.

A node that is only slow is left alone: standing still is what the operating system says of a process (SIGSTOP).
"""

import time
from collections import defaultdict
from collections.abc import Callable

from infra.restarts import Restarts
from localkafka.local import LocalKafka
from stream.config import UpTable

STOPPED_S = 20.0
"""A node that a SIGSTOP holds for so long is killed, and restarted: what waits for it gives up later."""


class BrokerNodes:
    """The nodes of a local broker under supervision."""

    def __init__(self, kafka: LocalKafka, table: UpTable, say: Callable[[str], None]) -> None:
        """`say` tells people what happened."""
        self._kafka = kafka
        self._say = say
        self._restarts: dict[int, Restarts] = defaultdict(
            lambda: Restarts(table.max_restarts, table.restart_window_s, table.backoff_s, table.healthy_s)
        )
        self._start_at: dict[int, float] = {}
        """Dead node to when it is started again."""
        self._kill_at: dict[int, float] = {}
        """Stopped node to when it is killed."""
        self.failure: str | None = None
        """Why the run cannot go on."""

    def step(self) -> None:
        """Notice nodes that died or were stopped, and start those whose back-off is over."""
        self._kill_stopped()
        for node in self._kafka.dead_nodes():
            if node not in self._start_at:
                self._plan_restart(node)
            elif time.monotonic() >= self._start_at[node]:
                del self._start_at[node]
                try:
                    self._kafka.restart(node, wait=False)
                except OSError as error:  # a full disk: somebody may make room, and with three nodes the others go on
                    self._plan_restart(node, f"cannot be started ({error})")

    def _kill_stopped(self) -> None:
        stopped, now = self._kafka.stopped_nodes(), time.monotonic()
        for node in self._kill_at.keys() - set(stopped):
            del self._kill_at[node]
        for node in stopped:
            if node not in self._kill_at:
                self._kill_at[node] = now + STOPPED_S
                self._say(
                    f"broker node {node} is stopped (SIGSTOP): killed and restarted in {STOPPED_S:.0f} s unless it goes on "
                    f"(kill -CONT {self._kafka.pid(node)})"
                )
            elif now >= self._kill_at[node]:
                del self._kill_at[node]
                self._kafka.kill(node)

    def _plan_restart(self, node: int, what: str = "died") -> None:
        delay = self._restarts[node].delay_s(time.monotonic())
        if delay is None:  # a full disk, a broken log: restarting would go on for ever
            why = f"it says: {self._kafka.last_error(node)}" if what == "died" else f"it {what}"
            self.failure = f"broker node {node} keeps dying; {why}"
            return
        self._start_at[node] = time.monotonic() + delay
        self._say(f"broker node {node} {what}; restarted in {delay:.1f} s")
