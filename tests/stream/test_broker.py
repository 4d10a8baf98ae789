"""The broker protocol, the same tests against the memory broker and a real Kafka."""

import threading
import time
import uuid
from functools import partial
from typing import ClassVar

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaConnectionError, KafkaTimeoutError, RequestTimedOutError

from stream import bundles
from stream.broker import Broker, Record
from stream.codec import encode
from stream.errors import BrokerUnavailable, Fenced, UserError
from stream.kafka import KafkaBroker, KafkaWriter
from stream.memory import MemoryBroker
from stream.messages import Position
from stream.run_topics import RunTopics
from stream.snapshot import Snapshot
from stream.topics import JOBS, TOPICS, UPDATES, VERDICTS, WEIGHTS


@pytest.fixture(params=["memory", "kafka"])
def broker(request: pytest.FixtureRequest):
    if request.param == "memory":
        yield MemoryBroker()
        return
    made = KafkaBroker(request.getfixturevalue("kafka"))
    yield made
    made.close()


@pytest.fixture
def run(broker: Broker) -> str:
    name = f"run-{uuid.uuid4().hex[:8]}"
    broker.create_topics(name, TOPICS, 3)
    return name


def named(name: str) -> Position:
    """Any message."""
    return Position(topic=name, partition=0, offset=0)


def read(reader, num_records: int) -> list[bytes]:
    """Values, in order of arrival; fails by itself if they do not come in two minutes."""
    values: list[bytes] = []
    deadline = time.monotonic() + 120
    while len(values) < num_records:
        assert time.monotonic() < deadline, f"{len(values)} of {num_records} records came"
        values += [record.value for record in reader.poll(0.1)]
    return values


def write(broker: Broker, topic: str, *values: bytes, partition: int = 0) -> None:
    writer = broker.writer(name=uuid.uuid4().hex)
    for value in values:
        writer.send(topic, b"key", value, partition=partition)
    writer.flush()
    writer.close()


def test_topics_have_their_partitions_and_can_be_created_twice(broker, run):
    broker.create_topics(run, TOPICS, 3)
    assert broker.partitions(JOBS.of(run)) == [0, 1, 2]
    assert broker.partitions(UPDATES.of(run)) == [0]
    assert broker.partitions("no-such-topic") == []


def test_a_partition_is_read_in_the_order_in_which_it_was_written(broker, run):
    values = [b"%d" % number for number in range(2000)]
    write(broker, JOBS.of(run), *values, partition=1)
    reader = broker.reader([JOBS.of(run)])
    assert read(reader, 2000) == values
    assert reader.positions()[(JOBS.of(run), 1)] == 2000
    assert broker.end_offsets(JOBS.of(run)) == {0: 0, 1: 2000, 2: 0}
    reader.close()


def test_acknowledgements_come_when_the_record_is_durable(broker, run):
    acknowledged = threading.Event()
    writer = broker.writer(name="w")
    writer.send(UPDATES.of(run), b"k", b"v", on_ack=acknowledged.set)
    assert acknowledged.wait(60)
    assert broker.end_offsets(UPDATES.of(run)) == {0: 1}
    writer.close()


def test_bundled_messages_come_one_by_one_in_their_order(broker, run):
    values = [encode(named(f"w-{number}")) for number in range(100)]
    acknowledged: list[int] = []
    writer = broker.writer(name="w")
    for number, value in enumerate(values):
        writer.send(JOBS.of(run), b"k", value, partition=1, bundled=True, on_ack=partial(acknowledged.append, number))
    writer.push()
    reader = broker.reader([JOBS.of(run)])
    assert read(reader, 100) == values
    writer.flush()
    assert acknowledged == list(range(100))
    reader.close()
    writer.close()


def test_what_waits_to_be_bundled_belongs_to_its_transaction(broker, run):
    writer = broker.writer(name=f"{run}.t", transactional=True)
    message = encode(named("w"))
    with pytest.raises(ZeroDivisionError), writer.transaction():
        writer.send(JOBS.of(run), b"k", b"aborted", partition=0, bundled=True)
        raise ZeroDivisionError
    with writer.transaction():
        writer.send(JOBS.of(run), b"k", message, partition=0, bundled=True)
        writer.send(JOBS.of(run), b"k", message, partition=0, bundled=True)
    reader = broker.reader([JOBS.of(run)])
    assert read(reader, 2) == [message, message]
    reader.close()
    writer.close()


