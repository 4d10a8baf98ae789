"""Runs the one loop of every role: poll, hand over, let the role work, note progress, send heartbeats.

The loop never blocks on work, so a slow role is never thrown out of its consumer group: a role that has enough to do
says so by `wants_input`, and its partitions are paused. A record that cannot be used goes to `deadletters` and counts
as finished (law 8).
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from stream.broker import Reader, Record
from stream.codec import decode
from stream.errors import BadRecord, RucksackError
from stream.messages import Heartbeat
from stream.run_topics import RunTopics
from stream.topics import HEARTBEATS, Topic, topic_of
from stream.watermark import Watermark

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
UNHEARD_S = 10.0
"""Between heartbeats while the broker has not acknowledged the one before. Those of an outage come all at once when it is
over: one each second would look like time that went by, in which workers that are back a moment later were silent. Twice
what `infra.board` takes for a clock that jumped."""
COMMIT_S = 0.5
POLL_S = 0.1
POLL_SHARE = 1 / 30
"""Of a loop's time, what polls may take: a short poll of kafka-python costs a core half a millisecond and more, as a long one does."""
NEWEST_POLL_SHARE = 0.05
"""Of the newest poll in the mean of what a poll takes."""
MAX_RECORDS = 100
"""Most records that are asked for at once; a record may hold 32 messages."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One decoded message; `done` tells the loop that its result is durable (callable from any thread)."""

    topic: Topic
    message: Any
    record: Record
    done: Callable[[], None]


