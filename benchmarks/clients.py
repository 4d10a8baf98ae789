"""Measures what a Kafka client costs a role: kafka-python as `stream.kafka` uses it, beside confluent-kafka (librdkafka).

    python -m benchmarks.clients [--rate 540] [--seconds 20] [--rounds 3] [--confluent FOLDER] [--out FILE.json]

A process does what a verifier does, without the grading: every 100 ms it polls a topic in a consumer group, sends each message on
to another topic, bundled as `stream.bundles` has it, acknowledged by all replicas, and once a second commits. The messages
come at a steady rate from a process that is not measured. Measured is the CPU time of the process over the seconds after its
first message, with its client's threads; a rate of 0 shows what waiting costs. Clients take turns, a figure is the median of the
rounds. `--confluent FOLDER` is where confluent-kafka lies (pip install --target FOLDER confluent-kafka): Rucksack does not need it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from benchmarks.results import as_line, load, machine, write_rows
from localkafka.local import LocalKafka
from stream.bundles import Bundle, bundle, unbundle
from stream.console import make_console
from stream.kafka import KafkaBroker
from stream.topics import JOBS, VERDICTS
from stream.worker import POLL_S

CLIENTS = ("kafka-python", "confluent-kafka")
NUM_PARTITIONS = 2
Step = Callable[[], int]
"""Polls once, sends on what has come; returns the number of messages."""


def with_kafka_python(servers: str, source: str, target: str) -> tuple[Step, Callable[[], object]]:
    """A step and a commit."""
    broker = KafkaBroker(servers)
    reader, writer = broker.reader([source], consumer_group=f"{source}-python"), broker.writer(name="clients")
    offsets: dict[tuple[str, int], int] = {}

    def step() -> int:
        records = reader.poll(POLL_S)
        for record in records:
            writer.send(target, record.key, record.value, partition=record.partition, bundled=True)
            offsets[record.topic, record.partition] = record.offset + 1
        writer.push()
        return len(records)

    return step, lambda: reader.commit(offsets)


def with_confluent(servers: str, source: str, target: str) -> tuple[Step, Callable[[], object]]:
    """The same with librdkafka, with the same settings as far as it has them."""
    from confluent_kafka import Consumer, Producer, TopicPartition  # type: ignore[import-not-found]

    consumer = Consumer({
        "bootstrap.servers": servers, "group.id": f"{source}-confluent", "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "isolation.level": "read_committed", "fetch.wait.max.ms": 50,
        "max.partition.fetch.bytes": 8 << 20,
    })  # fmt: skip
    producer = Producer({
        "bootstrap.servers": servers, "acks": "all", "enable.idempotence": True, "linger.ms": 5, "batch.size": 262_144,
    })  # fmt: skip
    consumer.subscribe([source])
    offsets: dict[int, int] = {}

    def step() -> int:
        bundles: dict[int, Bundle] = {}
        num_messages = 0

        def produce(partition: int) -> None:
            waiting = bundles.pop(partition)
            producer.produce(target, bundle(waiting.messages), waiting.key, partition)

        for record in consumer.consume(500, POLL_S):
            if record.error() is None:
                for message in unbundle(record.value()):
                    waiting = bundles.setdefault(record.partition(), Bundle(record.key()))
                    waiting.add(message, None)
                    num_messages += 1
                    if waiting.full:
                        produce(record.partition())
                offsets[record.partition()] = record.offset() + 1
        for partition in list(bundles):
            produce(partition)
        producer.poll(0)
        return num_messages

    def commit() -> None:
        consumer.commit(offsets=[TopicPartition(source, *at) for at in offsets.items()], asynchronous=False)

    return step, commit


def measure(client: str, servers: str, source: str, target: str, seconds: float) -> dict[str, float]:
    """CPU seconds of this process over some seconds, and the messages sent on."""
    step, commit = (with_kafka_python if client == CLIENTS[0] else with_confluent)(servers, source, target)
    while not step():
        pass
    begin, cpu_s = time.monotonic(), time.process_time()
    num_messages, commit_at = 0, begin + 1
    while (now := time.monotonic()) < begin + seconds:
        num_messages += step()
        if now >= commit_at:
            commit()
            commit_at = now + 1
        time.sleep(max(0.0, POLL_S - (time.monotonic() - now)))  # a tick of the loop, however soon the poll returns
    return {"cpu_s": time.process_time() - cpu_s, "seconds": time.monotonic() - begin, "messages": num_messages}


def feed(servers: str, topic: str, rate: float, num_bytes: int, over: threading.Event) -> None:
    """Write messages at a steady rate, after a first one, until told to stop."""
    writer = KafkaBroker(servers).writer(name="feeder")
    value = msgspec.msgpack.encode([1, b"x" * num_bytes])
    writer.send(topic, b"key", value)
    writer.flush()
    sent, begin = 0, time.monotonic()
    while not over.wait(POLL_S):
        due = int(rate * (time.monotonic() - begin))
        for number in range(sent, due):
            writer.send(topic, b"key", value, partition=number // 8 % NUM_PARTITIONS, bundled=True)
        writer.push()
        sent = due
    writer.close()


def run_one(client: str, rate: float, servers: str, run: str, options: argparse.Namespace) -> dict[str, float]:
    """One round of one client, in a process of its own."""
    KafkaBroker(servers).create_topics(run, (JOBS, VERDICTS), NUM_PARTITIONS)
    over = threading.Event()
    feeder = threading.Thread(target=feed, args=(servers, JOBS.of(run), rate, options.bytes, over))
    feeder.start()
    command = [sys.executable, "-m", "benchmarks.clients", "--measure", client, servers, run, str(options.seconds)]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), options.confluent]))
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
        )
    finally:
        over.set()
        feeder.join()
    return dict(json.loads(done.stdout.splitlines()[-1]))


def summarize(client: str, rate: float, rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Medians: CPU ms of a second, and of a message."""
    return {
        "client": client,
        "messages_per_s": rate,
        "cpu_ms_per_s": statistics.median(1000 * r["cpu_s"] / r["seconds"] for r in rounds),
        "cpu_ms_per_message": statistics.median(1000 * r["cpu_s"] / max(r["messages"], 1) for r in rounds)
        if rate
        else None,
        "measured_messages_per_s": statistics.median(r["messages"] / r["seconds"] for r in rounds),
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rate", type=float, default=540.0, help="messages per second; default %(default)s, the demo's"
    )
    parser.add_argument("--bytes", type=int, default=500, help="of a message; default %(default)s")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a round; default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="of each client and rate; default %(default)s")
    parser.add_argument(
        "--confluent", metavar="FOLDER", help="where confluent-kafka lies; without it only kafka-python"
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--measure", nargs=4, metavar=("CLIENT", "SERVERS", "RUN", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        client, servers, run, seconds = options.measure
        print(json.dumps(measure(client, servers, JOBS.of(run), VERDICTS.of(run), float(seconds))))
        return
    console = make_console()
    facts = machine("kafka-python") | {"bytes": options.bytes, "seconds": options.seconds, "rounds": options.rounds}
    console.print(as_line(facts))
    clients = CLIENTS if options.confluent else CLIENTS[:1]
    rounds: dict[tuple[str, float], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        for number, rate, client in product(range(options.rounds), (0.0, options.rate), clients):
            run = f"{client}-{rate:.0f}-{number}"
            rounds.setdefault((client, rate), []).append(run_one(client, rate, kafka.bootstrap_servers, run, options))
    rows = [summarize(client, rate, found) for (client, rate), found in rounds.items()]
    table = Table("client", "messages/s", "CPU ms a second", "CPU ms a message")
    for row in rows:
        each = row["cpu_ms_per_message"]
        table.add_row(
            row["client"],
            f"{row['measured_messages_per_s']:.0f}",
            f"{row['cpu_ms_per_s']:.1f}",
            "" if each is None else f"{each:.3f}",
        )
    console.print(table)
    if options.out:
        write_rows(options.out, {**facts, "load": load()}, "clients", rows)


if __name__ == "__main__":
    main()