def test_kafka_keeps_a_bundle_in_one_record(kafka: str):
    broker = KafkaBroker(kafka)
    run = f"run-{uuid.uuid4().hex[:8]}"
    broker.create_topics(run, TOPICS, 1)
    message = encode(named("w"))
    writer = broker.writer(name="w")
    for _ in range(bundles.MAX_MESSAGES + 3):
        writer.send(JOBS.of(run), b"k", message, partition=0, bundled=True)
    writer.flush()
    assert broker.end_offsets(JOBS.of(run)) == {0: 2}
    reader = broker.reader([JOBS.of(run)])
    records: list[Record] = []
    while len(records) < bundles.MAX_MESSAGES + 3:
        records += reader.poll(0.5)
    assert [(record.offset, record.index) for record in records] == [
        *((0, index) for index in range(bundles.MAX_MESSAGES)), (1, 0), (1, 1), (1, 2),
    ]  # fmt: skip
    reader.close()
    writer.close()
    broker.close()


def test_a_reader_that_seeks_reads_from_there(broker, run):
    write(broker, UPDATES.of(run), b"a", b"b", b"c")
    reader = broker.reader([UPDATES.of(run)])
    reader.seek({(UPDATES.of(run), 0): 1})
    assert read(reader, 2) == [b"b", b"c"]
    reader.close()


def test_a_paused_reader_gets_nothing_until_it_resumes(broker, run):
    reader = broker.reader([UPDATES.of(run)])
    reader.pause()
    write(broker, UPDATES.of(run), b"a")
    assert [reader.poll(0.1) for _ in range(5)] == [[]] * 5
    reader.resume()
    assert read(reader, 1) == [b"a"]
    reader.close()


def test_a_group_resumes_from_what_it_committed(broker, run):
    place = (UPDATES.of(run), 0)
    write(broker, UPDATES.of(run), b"a", b"b", b"c")
    first = broker.reader([UPDATES.of(run)], consumer_group=f"{run}.g", member="m")
    assert read(first, 3) == [b"a", b"b", b"c"]
    first.commit({place: 2})
    first.close()
    assert broker.group_offsets(f"{run}.g") == {place: 2}
    second = broker.reader([UPDATES.of(run)], consumer_group=f"{run}.g", member="m")
    assert read(second, 1) == [b"c"]
    second.close()


def test_a_transaction_is_seen_whole(broker, run):
    writer = broker.writer(name=f"{run}.t", transactional=True)
    with writer.transaction():
        writer.send(JOBS.of(run), b"k", b"job", partition=0)
        writer.send(UPDATES.of(run), b"k", b"update")
    reader = broker.reader([JOBS.of(run), UPDATES.of(run)])
    assert sorted(read(reader, 2)) == [b"job", b"update"]
    reader.close()
    writer.close()


def test_an_aborted_transaction_is_never_seen(broker, run):
    writer = broker.writer(name=f"{run}.t", transactional=True)
    with pytest.raises(ZeroDivisionError), writer.transaction():
        writer.send(UPDATES.of(run), b"k", b"aborted")
        raise ZeroDivisionError
    with writer.transaction():
        writer.send(UPDATES.of(run), b"k", b"committed")
    reader = broker.reader([UPDATES.of(run)])
    assert read(reader, 1) == [b"committed"]
    reader.close()
    writer.close()


def test_a_newer_writer_of_the_same_name_fences_the_older(broker, run):
    older = broker.writer(name=f"{run}.t", transactional=True)
    with older.transaction():
        older.send(UPDATES.of(run), b"k", b"older")
    newer = broker.writer(name=f"{run}.t", transactional=True)
    with pytest.raises(Fenced), older.transaction():
        older.send(UPDATES.of(run), b"k", b"zombie")
    with newer.transaction():
        newer.send(UPDATES.of(run), b"k", b"newer")
    reader = broker.reader([UPDATES.of(run)])
    assert read(reader, 2) == [b"older", b"newer"]
    reader.close()
    newer.close()


def test_large_records_pass(broker, run):
    value = bytes(8 << 20)
    write(broker, UPDATES.of(run), value)
    reader = broker.reader([UPDATES.of(run)])
    assert read(reader, 1) == [value]
    reader.close()


