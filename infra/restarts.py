"""Decides when a worker that died is started again: with back-off, and only so often. No clock, no processes."""

from collections import deque

MAX_BACKOFF_S = 30.0


class Restarts:
    """The restarts of one worker."""

    def __init__(self, max_restarts: int, window_s: float, backoff_s: float, healthy_s: float = 60.0) -> None:
        """What ran for `healthy_s` was well: what befell it then is no reason to wait."""
        self._max_restarts = max_restarts
        self._window_s = window_s
        self._backoff_s = backoff_s
        self._healthy_s = healthy_s
        self._recent: deque[float] = deque()
        self._in_a_row = 0
        """Restarts since it was last well."""
        self._started_at = float("inf")
        """When it was last started again."""
        self.total = 0

    def delay_s(self, now: float) -> float | None:
        """Seconds to wait before the next start, None where there were too many in the window.

        The wait doubles with every restart, up to 30 s, and begins anew once the worker was well.
        """
        while self._recent and now - self._recent[0] > self._window_s:
            self._recent.popleft()
        if len(self._recent) >= self._max_restarts:
            return None
        if now - self._started_at >= self._healthy_s:
            self._in_a_row = 0
        delay = min(MAX_BACKOFF_S, self._backoff_s * 2.0**self._in_a_row)
        self._in_a_row, self._started_at = self._in_a_row + 1, now + delay
        self._recent.append(now)
        self.total += 1
        return delay
