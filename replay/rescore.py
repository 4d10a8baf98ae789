"""Grades a run's recorded trajectories again, with another grader: `rucksack replay rescore RUN --grader NAME`.

What enters is the run's trajectories and verdicts, what leaves is a new topic of verdicts, and what changed. The run's
own verdicts stay as they are. The first record of a rollout counts, as everywhere (law 2).
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from replay.tables import FirstRecords
from stream.broker import Broker
from stream.codec import encode
from stream.errors import UserError
from stream.messages import OUTCOMES, Trajectory, Verdict
from stream.snapshot import Snapshot, decode_or_none
from stream.topics import TRAJECTORIES, VERDICTS, Topic, partition_of
from verifier.grade import Grade
from verifier.graders import check_name, grading_version
from verifier.pool import Pool

NO_VERDICT = "none"
"""Old outcome of a trajectory that was never graded."""
WINDOW = 256
"""Trajectories per worker that are under way at once."""
SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class Example:
    """One trajectory with its old and its new grade."""

    prompt_id: str
    gold: str
    answer: str
    """The end of the completion."""
    old_reason: str
    new_reason: str


@dataclass(slots=True)
class Rescored:
    """What changed."""

    topic: str
    """Name on the broker of the new verdicts' topic."""
    grader: str
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(old outcome, new outcome) -> trajectories."""
    examples: dict[tuple[str, str], list[Example]] = field(default_factory=dict)
    num_unreadable: int = 0

    @property
    def num_changed(self) -> int:
        """Trajectories whose outcome has changed."""
        return sum(count for (old, new), count in self.counts.items() if old != new)

    def as_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "topic": self.topic,
            "grader": self.grader,
            "num_trajectories": self.counts.total(),
            "num_changed": self.num_changed,
            "num_unreadable": self.num_unreadable,
            "cells": [
                {
                    "old": old,
                    "new": new,
                    "count": count,
                    "examples": [
                        {name: getattr(example, name) for name in Example.__slots__}
                        for example in self.examples.get((old, new), [])
                    ],
                }
                for (old, new), count in sorted(self.counts.items())
            ],
        }


def rescore(
    broker: Broker,
    run: str,
    grader: str,
    *,
    workers: int = 1,
    timeout_s: int = 2,
    num_examples: int = 2,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Rescored:
    """Grade every recorded trajectory of a run with `grader`, whatever its prompt asks for.

    Args:
        workers: processes that grade side by side.
        num_examples: examples kept of each pair of old and new outcome.
        progress: told (records passed, records in all) now and then.

    Raises:
        UserError: there is no such grader, or the run has no trajectories.

    """
    check_name(grader)
    num_partitions = len(broker.partitions(TRAJECTORIES.of(run)))
    if not num_partitions:
        raise UserError(f"run {run!r} has no topic of trajectories: there is nothing to grade")
    old = _old_verdicts(broker, run)
    topic = _new_topic(broker, run, grader)
    broker.create_topics(run, [topic], num_partitions)
    result = Rescored(topic.of(run), grader)
    writer = broker.writer(name=f"{run}.rescore")
    try:
        for verdict in _graded(broker, run, grader, workers, timeout_s, result, progress):
            group_id = verdict.trajectory.job.group_id
            partition = partition_of(group_id, num_partitions)
            writer.send(result.topic, group_id.encode(), encode(verdict), partition=partition)
            old_outcome, old_reason = old.get((group_id, verdict.trajectory.rollout_index), (NO_VERDICT, ""))
            _note(result, verdict, old_outcome, old_reason, num_examples)
        writer.flush()
    finally:
        writer.close()
    return result


def _new_topic(broker: Broker, run: str, grader: str) -> Topic:
    """`rescored-GRADER-N` with the first number that is free: older results stay."""
    number = 1
    name = re.sub(r"[^A-Za-z0-9_-]", "_", grader)
    while True:
        topic = replace(VERDICTS, name=f"rescored-{name}-{number}", writers="replay", readers="")
        if not broker.partitions(topic.of(run)):
            return topic
        number += 1


def _old_verdicts(broker: Broker, run: str) -> dict[tuple[str, int], tuple[str, str]]:
    """(group, rollout) -> (outcome, reason) of the verdict that counts."""
    verdicts: dict[tuple[str, int], tuple[str, str]] = {}
    for batch in Snapshot(broker, run, [VERDICTS]):
        for record in batch:
            verdict: Verdict | None = decode_or_none(record, VERDICTS)
            if verdict is not None:
                key = (verdict.trajectory.job.group_id, verdict.trajectory.rollout_index)
                verdicts.setdefault(key, (verdict.outcome, verdict.reason))
    return verdicts


def _graded(
    broker: Broker,
    run: str,
    grader: str,
    workers: int,
    timeout_s: int,
    result: Rescored,
    progress: Callable[[int, int], None],
) -> Iterator[Verdict]:
    pool, version = Pool(workers, timeout_s), grading_version()
    waiting: dict[str, Trajectory] = {}

    def finished(down_to: int) -> Iterator[Verdict]:
        while pool.num_pending > down_to:
            for key, grade, elapsed_s in pool.results(1.0):
                yield _verdict(waiting.pop(key), grade, grader, version, elapsed_s)

    first, number = FirstRecords(), 0
    snapshot = Snapshot(broker, run, [TRAJECTORIES])
    try:
        for batch in snapshot:
            for record in batch:
                trajectory: Trajectory | None = decode_or_none(record, TRAJECTORIES)
                if trajectory is None:
                    result.num_unreadable += 1
                elif first.is_first(trajectory.job.group_id, trajectory.rollout_index):
                    waiting[str(number)] = trajectory
                    pool.submit(str(number), grader, trajectory.job.prompt.answer, trajectory.text)
                    number += 1
                    yield from finished(WINDOW * workers)
            progress(snapshot.passed, snapshot.total)
        yield from finished(0)
    finally:
        pool.close()


def _verdict(trajectory: Trajectory, grade: Grade, grader: str, version: str, elapsed_s: float) -> Verdict:
    return Verdict(
        trajectory=trajectory,
        outcome=grade.outcome,
        reward=grade.reward,
        reason=grade.reason,
        grader=grader,
        grader_version=version,
        elapsed_s=elapsed_s,
        found_by=grade.found_by,
        answer=grade.answer,
        rule=grade.rule,
        created_s=time.time(),
    )


def _note(result: Rescored, verdict: Verdict, old_outcome: str, old_reason: str, num_examples: int) -> None:
    cell = (old_outcome, verdict.outcome)
    result.counts[cell] += 1
    examples = result.examples.setdefault(cell, [])
    if len(examples) < num_examples:
        prompt = verdict.trajectory.job.prompt
        examples.append(
            Example(
                prompt_id=prompt.prompt_id,
                gold=prompt.answer[:SHOWN_CHARS],
                answer=verdict.trajectory.text[-SHOWN_CHARS:],
                old_reason=old_reason,
                new_reason=verdict.reason,
            )
        )


def print_rescored(result: Rescored, console: Console) -> None:
    """The confusion table, then examples of each cell, changed ones first."""
    table = Table(title="Old outcome (rows) and new outcome (columns)", title_justify="left")
    table.add_column("")
    rows = [name for name in (*OUTCOMES, NO_VERDICT) if any(old == name for old, _ in result.counts)]
    columns = [name for name in OUTCOMES if any(new == name for _, new in result.counts)]
    for name in columns:
        table.add_column(name, justify="right")
    for old in rows:
        cells = (f"{result.counts[old, new]:,}" if result.counts[old, new] else "-" for new in columns)
        table.add_row(old, *cells)
    console.print(table)
    total = result.counts.total()
    console.print(
        f"{result.num_changed:,} of {total:,} outcomes changed; new verdicts of grader {escape(result.grader)} "
        f"are in topic {escape(result.topic)}",
        soft_wrap=True,
    )
    if result.num_unreadable:
        console.print(f"{result.num_unreadable:,} trajectories could not be read")
    for (old, new), examples in sorted(result.examples.items(), key=lambda item: item[0][0] == item[0][1]):
        if not examples:
            continue
        shown = Table(title=f"{old} -> {new}: {result.counts[old, new]:,}", title_justify="left")
        for column in ("prompt", "gold", "answer", "old reason", "new reason"):
            shown.add_column(column, overflow="fold")
        for example in examples:
            fields = (example.prompt_id, example.gold, example.answer, example.old_reason, example.new_reason)
            shown.add_row(*(escape(_printable(text)) for text in fields))
        console.print(shown)


def _printable(text: str) -> str:
    """Without control characters: a completion may hold anything, a terminal obeys some of it."""
    return "".join(character if character.isprintable() else " " for character in text)