def test_deleted_records_are_gone_and_those_behind_keep_their_offsets(broker, run):
    topic = WEIGHTS.of(run)
    write(broker, topic, b"0", b"1", b"2", b"3")
    stands_before = broker.reader([topic])
    broker.delete_records({(topic, 0): 2})
    write(broker, topic, b"4")
    fresh = broker.reader([topic])
    assert read(fresh, 3) == [b"2", b"3", b"4"]
    assert read(stands_before, 3) == [b"2", b"3", b"4"]
    fresh.seek({(topic, 0): 1})
    records: list[Record] = []
    while len(records) < 3:
        records += fresh.poll(0.1)
    assert [(record.offset, record.value) for record in records] == [(2, b"2"), (3, b"3"), (4, b"4")]
    assert broker.end_offsets(topic) == {0: 5}
    assert broker.first_offsets([(topic, 0)]) == {(topic, 0): 2}
    (batch,) = Snapshot(broker, run, [WEIGHTS])
    assert [record.offset for record in batch] == [2, 3, 4]
    broker.delete_records({(topic, 0): 5})
    assert list(Snapshot(broker, run, [WEIGHTS])) == []
    fresh.close()
    stands_before.close()


def test_a_reader_goes_on_unless_what_comes_next_is_deleted():
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 1)
    at = (VERDICTS.of("r"), 0)
    write(broker, at[0], b"0", b"1", b"2")
    broker.delete_records({at: 2})
    topics = RunTopics(broker, "r", "learner")
    reader = topics.reader(VERDICTS)
    topics.seek_all(reader, {at: 2})
    assert read(reader, 1) == [b"2"]
    with pytest.raises(
        UserError, match=r"learner has read .* up to offset 1.* deleted up to 2.*answers_hours.*run\.name"
    ):
        topics.seek_all(reader, {at: 1})


def test_a_broker_that_is_not_there_is_named_with_the_remedy():
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1 .*rucksack broker start"):
        KafkaBroker("127.0.0.1:1", timeout_s=1)


def test_a_setting_that_no_client_knows_is_refused():
    with pytest.raises(UserError, match="sasl_mechanismus"):
        KafkaBroker("127.0.0.1:1", {"sasl_mechanismus": "PLAIN"})


def test_a_new_groups_only_member_always_gets_all_partitions(broker, run):
    """Of 40 groups of kafka-python 3.0.12 that were formed before the topic's metadata had come, 5 got none for good."""
    for number in range(15):
        reader = broker.reader([JOBS.of(run)], consumer_group=f"{run}.{number}", member="m")
        write(broker, JOBS.of(run), b"job")
        assert read(reader, number + 1) == [b"job"] * (number + 1)
        reader.close()


def test_a_join_that_kafka_python_forgot_is_taken_up_again(kafka):
    from kafka.structs import MemberState

    run_name, broker = f"run-{uuid.uuid4().hex[:8]}", KafkaBroker(kafka)
    broker.create_topics(run_name, TOPICS, 3)
    reader = broker.reader([JOBS.of(run_name)], consumer_group=run_name, member="m")
    write(broker, JOBS.of(run_name), b"one", b"two")
    assert read(reader, 2) == [b"one", b"two"]
    coordinator = reader._consumer._coordinator
    coordinator.state, coordinator.rejoining = MemberState.REBALANCING, True  # as it was found on a busy machine
    assert reader.commit({(JOBS.of(run_name), 0): 1}) is False
    assert reader.poll(0.0) == []  # it has kept its partitions, and reads on where it was
    assert reader.commit({(JOBS.of(run_name), 0): 1}) is True
    assert broker.group_offsets(run_name) == {(JOBS.of(run_name), 0): 1}
    reader.close()
    broker.close()


def test_a_write_for_which_there_is_no_room_blames_the_broker_not_the_record(monkeypatch):
    class Full:
        DEFAULT_CONFIG: ClassVar[dict[str, object]] = {}

        def send(self, *_args: object, **_settings: object) -> None:
            raise KafkaTimeoutError("failed to allocate memory within the configured max blocking time")

    monkeypatch.setattr("stream.kafka.KafkaProducer", Full)
    with pytest.raises(BrokerUnavailable, match="failed to allocate memory"):
        KafkaWriter({}, "w", transactional=False).send("t", b"k", b"v")


def test_topics_wait_for_a_node_that_has_not_registered_yet(kafka: str, monkeypatch: pytest.MonkeyPatch):
    broker, name = KafkaBroker(kafka), f"run-{uuid.uuid4().hex[:8]}"
    create, wanted = KafkaAdminClient.create_topics, []

    def create_on_a_cluster_that_grows(self, topics, **settings):
        wanted.append(topics)
        if len(wanted) < 3:  # asked for more replicas than there are nodes
            topics = {name: {**topic, "replication_factor": 3} for name, topic in topics.items()}
        return create(self, topics, **settings)

    monkeypatch.setattr("stream.kafka_admin.ASK_AGAIN_S", 0.01)
    monkeypatch.setattr(KafkaAdminClient, "create_topics", create_on_a_cluster_that_grows)
    broker.create_topics(name, TOPICS, 3)
    assert len(wanted) == 3
    assert broker.partitions(JOBS.of(name)) == [0, 1, 2]
    broker.close()


