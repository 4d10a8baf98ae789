"""Follows a run's topics into its index, in a thread of its own: while the run goes on, after it, across a broker that is away.

A broker enters, or where to find one; the index grows, and `Following` says how it goes. The only thread that writes the index.
A run that is over is read from its own broker, which is started for as long as that takes.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from replay.watch.index import Index, Mark
from stream.broker import Broker, Reader, Record, TopicPartition
from stream.errors import RucksackError
from stream.lag import consumer_lag
from stream.topics import DEADLETTERS, EVALUATIONS, HEARTBEATS, JOBS, UPDATES, VERDICTS

log = logging.getLogger(__name__)

SHOWN = (UPDATES, EVALUATIONS, HEARTBEATS, DEADLETTERS, JOBS, VERDICTS)
"""Topics that the index is made of."""
ASK_EVERY_S = 2.0
"""How often the ends of the topics and the consumer lag are asked for."""
RETRY_S = 2.0
LAG_KEPT = 150
"""Samples of the lag, ASK_EVERY_S apart: five minutes."""
_POLL_RECORDS = 2000
_CHECK_S = 20.0
"""How long to wait for the one record that tells one run from another of its name."""

Opener = Callable[[bool], AbstractContextManager[Broker]]
"""Opens the run's broker; with True it may start the run's own one."""


@dataclass(slots=True)
class Following:
    """How it goes. The follower writes it, the page reads it."""

    state: str = "connecting"
    """`connecting`, `reading` (behind), `live` (up to date), `away` (no broker answers), `over` (read to its end)."""
    error: str = ""
    """Why no broker answers."""
    answered_s: float = 0.0
    """When the broker last answered, by the monotonic clock."""
    passed: int = 0
    total: int = 0
    """Offsets read, and those there are."""
    live_s: float = 0.0
    """When the index was up to date first, by the monotonic clock."""
    heard_s: dict[str, float] = field(default_factory=dict)
    """When a worker's newest heartbeat came, by the monotonic clock. Not by its own, which may be set otherwise."""
    lag: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    """(seconds by the monotonic clock, records by topic that its consumer group has not finished), oldest first."""


class Follower:
    """Keeps an index up to date until it is stopped."""

    def __init__(self, index: Index, open_broker: Opener) -> None:
        self.index = index
        self.following = Following()
        self._open = open_broker
        self._stop = threading.Event()
        self._may_start = True
        self._thread = threading.Thread(target=self._run, name=f"follow-{index.run}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait for what is being read."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._open(False) as broker:
                    self._follow(broker, until_read=False)
            except RucksackError as error:
                self._note_away(error)
                self._read_once()
            except Exception as error:  # whatever it is, the page goes on and says so
                log.exception("following failed")
                self._note_away(error)
            self._stop.wait(RETRY_S)

    def _note_away(self, error: Exception) -> None:
        if self.following.state != "over":
            self.following.state, self.following.error = "away", str(error)

    def _read_once(self) -> None:
        """Read a run that is over from its own broker, once."""
        if not self._may_start:
            return
        self._may_start = False
        try:
            self.following.state = "connecting"
            with self._open(True) as broker:
                self._follow(broker, until_read=True)
            if not self._stop.is_set():
                self.following.state = "over"
        except RucksackError as error:
            self._note_away(error)

    def _follow(self, broker: Broker, *, until_read: bool) -> None:
        names = [topic.of(self.index.run) for topic in SHOWN if broker.partitions(topic.of(self.index.run))]
        reader = broker.reader(names)
        try:
            reader.seek(self._start(broker, names))
            self._may_start = False
            self._read(broker, names, reader, until_read)
        finally:
            reader.close()

    def _start(self, broker: Broker, names: list[str]) -> dict[TopicPartition, int]:
        """Where to read on; the index is cleared first if these topics are not those that it was made of."""
        known = self.index.offsets()
        ends = _ends(broker, names)
        gone = any(offset > ends.get(partition, 0) for partition, offset in known.items())
        if gone or not self._is_same_run(broker):
            log.warning("another run of this name is there: the index is made anew run=%s", self.index.run)
            self.index.clear()
            known = {}
        return {partition: known.get(partition, 0) for partition in ends}

    def _is_same_run(self, broker: Broker) -> bool:
        """Whether the newest update that the index holds is where it was in the log."""
        mark = self.index.newest_update()
        if mark is None:
            return True
        topic = UPDATES.of(self.index.run)
        reader = broker.reader([topic])
        try:
            reader.seek({(topic, 0): mark.offset})
            records = reader.poll(_CHECK_S, 1)
        finally:
            reader.close()
        return bool(records) and mark == Mark.of(records[0])

    def _read(self, broker: Broker, names: list[str], reader: Reader, until_read: bool) -> None:
        next_ask, ends = 0.0, _ends(broker, names)
        while not self._stop.is_set():
            if time.monotonic() >= next_ask:
                ends = _ends(broker, names)
                self._note_lag(broker)
                next_ask = time.monotonic() + ASK_EVERY_S
            records = reader.poll(0.2, _POLL_RECORDS)
            if records:
                self.index.take(records)
                self._note_heard(records)
            self._note_progress(reader, ends)
            if until_read and self.following.passed >= self.following.total:
                return

    def _note_heard(self, records: list[Record]) -> None:
        topic, now = HEARTBEATS.of(self.index.run), time.monotonic()
        heard = {record.key.decode(errors="replace"): now for record in records if record.topic == topic}
        self.following.heard_s = self.following.heard_s | heard

    def _note_progress(self, reader: Reader, ends: Mapping[TopicPartition, int]) -> None:
        positions, following = reader.positions(), self.following
        following.total = sum(ends.values())
        following.passed = sum(min(positions.get(partition) or 0, end) for partition, end in ends.items())
        following.error = ""  # before the state, which says that it is over
        following.state = "live" if following.passed >= following.total else "reading"
        if following.state == "live" and not following.live_s:
            following.live_s = time.monotonic()

    def _note_lag(self, broker: Broker) -> None:
        lag = consumer_lag(broker, self.index.run)
        self.following.answered_s = time.monotonic()
        self.following.lag = [*self.following.lag[-LAG_KEPT + 1 :], (self.following.answered_s, lag)]


def _ends(broker: Broker, names: list[str]) -> dict[TopicPartition, int]:
    return {(name, partition): end for name in names for partition, end in broker.end_offsets(name).items()}
