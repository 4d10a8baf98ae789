"""Reads one run from its topics into columns, of which the summary and the report are made.

What enters is a broker and a run's name, what leaves is a `RunData`. Only the first record of a rollout
counts. Completions are not kept, except those of a few example groups, so memory stays near 500 bytes a rollout.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from replay.examples import choose_examples
from replay.tables import BASE_VERSION, FirstRecords, Lineage, lineage_of
from stream.broker import Broker
from stream.messages import FOUND_BY, OUTCOMES, RULES, TRAINING, DeadLetter, Evaluation, Job, Update, Verdict
from stream.sequential import SEQUENTIAL
from stream.snapshot import Snapshot, decode_or_none
from stream.topics import DEADLETTERS, EVALUATIONS, JOBS, UPDATES, VERDICTS, Topic

ROLLOUT = np.dtype(
    [
        ("group", "i4"),  # index into RunData.groups
        ("rollout_index", "i8"),
        ("outcome", "i1"),  # index into OUTCOMES
        ("graded", "?"),
        ("train", "?"),
        ("reward", "f4"),
        ("num_tokens", "i8"),
        ("queued_s", "f4"),
        ("generated_s", "f4"),
        ("graded_s", "f4"),
        ("job_created_s", "f8"),
        ("trajectory_created_s", "f8"),
        ("created_s", "f8"),
        ("found_by", "i1"),  # index into FOUND_BY
        ("rule", "i1"),  # index into RULES
    ]
)
SPAN = np.dtype([("group", "i4"), ("policy_version", "i8"), ("num_tokens", "i8")])


def no_progress(passed: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True, slots=True)
class Group:
    """What the log says of a group from the moment it was admitted."""

    index: int
    prompt_id: str
    task: str
    level: str
    train: bool
    num_rollouts: int
    mode: str
    """How its budget was chosen; empty for an evaluation."""
    success_rate: float
    """What the allocator believed when it admitted the group; NaN if it says nothing."""
    num_observed: float
    forecast: float
    """E[p] under the belief that its job holds; NaN if it holds none."""


@dataclass(slots=True)
class TopicCount:
    """What a topic held."""

    num_records: int = 0
    num_duplicates: int = 0
    num_unreadable: int = 0


@dataclass(slots=True)
class RunData:
    """A run as its topics tell it."""

    run: str
    lineage: Lineage
    evaluations: list[Evaluation]
    """The first record of each (name, policy_version), in the order of the log."""
    groups: dict[str, Group]
    rollouts: NDArray[np.void]  # [R] of ROLLOUT, first records only
    spans: NDArray[np.void]  # [S] of SPAN, of training rollouts
    examples: dict[str, list[Verdict]]
    dead_letters: list[DeadLetter]
    counts: dict[str, TopicCount] = field(default_factory=dict)

    @property
    def training(self) -> NDArray[np.void]:
        """Rollouts that the learner trains on."""
        train: NDArray[np.bool_] = self.rollouts["train"]
        return self.rollouts[train]

    @property
    def surviving_evaluations(self) -> list[Evaluation]:
        """Evaluations of weights that survive: those of rolled-back versions say nothing of the result. The base policy
        is BASE_VERSION in all of them.
        """
        base, versions = self.lineage.base_versions, self.lineage.versions
        return [
            msgspec.structs.replace(evaluation, policy_version=BASE_VERSION)
            if evaluation.policy_version in base
            else evaluation
            for evaluation in self.evaluations
            if evaluation.policy_version in versions
        ]

    @property
    def admitted(self) -> set[str]:
        """Groups that were admitted for training."""
        return {group_id for group_id, group in self.groups.items() if group.train}


def read_run(broker: Broker, run: str, progress: Callable[[int, int], None] = no_progress) -> RunData:
    """Read a run's topics as they are now.

    Args:
        progress: told (records passed, records in all) now and then.

    """
    counts: dict[str, TopicCount] = {}
    updates: list[Update] = []
    _read(broker, run, UPDATES, counts, updates.append)
    evaluations: dict[tuple[str, int], Evaluation] = {}
    _read(broker, run, EVALUATIONS, counts, lambda e: evaluations.setdefault((e.name, e.policy_version), e))
    letters: list[DeadLetter] = []
    _read(broker, run, DEADLETTERS, counts, letters.append)
    lineage = lineage_of(updates)
    collector = _Collector(choose_examples(lineage.surviving))
    _read(broker, run, JOBS, counts, collector.add_job)
    _read(broker, run, VERDICTS, counts, collector.add_verdict, progress)
    counts[VERDICTS.name].num_duplicates = collector.first.num_duplicates
    counts[UPDATES.name].num_duplicates = lineage.num_duplicates
    counts[EVALUATIONS.name].num_duplicates = counts[EVALUATIONS.name].num_records - len(evaluations)
    return RunData(
        run=run,
        lineage=lineage,
        evaluations=list(evaluations.values()),
        groups=collector.groups,
        rollouts=np.array(collector.rollouts, ROLLOUT),
        spans=np.array(collector.spans, SPAN),
        examples={
            group_id: sorted(verdicts, key=lambda v: v.trajectory.rollout_index)
            for group_id, verdicts in collector.kept.items()
        },
        dead_letters=letters,
        counts=counts,
    )


def _read(
    broker: Broker,
    run: str,
    topic: Topic,
    counts: dict[str, TopicCount],
    take: Callable[[Any], object],
    progress: Callable[[int, int], None] = no_progress,
) -> None:
    count = counts[topic.name] = TopicCount()
    snapshot = Snapshot(broker, run, [topic])
    for batch in snapshot:
        for record in batch:
            message = decode_or_none(record, topic)
            if message is None:
                count.num_unreadable += 1
                continue
            count.num_records += 1
            take(message)
        progress(snapshot.passed, snapshot.total)


class _Collector:
    """Turns jobs and verdicts into columns as they come."""

    def __init__(self, wanted: set[str]) -> None:
        self.first = FirstRecords()
        self.groups: dict[str, Group] = {}
        self.rollouts: list[tuple[Any, ...]] = []
        self.spans: list[tuple[int, int, int]] = []
        self.kept: dict[str, list[Verdict]] = {}
        self._wanted = wanted

    def add_job(self, job: Job) -> Group:
        """Note the job's group, if it is new."""
        group = self.groups.get(job.group_id)
        if group is None:
            group = self.groups[job.group_id] = _group_of(job, len(self.groups))
        elif job.stop > group.num_rollouts:  # of mode `sequential`: it has grown
            group = self.groups[job.group_id] = replace(group, num_rollouts=job.stop)
        return group

    def add_verdict(self, verdict: Verdict) -> None:
        """Note a rollout, if it is new. A verdict carries its job, so groups are known even after jobs have expired."""
        trajectory, job = verdict.trajectory, verdict.trajectory.job
        if not self.first.is_first(job.group_id, trajectory.rollout_index):
            return
        group = self.add_job(job)
        self.rollouts.append(_rollout_of(verdict, group))
        if group.train:
            self.spans += [(group.index, span.policy_version, span.stop - span.start) for span in trajectory.spans]
            if not self._wanted:  # nothing has ended yet: show the first group that is graded
                self._wanted = {job.group_id}
            if job.group_id in self._wanted:
                self.kept.setdefault(job.group_id, []).append(verdict)


