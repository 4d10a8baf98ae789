"""Sums up how a run's answers were graded: where the correct ones were found, what hangs on a rule, what timed out.

A `RunData` enters, shares of its training rollouts leave, as numbers, as text and as HTML. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from replay.load import RunData
from replay.markup import safe, table
from stream.messages import FOUND_BY, FOUND_IN_PROSE, OUTCOMES, RULES

PROSE_ALARM_SHARE = 0.1
"""More of the correct answers than this found in prose alone, and the run is warned: rules of language can be got past."""
TASKS_SHOWN = 3
"""Tasks that the summary names with their timeouts; the page has them all."""


@dataclass(frozen=True, slots=True)
class TaskTimeouts:
    """Training rollouts of one task, and those that timed out."""

    num_rollouts: int
    num_timeouts: int
    num_wrong: int
    """Timeouts that `verifier.max_timeout_share` counted as wrong."""

    @property
    def share(self) -> float:
        """Timeouts, counted as wrong or not, among the rollouts."""
        return self.num_timeouts / self.num_rollouts


@dataclass(frozen=True, slots=True)
class Answers:
    """How the training rollouts of a run were graded."""

    correct_by: Mapping[str, int]
    """Correct verdicts by where the answer was found, most first; of graders that say so."""
    rules: Mapping[str, int]
    """Verdicts by the rule that they hang on, if any does."""
    tasks: Mapping[str, TaskTimeouts]
    """By task, most timeouts first."""

    @property
    def prose_share(self) -> float:
        """Share of the correct verdicts whose answer was found in prose."""
        num_correct = sum(self.correct_by.values())
        return sum(self.correct_by.get(name, 0) for name in FOUND_IN_PROSE) / max(1, num_correct)


def answers_of(data: RunData) -> Answers:
    """Count the training rollouts of a run."""
    rows = data.training
    correct = rows["outcome"] == OUTCOMES.index("correct")
    return Answers(
        correct_by=_counts(rows["found_by"][correct], FOUND_BY),
        rules=_counts(rows["rule"], RULES),
        tasks=_tasks(data),
    )


def _counts(indices: np.ndarray, names: tuple[str, ...]) -> dict[str, int]:
    """How often each name occurs, most first; the name at 0, which is none, left out."""
    counts = np.bincount(indices, minlength=len(names))
    return {names[i]: int(counts[i]) for i in np.argsort(-counts, kind="stable") if i and counts[i]}


def _tasks(data: RunData) -> dict[str, TaskTimeouts]:
    rows = data.training
    task_of_group = np.array([group.task or "all" for group in data.groups.values()], np.str_)
    tasks = task_of_group[rows["group"]]
    counted_as_wrong = rows["rule"] == RULES.index("timeout")
    timed_out = counted_as_wrong | (rows["outcome"] == OUTCOMES.index("timeout"))
    found = {}
    for name in np.unique(tasks):
        of_task = tasks == name
        found[str(name)] = TaskTimeouts(
            num_rollouts=int(of_task.sum()),
            num_timeouts=int((of_task & timed_out).sum()),
            num_wrong=int((of_task & counted_as_wrong).sum()),
        )
    return dict(sorted(found.items(), key=lambda item: -item[1].share))


def figures_of(answers: Answers) -> list[tuple[str, str]]:
    """The key figures as (name, text); those without anything to say are left out."""
    num_correct = sum(answers.correct_by.values())
    timeouts = [f"{name} {task.share:.1%}" for name, task in answers.tasks.items() if task.num_timeouts][:TASKS_SHOWN]
    found = [f"{name} {count / num_correct:.1%}" for name, count in answers.correct_by.items()]
    rules = [f"{count:,} {name}" for name, count in answers.rules.items()]
    lists = {"correct answers found by": found, "verdicts that hang on a rule": rules, "timeouts by task": timeouts}
    warning = warning_of(answers)
    return [(name, ", ".join(parts)) for name, parts in lists.items() if parts] + [("WARNING", warning)] * bool(warning)


def warning_of(answers: Answers) -> str:
    """What to say loudly of where the answers were found; empty if nothing."""
    if answers.prose_share <= PROSE_ALARM_SHARE:
        return ""
    return (
        f"{answers.prose_share:.1%} of the correct answers were found in prose alone (more than "
        f"{PROSE_ALARM_SHARE:.0%}): a policy may learn to get past rules of language; ask for a box and use grader math_strict"
    )


def tables_of(answers: Answers) -> str:
    """Where correct answers were found, and timeouts by task, as HTML."""
    num_correct = sum(answers.correct_by.values())
    found = [
        (safe(name), f"{count:,}", f"{count / num_correct:.1%}", "prose" if name in FOUND_IN_PROSE else "")
        for name, count in answers.correct_by.items()
    ]
    tasks = [
        (safe(name), f"{task.num_rollouts:,}", f"{task.num_timeouts:,}", f"{task.share:.2%}", f"{task.num_wrong:,}")
        for name, task in answers.tasks.items()
    ]
    empty = "the grader does not say where it found answers"
    return table(("correct answers found by", "verdicts", "share", ""), found, "numbers", empty=empty) + table(
        ("task", "rollouts", "timeouts", "share", "counted as wrong"), tasks, "numbers"
    )