class Role(Protocol):
    """A role as the loop sees it. All methods are called from the loop's thread and return quickly."""

    @property
    def wants_input(self) -> bool:
        """Whether more records may be handed over now."""

    @property
    def finished(self) -> bool:
        """Whether the role's part in the run is over."""

    def handle(self, delivery: Delivery) -> None:
        """Take one record.

        Raises:
            BadRecord: it cannot be used; the loop sends it to `deadletters`.

        """

    def work(self) -> bool:
        """Advance by one short step; True if there is more to do at once."""

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat, keyed `role/what/statistic`."""

    def close(self) -> None:
        """Stop what runs beside the loop."""


def run_loop(
    role: Role,
    topics: RunTopics,
    reader: Reader,
    stop: threading.Event,
    *,
    commits: bool = False,
    watermark: Watermark | None = None,
    poll_s: float = POLL_S,
    max_records: int = MAX_RECORDS,
    rest: Callable[[float], object] | None = None,
) -> None:
    """Run a role until it has finished or `stop` is set.

    Args:
        commits: note progress for the reader's consumer group, as far as deliveries are `done`.
        watermark: where deliveries are tracked for a role that keeps its offsets itself. Without it and without
            `commits` nothing is tracked, and `Delivery.done` does nothing.
        poll_s: records are asked for at least this often, and what the role has sent meanwhile goes out. It bounds what
            the loop adds to a record's latency; `PollPace` says when it is less.
        max_records: records that are asked for at once, and so the most that are handed over beyond what the role wants.
            Few for a role whose workers share their input: what one has taken the others cannot take.
        rest: waits for so many seconds, or less if there is something to do besides records. Without it the loop waits
            for `stop`.

    """
    progress = Watermark() if commits else watermark
    pace = PollPace(poll_s)
    pulse = Pulse(topics)

    def figures() -> Mapping[str, float]:
        return {**role.metrics(), "consumer/lag": reader.lag()}

    last_commit, rest = time.monotonic(), rest or stop.wait
    try:
        while not stop.is_set() and not role.finished:
            if role.wants_input:
                reader.resume()
            else:
                reader.pause()
            polled = time.monotonic()
            records = reader.poll(0.0, max_records)
            until = polled + pace.period_s(time.monotonic() - polled)
            while records:
                for record in records:
                    hand_over(role, topics, record, progress)
                has_more = len(records) >= max_records and role.wants_input and time.monotonic() < until
                records = reader.poll(0.0, max_records) if has_more else []
            while role.work() and time.monotonic() < until:
                pass
            topics.writer.push()
            pulse.beat("running", figures)
            if commits and time.monotonic() - last_commit >= COMMIT_S:
                _commit(reader, progress)
                last_commit = time.monotonic()
            if not role.finished:
                rest(max(0.0, until - time.monotonic()))
        pulse.beat("closing", role.metrics, now=True)
        topics.writer.flush()
        role.close()
        topics.writer.flush()
        if commits:
            _commit(reader, progress)
        pulse.beat("done" if role.finished else "stopped", role.metrics, now=True)
        topics.writer.flush()
    finally:
        reader.close()


def _commit(reader: Reader, progress: Watermark | None) -> None:
    assert progress is not None
    moved = progress.moved()
    if reader.commit(moved):
        progress.note_committed(moved)


def hand_over(role: Role, topics: RunTopics, record: Record, progress: Watermark | None = None) -> None:
    """Decode one record and let the role handle it; one that cannot be used goes to `deadletters` (law 8)."""
    partition, offset, index = (record.topic, record.partition), record.offset, record.index

    def done() -> None:  # holds no more than it needs: a role may keep it for long
        if progress is not None:
            progress.finish(partition, offset, index)

    if progress is not None:
        progress.start(partition, offset, index)
    topic = topic_of(record.topic)
    try:
        role.handle(Delivery(topic, decode(record.value, topic.message_type), record, done))
    except BadRecord as error:
        topics.send_to_deadletters(record, str(error), done)
    except RucksackError:
        raise
    except Exception as error:  # no record may stop a role: what it did is in the log, its bytes in deadletters
        log.exception("record could not be handled")
        topics.send_to_deadletters(record, f"{type(error).__name__}: {error}", done)


class PollPace:
    """Says when to poll next: polls take `POLL_SHARE` of the time, and are at most `most_s` seconds apart.

    So records wait less on a quick or idle machine; on a busy one, where a poll takes longer, fewer polls bring more each.
    """

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._poll_s = most_s * POLL_SHARE

    def period_s(self, elapsed_s: float) -> float:
        """Seconds from the start of a poll, which took `elapsed_s`, to the start of the next."""
        self._poll_s += NEWEST_POLL_SHARE * (elapsed_s - self._poll_s)
        return min(self._most_s, self._poll_s / POLL_SHARE)


class Pulse:
    """Sends a heartbeat about every second."""

    def __init__(self, topics: RunTopics) -> None:
        self._topics = topics
        self._last = 0.0
        self._is_heard = True

    def beat(self, state: str, metrics: Callable[[], Mapping[str, float]], *, now: bool = False) -> None:
        """Send one if it is time, or `now`."""
        if not now and time.monotonic() - self._last < (HEARTBEAT_S if self._is_heard else UNHEARD_S):
            return
        self._last = time.monotonic()
        figures = dict(metrics())
        if self._topics.metrics is not None:
            self._topics.metrics.note(figures, state)
        heartbeat = Heartbeat(
            worker=self._topics.worker,
            pid=os.getpid(),
            host=socket.gethostname(),
            state=state,
            metrics=figures,
            created_s=time.time(),
        )
        self._is_heard = False
        self._topics.send(HEARTBEATS, self._topics.worker, heartbeat, on_ack=self._note_heard)

    def _note_heard(self) -> None:
        self._is_heard = True


class IdleClock:
    """Share of the last minute or so that was spent idle."""

    def __init__(self, half_life_s: float = 20.0) -> None:
        self._half_life_s = half_life_s
        self._last = time.monotonic()
        self._share = 0.0

    def note(self, *, idle: bool) -> None:
        """What the time since the last call was."""
        now = time.monotonic()
        kept = 0.5 ** ((now - self._last) / self._half_life_s)
        self._share = kept * self._share + (1 - kept) * idle
        self._last = now

    def share(self) -> float:
        """In [0, 1]."""
        return self._share
