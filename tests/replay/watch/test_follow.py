"""The follower reads what is there and what comes, across a broker that is away, and knows another run of the same name."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from factories import make_verdict

from replay.watch.follow import Follower
from replay.watch.index import Index
from stream.errors import BrokerUnavailable
from stream.memory import MemoryBroker
from stream.run_topics import RunTopics
from stream.topics import TRAJECTORIES, VERDICTS


class Switch:
    """Opens a broker, or none."""

    def __init__(self, broker):
        self.broker = broker
        self.asked = []

    @contextmanager
    def __call__(self, start):
        self.asked.append(start)
        if self.broker is None:
            raise BrokerUnavailable("no Kafka broker answers at nowhere:1")
        yield self.broker


@pytest.fixture
def follow(tmp_path: Path):
    """`follow(switch)` starts a follower of the run `made`; all are stopped at the end."""
    started = []

    def start(switch):
        follower = Follower(Index(tmp_path / "made.sqlite", "made"), switch)
        started.append(follower)
        follower.start()
        return follower

    yield start
    for follower in started:
        follower.close()
        follower.index.close()


def count(follower):
    return follower.index.rows("SELECT count(*) FROM rollouts")[0][0]


def test_it_reads_what_is_there_and_then_what_comes(broker, make_run, follow, until):
    make_run(broker, final=False)
    follower = follow(Switch(broker))
    until(lambda: follower.following.state == "live")
    assert count(follower) == 288
    total = follower.following.total
    RunTopics(broker, "made", "w").send_of_group(VERDICTS, "new", make_verdict("new"))
    until(lambda: count(follower) == 289)
    until(lambda: follower.following.passed == follower.following.total == total + 1)


def test_a_broker_that_is_away_is_said_and_waited_for(broker, make_run, follow, until):
    make_run(broker)
    switch = Switch(None)
    follower = follow(switch)
    until(lambda: follower.following.state == "away" and len(switch.asked) > 1)
    assert "nowhere:1" in follower.following.error
    assert switch.asked[:2] == [False, True]  # the run's own broker is started if none answers
    switch.broker = broker
    until(lambda: follower.following.state == "live")
    assert follower.following.error == ""
    assert True not in switch.asked[2:]


def test_the_lag_is_that_of_the_consumer_groups(broker, make_run, follow, until):
    make_run(broker)
    ends = broker.end_offsets(TRAJECTORIES.of("made"))
    broker.group_progress["made.verifiers"] = {(TRAJECTORIES.of("made"), p): end - 2 for p, end in ends.items()}
    follower = follow(Switch(broker))
    until(lambda: follower.following.lag)
    assert follower.following.lag[-1][1]["trajectories"] == 4


def test_another_run_of_the_same_name_is_indexed_anew(broker, make_run, follow, until):
    make_run(broker)
    first = follow(Switch(broker))
    until(lambda: first.following.state == "live")
    first.close()
    other = MemoryBroker()
    make_run(other, seed=1, num_updates=8, crash_at=0)  # longer: no offset tells it from the first
    second = follow(Switch(other))
    until(lambda: second.following.state == "live")
    assert count(second) == 8 * 6 * 8
    assert second.index.rows("SELECT max(step), count(*) FROM updates") == [(8, 8)]


def test_a_restart_reads_nothing_again(broker, make_run, follow, until):
    make_run(broker)
    first = follow(Switch(broker))
    until(lambda: first.following.state == "live")
    first.close()
    second = follow(Switch(broker))
    until(lambda: second.following.state == "live")
    assert second.index.changes == 0
    assert count(second) == 288


def test_following_a_real_broker(kafka, make_run, follow, until):
    from stream.kafka import KafkaBroker

    broker = KafkaBroker(kafka)
    writers = []
    broker.writer = lambda **names: writers.append(KafkaBroker.writer(broker, **names)) or writers[-1]  # type: ignore[method-assign]
    make_run(broker, crash_at=0)
    follower = follow(Switch(broker))
    until(lambda: follower.following.state == "live")
    assert count(follower) == 288
    topics = RunTopics(broker, "made", "w")
    topics.send_of_group(VERDICTS, "new", make_verdict("new"))
    topics.writer.flush()
    until(lambda: count(follower) == 289)
    follower.close()
    again = follow(Switch(broker))
    until(lambda: again.following.state == "live")
    assert (count(again), again.index.changes) == (289, 0)
    again.close()
    for writer in writers:
        writer.close()
    broker.close()
