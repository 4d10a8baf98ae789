"""Writes a run's topics as Parquet files, one per topic but `weights`: `trajectories.parquet` and so on.

Each row is one record with its `record_partition`, `record_offset`, `record_timestamp_ms` and `record_key`. Records that
do not count are there as well, told by the column `counts`: false for a rollout that an earlier record of its partition
holds already, and for an update outside the surviving lineage. Memory holds one batch at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from replay.columns import Column, columns_of
from replay.tables import FirstRecords, lineage_of
from stream.broker import Broker, Record
from stream.snapshot import Snapshot, decode_or_none
from stream.topics import EVALUATIONS, TOPICS, TRAJECTORIES, UPDATES, VERDICTS, WEIGHTS, Topic

Counts = Callable[[Any], bool]
Progress = Callable[[str, int, int], None]
_BATCH_ROWS = 4000
_BATCH_BYTES = 64 << 20
_RECORD_FIELDS = [
    ("record_partition", pa.int32()),
    ("record_offset", pa.int64()),
    ("record_timestamp_ms", pa.int64()),
    ("record_key", pa.string()),
    ("counts", pa.bool_()),
]


@dataclass(slots=True)
class Exported:
    """One topic's file."""

    topic: str
    path: Path
    num_rows: int = 0
    num_counting: int = 0
    num_unreadable: int = 0
    """Records that could not be decoded and are not in the file."""


def export_run(broker: Broker, run: str, out: Path, progress: Progress = lambda *_: None) -> list[Exported]:
    """Write every topic of a run as it is now to `out`, but the weights: `rucksack replay policy` makes models of them.

    Args:
        progress: told (topic, records passed, records in all) now and then.

    """
    out.mkdir(parents=True, exist_ok=True)
    return [_export_topic(broker, run, topic, out, progress) for topic in TOPICS if topic is not WEIGHTS]


def _export_topic(broker: Broker, run: str, topic: Topic, out: Path, progress: Progress) -> Exported:
    columns = columns_of(topic.message_type)
    schema = pa.schema([*_RECORD_FIELDS, *((column.name, column.type) for column in columns)])
    exported = Exported(topic.name, out / f"{topic.name}.parquet")
    snapshot = Snapshot(broker, run, [topic])
    rows = _Rows(topic, columns, schema, _rule(broker, run, topic), exported)
    unfinished = exported.path.with_suffix(".part")
    with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
        for batch in snapshot:
            rows.add(batch)
            if len(rows.waiting) >= _BATCH_ROWS or rows.waiting_bytes >= _BATCH_BYTES:
                rows.write(writer)
            progress(topic.name, snapshot.passed, snapshot.total)
        rows.write(writer)
    progress(topic.name, snapshot.total, snapshot.total)
    unfinished.replace(exported.path)
    return exported


def _rule(broker: Broker, run: str, topic: Topic) -> Counts:
    """Whether a record of the topic counts."""
    if topic is TRAJECTORIES:
        rollouts = FirstRecords()
        return lambda message: rollouts.is_first(message.job.group_id, message.rollout_index)
    if topic is VERDICTS:
        graded = FirstRecords()
        return lambda message: graded.is_first(message.trajectory.job.group_id, message.trajectory.rollout_index)
    if topic is EVALUATIONS:
        seen: set[tuple[str, int]] = set()
        return lambda message: _add(seen, (message.name, message.policy_version))
    if topic is UPDATES:
        return _surviving_rule(broker, run)
    return lambda message: True


def _surviving_rule(broker: Broker, run: str) -> Counts:
    decoded = (decode_or_none(record, UPDATES) for batch in Snapshot(broker, run, [UPDATES]) for record in batch)
    versions = lineage_of([update for update in decoded if update is not None]).versions
    seen: set[int] = set()
    return lambda message: message.version in versions and _add(seen, message.version)


def _add(seen: set[Any], value: Any) -> bool:
    if value in seen:
        return False
    seen.add(value)
    return True


@dataclass(slots=True)
class _Rows:
    """Rows of one topic on their way to its file."""

    topic: Topic
    columns: Sequence[Column]
    schema: Any
    rule: Counts
    exported: Exported
    waiting: list[tuple[Record, Any, bool]] = field(default_factory=list)
    waiting_bytes: int = 0

    def add(self, batch: Sequence[Record]) -> None:
        for record in batch:
            self.waiting_bytes += len(record.value)
            message = decode_or_none(record, self.topic)
            if message is None:
                self.exported.num_unreadable += 1
            else:
                self.waiting.append((record, message, self.rule(message)))

    def write(self, writer: Any) -> None:
        writer.write_table(self.table())
        self.exported.num_rows += len(self.waiting)
        self.exported.num_counting += sum(counts for _, _, counts in self.waiting)
        self.waiting, self.waiting_bytes = [], 0

    def table(self) -> Any:
        records = [record for record, _, _ in self.waiting]
        messages = [message for _, message, _ in self.waiting]
        own = [
            [record.partition for record in records],
            [record.offset for record in records],
            [record.timestamp_ms for record in records],
            [record.key.decode(errors="replace") for record in records],
            [counts for _, _, counts in self.waiting],
        ]
        arrays = [pa.array(values, kind) for values, (_, kind) in zip(own, _RECORD_FIELDS, strict=True)]
        return pa.table([*arrays, *(column.values(messages) for column in self.columns)], schema=self.schema)
