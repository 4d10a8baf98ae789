"""Reads a run's updates, evaluations, heartbeats and consumer lag from the broker into its board."""

import contextlib
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor

from infra.board import Board
from stream.broker import Broker
from stream.codec import decode
from stream.errors import BadRecord, BrokerUnavailable
from stream.lag import consumer_lag
from stream.topics import EVALUATIONS, HEARTBEATS, UPDATES, topic_of

log = logging.getLogger(__name__)

LAG_EVERY_S = 2.0


class BoardReader:
    """Keeps a board up to date. Never waits; while the broker does not answer, the board stays as it is.

    The lag is asked for on a thread of its own: a node that is held by a SIGSTOP lets whoever asks it wait for a quarter of a
    minute, in which the supervisor has to look after the others.
    """

    def __init__(self, broker: Broker, board: Board) -> None:
        self._broker = broker
        self._board = board
        self._reader = broker.reader([topic.of(board.run) for topic in (UPDATES, EVALUATIONS, HEARTBEATS)])
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lag")
        self._lag: Future[dict[str, int]] | None = None
        self._next_lag = 0.0

    def step(self) -> None:
        """Take what has come, and now and then the lag."""
        try:
            for record in self._reader.poll(0.0):
                with contextlib.suppress(BadRecord):  # the role that reads it sends it to `deadletters`
                    self._board.note(decode(record.value, topic_of(record.topic).message_type))
            self._take_lag()
        except BrokerUnavailable as error:  # the workers wait for it, and so do we
            log.warning("broker does not answer error=%s", error)

    def _take_lag(self) -> None:
        if self._lag is None and time.monotonic() >= self._next_lag:
            self._next_lag = time.monotonic() + LAG_EVERY_S
            self._lag = self._thread.submit(consumer_lag, self._broker, self._board.run)
        if self._lag is not None and self._lag.done():
            asked, self._lag = self._lag, None
            self._board.lag = asked.result()

    def close(self) -> None:
        """Stop reading."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._reader.close()
