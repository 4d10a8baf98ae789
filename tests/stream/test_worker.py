import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
from factories import make_job, make_prompt
from hypothesis import given
from hypothesis import strategies as st

from stream.broker import Offsets
from stream.codec import decode, encode
from stream.errors import BadRecord
from stream.memory import MemoryBroker, MemoryWriter
from stream.messages import DeadLetter, Heartbeat
from stream.run_topics import RunTopics
from stream.topics import DEADLETTERS, HEARTBEATS, JOBS, TOPICS, partition_of, topic_of
from stream.worker import Delivery, PollPace, Pulse, run_loop


class Collector:
    """A role that keeps what it gets, and finishes after `enough` records."""

    def __init__(self, enough: int, on_handle: Callable[[Delivery], None] | None = None) -> None:
        self.deliveries: list[Delivery] = []
        self.enough = enough
        self.on_handle = on_handle or (lambda delivery: delivery.done())
        self.num_steps = 0

    wants_input = True

    @property
    def finished(self) -> bool:
        return len(self.deliveries) >= self.enough or self.num_steps > 100

    def handle(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self.on_handle(delivery)

    def work(self) -> bool:
        self.num_steps += 1
        return False

    def metrics(self) -> Mapping[str, float]:
        return {"collector/records": len(self.deliveries)}

    def close(self) -> None:
        pass


def make_topics(worker: str = "collector-0") -> RunTopics:
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 2)
    return RunTopics(broker, "r", worker)


def run(role: Collector, topics: RunTopics) -> None:
    run_loop(role, topics, topics.reader(JOBS, consumer_group="workers"), threading.Event(), commits=True, poll_s=0)


def test_progress_is_committed_behind_finished_records_only() -> None:
    topics = make_topics()
    for number in range(3):
        topics.send(JOBS, f"k{number}", make_job(f"p.{number}"), partition=0)
    seen: list[int] = []

    def finish_all_but_the_second(delivery: Delivery) -> None:
        seen.append(delivery.record.offset)
        if delivery.record.offset != 1:
            delivery.done()

    run(Collector(3, finish_all_but_the_second), topics)
    assert seen == [0, 1, 2]
    assert topics.broker.group_offsets("r.workers") == {("r.jobs", 0): 1}


def test_a_commit_that_was_refused_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = make_topics()
    topics.send(JOBS, "k", make_job("p.1"), partition=0)
    reader = topics.reader(JOBS, consumer_group="workers")
    commit, asked = reader.commit, []

    def refuse_the_first(offsets: Offsets) -> bool:
        asked.append(dict(offsets))
        return len(asked) > 1 and commit(offsets)

    monkeypatch.setattr(reader, "commit", refuse_the_first)
    monkeypatch.setattr("stream.worker.COMMIT_S", 0.0)
    run_loop(Collector(99), topics, reader, threading.Event(), commits=True, poll_s=0)
    assert asked[:3] == [{("r.jobs", 0): 1}, {("r.jobs", 0): 1}, {}]
    assert topics.broker.group_offsets("r.workers") == {("r.jobs", 0): 1}


def test_bad_records_go_to_deadletters_and_the_role_goes_on() -> None:
    topics = make_topics()
    topics.writer.send("r.jobs", b"k", b"garbage", partition=0)
    topics.send(JOBS, "k", make_job("p.1"), partition=0)
    topics.send(JOBS, "k", make_job("p.2", prompt=make_prompt(grader="boom")), partition=0)
    topics.send(JOBS, "k", make_job("p.3", prompt=make_prompt(grader="refuse")), partition=0)

    def fail(delivery: Delivery) -> None:
        match delivery.message.prompt.grader:
            case "boom":
                raise ZeroDivisionError("a bug that one record brings out")
            case "refuse":
                raise BadRecord("not for me")
        delivery.done()

    run(Collector(3, fail), topics)
    letters = [decode(r.value, DeadLetter) for r in topics.broker.reader(["r.deadletters"]).poll(0)]
    assert [(letter.topic, letter.offset) for letter in letters] == [("r.jobs", 0), ("r.jobs", 2), ("r.jobs", 3)]
    assert letters[0].value == b"garbage"
    assert letters[0].error.startswith("not a Rucksack record")
    assert letters[1].error == "ZeroDivisionError: a bug that one record brings out"
    assert letters[2].error == "not for me"
    assert topics.broker.group_offsets("r.workers") == {("r.jobs", 0): 4}


def test_heartbeat_tells_state_and_figures() -> None:
    topics = make_topics("collector-7")
    topics.send(JOBS, "k", make_job("p.1"), partition=0)
    run(Collector(1), topics)
    beats: list[Heartbeat] = topics.read_all(HEARTBEATS)
    assert (beats[-1].worker, beats[-1].state, beats[-1].metrics) == ("collector-7", "done", {"collector/records": 1})


