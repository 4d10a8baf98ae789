"""Turns messages into rows of the index. Pure: a message enters, the statements that keep it leave.

A row is (statement, values). Statements ignore what is there already, so that a record that is read twice, or a rollout that
was delivered twice, counts once: the first record counts, as everywhere (`stream.topics`, law 2).
"""

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.messages import (
    TRAINING,
    DeadLetter,
    Evaluation,
    Heartbeat,
    Job,
    Trajectory,
    Update,
    Verdict,
)
from stream.ratios import gradient_ratios, has_gradient
from stream.sequential import SEQUENTIAL

Row = tuple[str, tuple[Any, ...]]

STRETCH_S = 10.0
"""Of the heartbeats of a worker in as many seconds the newest is kept."""


def _insert(table: str, columns: str) -> str:
    marks = ", ".join("?" for _ in columns.split(","))
    return f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"


PROMPT = _insert("prompts", "prompt_id, purpose, text, answer, grader, task, level")
GROUP = (
    "INSERT INTO groups (prompt, no, group_id, train, size, round, attempt, min_policy_version, created_s, temperature, "
    "max_tokens, mode, success_rate, num_observed, value, price, cost, a, b, forecast) "
    "VALUES ((SELECT no FROM prompts WHERE prompt_id = ? AND purpose = ?)" + ", ?" * 19 + ") "
    "ON CONFLICT (no) DO UPDATE SET size = max(size, excluded.size), attempt = max(attempt, excluded.attempt)"
)
ROLLOUT = _insert(
    "rollouts",
    "group_no, rollout_index, train, outcome, graded, reward, forecast, num_tokens, min_version, max_version, logprob, "
    "finish_reason, producer, grader, reason, found_by, answer, rule, queued_s, generated_s, graded_s, sampled_at_s, created_s",
)
COMPLETION = (
    "INSERT OR IGNORE INTO completions (rollout, packed) SELECT no, ? FROM rollouts "
    "WHERE group_no = ? AND rollout_index = ?"
)
UPDATE = _insert(
    "updates",
    "version, parent, step, final, created_s, num_groups, num_rollouts, reward, ratio_samples, ratio_prompts, "
    "num_effective_samples, num_graded, num_effective_prompts, num_graded_prompts, staleness_min, staleness_mean, "
    "staleness_max, endings, metrics",
)
END = _insert("ends", "group_no, version, ending, staleness")
EVALUATION = _insert(
    "evaluations", "name, policy_version, step, accuracy, num_prompts, temperature, final, created_s, metrics"
)
HEARTBEAT = (
    "INSERT INTO heartbeats (worker, stretch, created_s, pid, host, state, metrics) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (worker, stretch) DO UPDATE SET created_s = excluded.created_s, pid = excluded.pid, "
    "host = excluded.host, state = excluded.state, metrics = excluded.metrics"
)
LETTER = _insert("letters", "role, topic, partition, record, error, created_s")


def rows_of(message: object) -> Iterator[Row]:
    """The rows of a message, in the order in which they must be kept; none for a message that the page does not show."""
    return _ROWS[type(message)](message) if type(message) in _ROWS else iter(())


def _job(job: Job) -> Iterator[Row]:
    prompt, why = job.prompt, job.budgeting
    yield (
        PROMPT,
        (prompt.prompt_id, job.purpose, prompt.text, prompt.answer, prompt.grader, prompt.task, prompt.level),
    )
    grows = why is not None and why.mode == SEQUENTIAL
    reasons: tuple[Any, ...] = (None,) * 8
    if why is not None:
        reasons = (why.success_rate, why.num_observed, why.value, why.price, why.cost, why.a, why.b, forecast_of(job))
    yield (
        GROUP,
        (
            prompt.prompt_id,
            job.purpose,
            group_no(job.group_id),
            job.group_id,
            job.purpose == TRAINING,
            job.stop if grows else job.num_rollouts,
            job.round,
            job.attempt,
            job.min_policy_version,
            job.created_s,
            job.sampling.temperature,
            job.sampling.max_tokens,
            why.mode if why else "",
            *reasons,
        ),
    )


def group_no(group_id: str) -> int:
    """The number of a group: half of a hash of its id, the same wherever it is spoken of."""
    return int.from_bytes(hashlib.sha256(group_id.encode()).digest()[:8], "big", signed=True)


def forecast_of(job: Job) -> float | None:
    """E[p] under the belief in the job, None if it holds none."""
    why = job.budgeting
    return why.a / (why.a + why.b) if why is not None and why.a else None