def test_a_fault_of_the_broker_is_told_in_a_line(kafka: str, monkeypatch: pytest.MonkeyPatch):
    broker, name = KafkaBroker(kafka), f"run-{uuid.uuid4().hex[:8]}"
    create = KafkaAdminClient.create_topics

    def create_with_three_replicas(self, topics, **settings):
        return create(self, {name: {**topic, "replication_factor": 3} for name, topic in topics.items()}, **settings)

    monkeypatch.setattr("stream.kafka_admin.NODE_LATE_S", 0.0)
    monkeypatch.setattr(KafkaAdminClient, "create_topics", create_with_three_replicas)
    with pytest.raises(BrokerUnavailable) as raised:
        broker.create_topics(name, TOPICS, 3)
    assert "InvalidReplicationFactorError: Unable to replicate the partition 3 time(s)" in str(raised.value)
    assert "CreateTopicsRe" not in str(raised.value)
    broker.close()


@pytest.mark.parametrize(("patience_s", "fails"), [(20.0, False), (0.0, True)])
def test_a_question_is_asked_again_while_a_node_is_lost(kafka: str, monkeypatch: pytest.MonkeyPatch, patience_s, fails):
    broker = KafkaBroker(kafka, patience_s=patience_s)
    run = f"run-{uuid.uuid4().hex[:8]}"
    broker.create_topics(run, [UPDATES], 1)
    ask, left = KafkaAdminClient.list_partition_offsets, iter([True, True])
    clients = [broker._admin]

    def lost_twice(client, *arguments):
        clients.append(client)
        if next(left, False):
            raise KafkaConnectionError("111 ECONNREFUSED")
        return ask(client, *arguments)

    monkeypatch.setattr(KafkaAdminClient, "list_partition_offsets", lost_twice)
    if fails:
        with pytest.raises(BrokerUnavailable, match="ECONNREFUSED"):
            broker.end_offsets(UPDATES.of(run))
    else:
        assert broker.end_offsets(UPDATES.of(run)) == {0: 0}
        assert len(set(clients)) == 3  # by a new client: the old one asks nodes that it knew
    broker.close()


@pytest.mark.parametrize(("patience_s", "fails"), [(20.0, False), (0.0, True)])
def test_a_reader_begins_though_the_broker_is_too_busy_to_answer_at_once(
    kafka: str, monkeypatch: pytest.MonkeyPatch, patience_s, fails
):
    broker = KafkaBroker(kafka, patience_s=patience_s)
    run = f"run-{uuid.uuid4().hex[:8]}"
    broker.create_topics(run, [JOBS], 2)
    ask, left = KafkaConsumer.partitions_for_topic, iter([True, True])

    def late_twice(consumer, topic):
        if next(left, False):
            raise RequestTimedOutError("Request timed out after 9994 ms")
        return ask(consumer, topic)

    monkeypatch.setattr(KafkaConsumer, "partitions_for_topic", late_twice)
    if fails:
        with pytest.raises(BrokerUnavailable, match="timed out after 9994 ms"):
            broker.reader([JOBS.of(run)], consumer_group=f"{run}.producers")
    else:
        writer = broker.writer(name="w")
        writer.send(JOBS.of(run), b"k", b"v", partition=1)
        writer.close()
        reader = broker.reader([JOBS.of(run)], consumer_group=f"{run}.producers")
        assert next(record.value for _ in range(120) for record in reader.poll(0.5)) == b"v"
        reader.close()
    broker.close()


def test_a_record_from_a_clock_that_is_hours_off_is_taken_and_kept_by_the_brokers_clock(kafka: str):
    broker = KafkaBroker(kafka)
    run = f"run-{uuid.uuid4().hex[:8]}"
    broker.create_topics(run, [JOBS], 1)
    producer = KafkaProducer(bootstrap_servers=kafka.split(","))
    now_ms = time.time() * 1000
    for shift_s in (-200_000, 7200):
        shifted_ms = int(now_ms + 1000 * shift_s)
        producer.send(JOBS.of(run), value=b"x", partition=0, timestamp_ms=shifted_ms).get(timeout=30)
    producer.close()
    reader = broker.reader([JOBS.of(run)])
    records = [record for _ in range(2) for record in reader.poll(20.0, max_records=1)]
    assert all(abs(record.timestamp_ms - now_ms) < 600_000 for record in records)
    assert len(records) == 2
    reader.close()
    broker.close()
