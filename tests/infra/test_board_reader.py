"""The board's reader beside a broker that lets it wait."""

import threading

from infra.board import Board
from infra.board_reader import BoardReader
from localkafka.process import wait_until
from stream.errors import BrokerUnavailable
from stream.memory import MemoryBroker
from stream.messages import Heartbeat
from stream.run_topics import RunTopics
from stream.topics import HEARTBEATS, TOPICS


class Hanging(MemoryBroker):
    """Answers questions about offsets only once it goes on; fails the first."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.asked = threading.Event()
        self.failed = False

    def group_offsets(self, consumer_group: str) -> dict[tuple[str, int], int]:
        self.asked.set()
        assert self.goes_on.wait(30)
        if not self.failed:
            self.failed = True
            raise BrokerUnavailable("a node is lost")
        return super().group_offsets(consumer_group)


def test_heartbeats_are_read_while_the_broker_does_not_say_the_lag(monkeypatch):
    monkeypatch.setattr("infra.board_reader.LAG_EVERY_S", 0.0)
    broker, board = Hanging(), Board("r", 10)
    broker.create_topics("r", TOPICS, 1)
    topics = RunTopics(broker, "r", "test")
    reader = BoardReader(broker, board)
    reader.step()
    assert broker.asked.wait(30)
    topics.send(HEARTBEATS, "learner-0", Heartbeat(worker="learner-0", pid=7, host="here", state="running"))
    topics.writer.flush()
    reader.step()
    assert board.heartbeats["learner-0"].pid == 7
    assert board.lag == {}
    broker.goes_on.set()

    def lag_is_there() -> bool:
        reader.step()
        return bool(board.lag)

    assert wait_until(lag_is_there, 30)
    assert board.lag == {"jobs": 0, "trajectories": 0}
    reader.close()
