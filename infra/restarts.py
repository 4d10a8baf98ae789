"""Decides when a worker that died is started again: with back-off, and only so often. No clock, no processes."""

from collections import deque

MAX_BACKOFF_S = 30.0


class Restarts:
    """The restarts of one worker."""

    def __init__(self, max_restarts: int, window_s: float, backoff_s: float) -> None:
        self._max_restarts = max_restarts
        self._window_s = window_s
        self._backoff_s = backoff_s
        self._recent: deque[float] = deque()
        self.total = 0

    def delay_s(self, now: float) -> float | None:
        """Seconds to wait before the next start, None where there were too many in the window.

        The wait doubles with every restart in the window, up to 30 s, so a worker that dies rarely is back at once.
        """
        while self._recent and now - self._recent[0] > self._window_s:
            self._recent.popleft()
        if len(self._recent) >= self._max_restarts:
            return None
        delay = min(MAX_BACKOFF_S, self._backoff_s * 2.0 ** len(self._recent))
        self._recent.append(now)
        self.total += 1
        return delay
