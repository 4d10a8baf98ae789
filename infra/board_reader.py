"""Reads a run's updates, evaluations, heartbeats and consumer lag from the broker into its board."""

import contextlib
import logging
import time

from infra.board import Board
from stream.broker import Broker
from stream.codec import decode
from stream.errors import BadRecord, BrokerUnavailable
from stream.topics import EVALUATIONS, HEARTBEATS, JOBS, TRAJECTORIES, UPDATES, Topic, topic_of

log = logging.getLogger(__name__)

CONSUMER_GROUPS = {JOBS: "producers", TRAJECTORIES: "verifiers"}
LAG_EVERY_S = 2.0


class BoardReader:
    """Keeps a board up to date. Never waits; while the broker does not answer, the board stays as it is."""

    def __init__(self, broker: Broker, board: Board) -> None:
        self._broker = broker
        self._board = board
        self._reader = broker.reader([topic.of(board.run) for topic in (UPDATES, EVALUATIONS, HEARTBEATS)])
        self._next_lag = 0.0

    def step(self) -> None:
        """Take what has come, and now and then the lag."""
        try:
            for record in self._reader.poll(0.0):
                with contextlib.suppress(BadRecord):  # the role that reads it sends it to `deadletters`
                    self._board.note(decode(record.value, topic_of(record.topic).message_type))
            if time.monotonic() >= self._next_lag:
                self._next_lag = time.monotonic() + LAG_EVERY_S
                self._board.lag = {topic.name: self._lag(topic, group) for topic, group in CONSUMER_GROUPS.items()}
        except BrokerUnavailable as error:  # the workers wait for it, and so do we
            log.warning("broker does not answer error=%s", error)

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()

    def _lag(self, topic: Topic, consumer_group: str) -> int:
        """Records of the topic that its consumer group has not finished."""
        name = topic.of(self._board.run)
        finished = self._broker.group_offsets(f"{self._board.run}.{consumer_group}")
        ends = self._broker.end_offsets(name)
        return sum(max(0, end - finished.get((name, partition), 0)) for partition, end in ends.items())
