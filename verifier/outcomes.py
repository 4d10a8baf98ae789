"""Watches the outcomes of each task: raises alarms, and applies the rules that turn an outcome. Pure.

Grades enter in the order of grading, the grades to publish leave. An answer without a grade, or one that cannot be read,
is a zero that says nothing of the policy: a run that trains on many of them fails in silence. And where a timeout takes no
part in training, a policy can void bad samples by answers that are slow to grade: hence `max_timeout_share`.
"""

from collections import Counter, deque
from collections.abc import Iterable

from stream.messages import UNGRADED
from verifier.grade import Grade

JUDGED_AFTER = 200
"""Verdicts of a task before its shares are judged."""
WINDOW = 1000
"""Newest verdicts of a task that its shares are over."""


class Recent:
    """Outcomes of a task's newest answers as they were graded, whatever was published."""

    def __init__(self) -> None:
        self._outcomes: deque[str] = deque()
        self._counts: Counter[str] = Counter()

    def note(self, outcome: str) -> None:
        """Count the newest, forget the oldest."""
        self._outcomes.append(outcome)
        self._counts[outcome] += 1
        if len(self._outcomes) > WINDOW:
            self._counts[self._outcomes.popleft()] -= 1

    @property
    def is_judged(self) -> bool:
        """Whether there are enough of them."""
        return len(self._outcomes) >= JUDGED_AFTER

    def share(self, outcomes: Iterable[str]) -> float:
        """Share of these outcomes."""
        return sum(self._counts[outcome] for outcome in outcomes) / max(1, len(self._outcomes))

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(self._counts.items()) if count)


class ShareAlarm:
    """The tasks of whose newest answers more than a share has one of these outcomes."""

    def __init__(self, name: str, outcomes: Iterable[str], threshold: float) -> None:
        self.name = name
        self.outcomes = tuple(outcomes)
        self.threshold = threshold
        self.tasks: set[str] = set()

    def check(self, task: str, recent: Recent) -> str | None:
        """A line to log when the task's alarm begins or ends."""
        share = recent.share(self.outcomes)
        if not recent.is_judged or (share > self.threshold) == (task in self.tasks):
            return None
        self.tasks ^= {task}
        word = "ALARM" if task in self.tasks else "alarm over"
        return f"{word} task={task} {self.name}={share:.3f} threshold={self.threshold:g} outcomes: {recent}"


class Outcomes:
    """Outcomes by task, with their alarms.

    Args:
        alarm_share: an alarm is raised above this share of timeout, error or unparsable.
        max_timeout_share: while more of a task's newest answers than this share time out, a timeout counts as wrong;
            1 lets all of them be timeouts.
        evaluates_echo: an expression that has the gold number as its value is correct, not wrong.

    """

    def __init__(self, alarm_share: float, max_timeout_share: float = 1.0, *, evaluates_echo: bool = False) -> None:
        self._ungraded = ShareAlarm("ungraded_share", UNGRADED, alarm_share)
        self._timeouts = ShareAlarm("timeout_share", ("timeout",), max_timeout_share)
        self._evaluates_echo = evaluates_echo
        self._recent: dict[str, Recent] = {}
        self.published: Counter[str] = Counter()
        """Verdicts so far by the outcome that was published."""
        self.correct_by: Counter[str] = Counter()
        """Correct verdicts so far by where the answer was found."""
        self.rules: Counter[str] = Counter()
        """Verdicts so far by the rule that they hang on."""

    def judge(self, task: str, grade: Grade) -> tuple[Grade, list[str]]:
        """The grade to publish, and lines to log where an alarm begins or ends."""
        recent = self._recent.setdefault(task, Recent())
        recent.note(grade.outcome)
        lines = [alarm.check(task, recent) for alarm in (self._ungraded, self._timeouts)]
        if grade.outcome == "timeout" and task in self._timeouts.tasks:
            grade = self._as_wrong(grade, recent)
        if grade.rule == "echo" and self._evaluates_echo:
            reason = "an expression of the gold number's value, which verifier.echo = evaluate counts"
            grade = grade._replace(outcome="correct", reward=1.0, reason=reason)
        self.published[grade.outcome] += 1
        if grade.outcome == "correct" and grade.found_by:
            self.correct_by[grade.found_by] += 1
        if grade.rule:
            self.rules[grade.rule] += 1
        return grade, [line for line in lines if line]

    def _as_wrong(self, grade: Grade, recent: Recent) -> Grade:
        share, most = recent.share(("timeout",)), self._timeouts.threshold
        reason = (
            f"{grade.reason}; counted as wrong: {share:.1%} of the task's newest answers time out, "
            f"more than verifier.max_timeout_share = {most:g}"
        )
        return grade._replace(outcome="wrong", reward=0.0, reason=reason, rule="timeout")

    @property
    def alarms(self) -> set[str]:
        """Tasks with an alarm."""
        return self._ungraded.tasks | self._timeouts.tasks

    @property
    def tasks(self) -> list[str]:
        """Tasks in the order in which they came."""
        return list(self._recent)

    def ungraded_share(self, task: str) -> float:
        """Share of timeout, error and unparsable in the task's newest answers."""
        return self._recent[task].share(UNGRADED)

    def timeout_share(self, task: str) -> float:
        """Share of timeouts in the task's newest answers, those counted as wrong included."""
        return self._recent[task].share(("timeout",))