def test_heartbeats_are_few_while_the_broker_acknowledges_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Held(MemoryWriter):
        held: ClassVar[list[Callable[[], None]]] = []

        def send(
            self, topic: str, key: bytes, value: bytes, *, on_ack: Callable[[], None] | None = None, **at: Any
        ) -> None:
            self.held += [on_ack] if on_ack else []
            super().send(topic, key, value, **at)

    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 2)
    topics = RunTopics(broker, "r", "collector-7", Held(broker, "collector-7", None))
    now = 1000.0
    monkeypatch.setattr("stream.worker.time.monotonic", lambda: now)
    pulse = Pulse(topics)

    def num_sent_until(second: float) -> int:
        nonlocal now
        while now < second:
            pulse.beat("running", dict)
            now += 0.5
        return len(topics.read_all(HEARTBEATS))

    assert num_sent_until(1040) == 1 + 3  # one, and one each 10 s
    for heard in Held.held:
        heard()
    assert num_sent_until(1041) == 5


def test_stop_event_ends_the_loop_without_losing_progress() -> None:
    topics = make_topics()
    stop = threading.Event()
    topics.send(JOBS, "k", make_job("p.1"), partition=1)

    def finish_and_stop(delivery: Delivery) -> None:
        delivery.done()
        stop.set()

    role = Collector(99, finish_and_stop)
    run_loop(role, topics, topics.reader(JOBS, consumer_group="workers"), stop, commits=True, poll_s=0)
    assert topics.broker.group_offsets("r.workers") == {("r.jobs", 1): 1}
    assert topics.read_all(HEARTBEATS)[-1].state == "stopped"


def test_read_all_passes_over_what_it_cannot_read() -> None:
    topics = make_topics()
    topics.writer.send("r.deadletters", b"k", b"\x00")
    letter = DeadLetter(role="x", topic="r.jobs", partition=0, offset=0, error="e", key=b"", value=b"")
    topics.writer.send("r.deadletters", b"k", encode(letter))
    assert topics.read_all(DEADLETTERS) == [letter]


def test_all_of_a_group_share_a_partition_and_topics_are_found_by_name() -> None:
    assert {partition_of("p.0001", 8) for _ in range(3)} == {partition_of("p.0001", 8)}
    assert 0 <= partition_of("p.0001", 8) < 8
    assert topic_of("my-run.jobs") is JOBS


@pytest.mark.parametrize(("max_records", "num_taken"), [(1, 5), (4, 8), (100, 20)])
def test_a_role_gets_no_more_than_it_wants_and_the_records_of_one_question(max_records: int, num_taken: int) -> None:
    topics, stop = make_topics(), threading.Event()
    for number in range(20):
        topics.send(JOBS, f"k{number}", make_job(f"p.{number}"), partition=0)

    class Picky(Collector):
        @property
        def wants_input(self) -> bool:  # type: ignore[override]
            return len(self.deliveries) < 5

    role = Picky(99)
    reader = topics.reader(JOBS, consumer_group="workers")
    rests = iter(range(3))
    run_loop(role, topics, reader, stop, poll_s=3600.0, max_records=max_records,
             rest=lambda _: next(rests, None) is None and stop.set())  # fmt: skip
    assert [delivery.record.offset for delivery in role.deliveries] == list(range(num_taken))


def test_the_role_itself_waits_for_the_next_poll() -> None:
    topics, rests, role = make_topics(), list[float](), Collector(1)

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            topics.send(JOBS, "k", make_job("p.1"), partition=0)

    run_loop(role, topics, topics.reader(JOBS, consumer_group="workers"), threading.Event(), poll_s=3600.0, rest=rest)
    assert len(rests) == 3
    assert all(0.0 <= seconds <= 3600.0 for seconds in rests)


@given(st.floats(0.001, 10.0), st.lists(st.floats(0.0, 10.0), min_size=1))
def test_polls_take_a_thirtieth_of_the_time_and_are_never_far_apart(most_s: float, polls: list[float]) -> None:
    pace = PollPace(most_s)
    periods = [pace.period_s(poll_s) for poll_s in polls]
    assert all(0.0 <= period <= most_s for period in periods)
    for _ in range(1000):
        settled = pace.period_s(most_s / 60)
    assert settled == pytest.approx(most_s / 2)
    for _ in range(1000):
        settled = pace.period_s(most_s / 20)
    assert settled == most_s


def test_one_slow_poll_does_not_change_the_pace_much() -> None:
    pace = PollPace(0.1)
    for _ in range(1000):
        pace.period_s(0.0005)
    assert pace.period_s(0.0105) == pytest.approx(0.03)
    assert PollPace(0.1).period_s(0.1 / 30) == pytest.approx(0.1)
