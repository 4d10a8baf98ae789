"""Counts the seconds in which rollouts could have come: signs of life in, the time that leases are counted in out.

It runs while a producer and a verifier are at work, and this process too. A run that was paused, a verifier that was away
for an hour and an engine that takes minutes to start use up no lease: their rollouts are late, not lost. No clock of its
own: wall times are passed in, in seconds of any one clock.
"""

import logging

log = logging.getLogger(__name__)

NEEDED = ("producer", "verifier")
"""Roles without which no verdict comes."""
ALIVE_S = 10.0
"""A worker whose last heartbeat is older is not at work."""
LONGEST_STEP_S = 1.0
"""Most that counts between two looks: a process that was stopped does not know what came meanwhile."""


class StreamClock:
    """The time of the stream, in seconds from 0."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._looked_s: float | None = None
        self._seen_s: dict[str, float] = {}
        """When a worker of a role was last seen at work."""
        self._missing: tuple[str, ...] = ()
        """The roles that are not at work."""

    def note(self, role: str, wall_s: float) -> None:
        """A worker of this role is at work."""
        self._seen_s[role] = wall_s

    def advance(self, wall_s: float, *, counts: bool = True) -> None:
        """Count the time since the last call, if it `counts` and rollouts could have come in it."""
        step_s = 0.0 if self._looked_s is None else min(wall_s - self._looked_s, LONGEST_STEP_S)
        self._looked_s = wall_s
        missing = tuple(role for role in NEEDED if role not in self._seen_s or wall_s - self._seen_s[role] >= ALIVE_S)
        if counts and not missing:
            self.now_s += step_s
        if missing != self._missing:
            log.warning("no %s is at work: rollouts wait" if missing else "rollouts go on%s", " and no ".join(missing))
        self._missing = missing
