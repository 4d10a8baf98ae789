"""Counts outcomes by task and raises an alarm where too many answers get no real grade. Pure.

An answer without a grade, or one that cannot be read, is a zero that says nothing of the policy: a run that trains on
many of them fails in silence.
"""

from collections import Counter, deque

from stream.messages import UNGRADED

JUDGED_AFTER = 200
"""Verdicts of a task before its share is judged."""
WINDOW = 1000
"""Newest verdicts of a task that the share is over."""


class OutcomeAlarm:
    """Outcomes by task, and the tasks of whose newest verdicts more than `alarm_share` are ungraded."""

    def __init__(self, alarm_share: float) -> None:
        self._alarm_share = alarm_share
        self._recent: dict[str, deque[bool]] = {}
        self.outcomes: dict[str, Counter[str]] = {}
        """Task -> outcome -> verdicts so far."""
        self.alarms: set[str] = set()

    def note(self, task: str, outcome: str) -> str | None:
        """Count one verdict; returns a line to log when an alarm begins or ends."""
        self.outcomes.setdefault(task, Counter())[outcome] += 1
        recent = self._recent.setdefault(task, deque(maxlen=WINDOW))
        recent.append(outcome in UNGRADED)
        if len(recent) < JUDGED_AFTER:
            return None
        is_bad = self.share(task) > self._alarm_share
        if is_bad == (task in self.alarms):
            return None
        self.alarms ^= {task}
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.outcomes[task].items()))
        share = f"task={task} ungraded_share={self.share(task):.3f} threshold={self._alarm_share:g} outcomes: {counts}"
        return f"ALARM {share}" if is_bad else f"alarm over {share}"

    def share(self, task: str) -> float:
        """Ungraded share of the newest verdicts."""
        recent = self._recent[task]
        return sum(recent) / len(recent)

    def totals(self) -> Counter[str]:
        """Verdicts of all tasks by outcome."""
        return sum(self.outcomes.values(), Counter())