def _verdict(verdict: Verdict) -> Iterator[Row]:
    trajectory, job = verdict.trajectory, verdict.trajectory.job
    yield from _job(job)  # groups are known even after their jobs have expired
    versions = [span.policy_version for span in trajectory.spans]
    logprobs = trajectory.behavior_logprobs
    yield (
        ROLLOUT,
        (
            group_no(job.group_id),
            trajectory.rollout_index,
            job.purpose == TRAINING,
            verdict.outcome,
            verdict.graded,
            verdict.reward,
            forecast_of(job),
            trajectory.token_ids.size,
            min(versions, default=0),
            max(versions, default=0),
            float(logprobs.mean()) if logprobs.size else None,
            trajectory.finish_reason,
            trajectory.producer,
            verdict.grader,
            verdict.reason,
            verdict.found_by,
            verdict.answer,
            verdict.rule,
            trajectory.timing.queued_s,
            trajectory.timing.generated_s,
            verdict.elapsed_s,
            trajectory.created_s,
            verdict.created_s,
        ),
    )
    yield COMPLETION, (pack(trajectory), group_no(job.group_id), trajectory.rollout_index)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a rollout said. T tokens."""

    text: str
    token_ids: NDArray[np.int32]  # [T]
    logprobs: NDArray[np.float16]  # [T], nats; three digits are enough for a colour
    spans: list[tuple[int, int, int]]
    """(policy version, start, stop)."""


def pack(trajectory: Trajectory) -> bytes:
    """The completion as the index keeps it."""
    parts = (
        trajectory.text,
        trajectory.token_ids.astype("<i4").tobytes(),
        np.clip(trajectory.behavior_logprobs, -1e4, 0).astype("<f2").tobytes(),
        [(span.policy_version, span.start, span.stop) for span in trajectory.spans],
    )
    return zlib.compress(msgspec.msgpack.encode(parts), 1)


def unpack(packed: bytes) -> Completion:
    """The completion again."""
    kind = tuple[str, bytes, bytes, list[tuple[int, int, int]]]
    text, ids, logprobs, spans = msgspec.msgpack.decode(zlib.decompress(packed), type=kind)
    return Completion(text, np.frombuffer(ids, "<i4"), np.frombuffer(logprobs, "<f2"), spans)


def _update(update: Update) -> Iterator[Row]:
    graded = [end for end in update.groups if end.num_graded]
    effective = [end for end in graded if has_gradient(end)]
    num_graded = sum(end.num_graded for end in graded)
    ratios = gradient_ratios(update.groups)
    stale = [end.staleness for end in update.groups if end.ending == "trained"]
    yield (
        UPDATE,
        (
            update.version,
            update.parent_version,
            update.step,
            update.final,
            update.created_s,
            len(update.groups),
            sum(end.num_rollouts for end in update.groups),
            sum(end.reward_sum for end in graded) / num_graded if num_graded else None,
            ratios.samples,
            ratios.prompts,
            sum(end.num_graded for end in effective),
            num_graded,
            len(effective),
            len(graded),
            min(stale, default=None),
            sum(stale) / len(stale) if stale else None,
            max(stale, default=None),
            _json(Counter(end.ending for end in update.groups)),
            _json(update.metrics),
        ),
    )
    for end in update.groups:
        yield END, (group_no(end.group_id), update.version, end.ending, end.staleness)


def _evaluation(evaluation: Evaluation) -> Iterator[Row]:
    yield (
        EVALUATION,
        (
            evaluation.name,
            evaluation.policy_version,
            evaluation.step,
            evaluation.accuracy,
            len(evaluation.scores),
            evaluation.temperature,
            evaluation.final,
            evaluation.created_s,
            _json(evaluation.metrics),
        ),
    )


def _heartbeat(beat: Heartbeat) -> Iterator[Row]:
    if 0 < beat.created_s < 1e12:
        stretch = int(beat.created_s // STRETCH_S)
        metrics = _json(beat.metrics)
        yield HEARTBEAT, (beat.worker, stretch, beat.created_s, beat.pid, beat.host, beat.state, metrics)


def _letter(letter: DeadLetter) -> Iterator[Row]:
    yield LETTER, (letter.role, letter.topic, letter.partition, letter.offset, letter.error, letter.created_s)


def _json(figures: Mapping[str, float]) -> str:
    return json.dumps(dict(figures))


_ROWS: Mapping[type, Callable[[Any], Iterator[Row]]] = {
    Job: _job,
    Verdict: _verdict,
    Update: _update,
    Evaluation: _evaluation,
    Heartbeat: _heartbeat,
    DeadLetter: _letter,
}