def _group_of(job: Job, index: int) -> Group:
    budgeting = job.budgeting
    return Group(
        index=index,
        prompt_id=job.prompt.prompt_id,
        task=job.prompt.task,
        level=job.prompt.level,
        train=job.purpose == TRAINING,
        num_rollouts=job.stop if budgeting and budgeting.mode == SEQUENTIAL else job.num_rollouts,
        mode=budgeting.mode if budgeting else "",
        success_rate=budgeting.success_rate if budgeting else float("nan"),
        num_observed=budgeting.num_observed if budgeting else 0.0,
        forecast=budgeting.a / (budgeting.a + budgeting.b) if budgeting and budgeting.a else float("nan"),
    )


def _rollout_of(verdict: Verdict, group: Group) -> tuple[Any, ...]:
    trajectory = verdict.trajectory
    return (
        group.index,
        trajectory.rollout_index,
        OUTCOMES.index(verdict.outcome),
        verdict.graded,
        group.train,
        verdict.reward,
        trajectory.token_ids.size,
        trajectory.timing.queued_s,
        trajectory.timing.generated_s,
        verdict.elapsed_s,
        trajectory.job.created_s,
        trajectory.created_s,
        verdict.created_s,
        FOUND_BY.index(verdict.found_by),
        RULES.index(verdict.rule),
    )
