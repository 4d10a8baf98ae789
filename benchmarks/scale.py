"""Measures how far the log and its roles carry: up to 64 producers that sample nothing, and all else real.

    python -m benchmarks.scale [--producers 4 16 64] [--brokers 1 3] [--answer-tokens 1000] [--tokens-per-s 4000]
                               [--verifiers 1] [--seconds 30] [--out FILE.json]

Producers are real but for vLLM (benchmarks/stand_in.py), each a process forked from one; each gives `--tokens-per-s`, or as
many as the rest can take (`1e9`). Brokers are Apache Kafka with a partition a producer, at least 4; with three every record has three
copies. Allocator and verifiers (grader `math`) are as ever, the learner reads, ends groups and publishes as ever, and its
gradient is left out (benchmarks/scale_roles.py). Answers have lognormal lengths, of tokens of five characters.

A case that comes to no steady state goes on until SIGTERM ends it; the cases before it are in FILE.json.

All of it shares one machine, so rollouts/s say when that is full. What carries over to others is CPU time per rollout by
role, from the operating system, between two updates of the steady state, and bytes per rollout by topic.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.pipeline import cpu_seconds
from benchmarks.results import as_line, exit_on_sigterm, load, machine, write_rows
from infra.placement import Placement, WorkerSpec
from infra.supervisor import Supervisor
from localkafka.local import LocalKafka
from stream.config import Config
from stream.config import load as load_config
from stream.console import make_console
from stream.kafka import KafkaBroker
from stream.lag import consumer_lag
from stream.messages import Heartbeat, Update
from stream.snapshot import decode_or_none
from stream.topics import HEARTBEATS, TOPICS, UPDATES, topic_of

RUN = "scale"
SLOTS = 32
"""Sequences that a producer samples side by side: few, so that a steady state comes soon."""
LEAST_UPDATE = 480
PROMPT_CHARACTERS = 120
NUM_WORDS = 4000
PRINTABLE = "".join(map(chr, range(33, 127)))
RECIPE = """
run = {{ name = "{run}", dir = "{folder}", model = "{folder}/model", num_updates = 1000000, rollouts_per_update = {update} }}
broker = {{ bootstrap_servers = "{servers}", partitions = {partitions} }}
prompts = {{ source = "{folder}/prompts.jsonl", num_prompts = {prompts}, num_heldout = 0, grader = "math" }}
sampling = {{ max_tokens = {most} }}
producer = {{ max_model_len = {longest}, max_num_seqs = {slots} }}
evaluator = {{ enabled = false }}
learner = {{ publish_dtype = "float32" }}
"""


@dataclass(frozen=True)
class Case:
    """One world to measure."""

    producers: int
    brokers: int
    verifiers: int
    answer_tokens: int
    tokens_per_s: float
    """Of each producer."""

    @property
    def offered_per_s(self) -> float:
        """Rollouts per second that the producers can give."""
        return self.producers * self.tokens_per_s / self.answer_tokens

    @property
    def turn_s(self) -> float:
        """Seconds that a rollout takes in the mean."""
        return self.answer_tokens * SLOTS / self.tokens_per_s


@dataclass(frozen=True)
class Found:
    """The steady state of a case."""

    seconds: float
    num_rollouts: int
    rollouts_per_s: float
    cpu_ms: dict[str, float]
    """By role, per rollout."""
    busy_cores: float
    kib: dict[str, float]
    """By topic, per rollout, one copy."""
    lag: dict[str, list[int]]
    """Records that a consumer group, or the learner, has not finished: at the start of the steady state, its middle, its end."""


def write_task(folder: Path, num_prompts: int) -> None:
    """A tokenizer of characters and words, and problems whose answers are numbers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = sorted({" " + "".join(rng.choice(letters, rng.integers(3, 6))) for _ in range(NUM_WORDS)})
    tokens = {token: number for number, token in enumerate(["<pad>", "<eos>", " ", *PRINTABLE, *words])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    model = folder / "model"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(model)
    (model / "config.json").write_text('{"model_type": "llama"}')
    with (folder / "prompts.jsonl").open("w") as file:
        for number in range(num_prompts):
            a, b = number * 7919 % 9973, number
            question = f"Problem {number}. How much is {a} plus {b}?".ljust(PROMPT_CHARACTERS, ".")
            file.write(json.dumps({"question": question, "answer": str(a + b)}) + "\n")


def write_recipe(case: Case, folder: Path, servers: str) -> Path:
    """The recipe of a case."""
    update = max(LEAST_UPDATE, case.producers * SLOTS)
    most = 4 * case.answer_tokens
    write_task(folder, 4 * update)
    text = RECIPE.format(
        run=RUN, folder=folder, servers=servers, update=update, prompts=4 * update, most=most, slots=SLOTS,
        longest=most + 2 * PROMPT_CHARACTERS, partitions=max(4, case.producers),
    )  # fmt: skip
    (folder / "recipe.toml").write_text(text)
    return folder / "recipe.toml"


def specs(case: Case, config: Config, recipe: Path) -> list[WorkerSpec]:
    """All workers."""
    placement = Placement(config, recipe, [])
    ours = {
        "producer": ("producers", str(case.producers), str(recipe), f"--tokens-per-s={case.tokens_per_s}",
                     f"--answer-tokens={case.answer_tokens}", "--lengths=lognormal"),
        "learner": ("learner", str(recipe)),
    }  # fmt: skip
    made = [placement.spec("allocator", 0)] + [placement.spec("verifier", i) for i in range(case.verifiers)]
    for role, arguments in ours.items():
        like = placement.spec(role, 0)
        command = (sys.executable, "-m", "benchmarks.scale_roles", *arguments)
        made.append(WorkerSpec(role, 0, command, like.environment, like.log))
    return made


@dataclass(frozen=True)
class Mark:
    """A moment of a run."""

    at_s: float
    rollouts: int
    cpu_s: dict[str, float]
    log_bytes: dict[str, int]
    lag: dict[str, int]


class World:
    """A case that runs."""

    def __init__(self, case: Case, folder: Path, stack: ExitStack) -> None:
        self._case, self._kafka = case, folder / "kafka"
        servers = stack.enter_context(LocalKafka(self._kafka, case.brokers)).bootstrap_servers
        recipe = write_recipe(case, folder, servers)
        config = load_config(recipe, [])
        self._broker = KafkaBroker(servers)
        stack.callback(self._broker.close)
        self._broker.create_topics(RUN, TOPICS, config.broker.partitions)
        self._reader = self._broker.reader([topic.of(RUN) for topic in (UPDATES, HEARTBEATS)])
        stack.callback(self._reader.close)
        self._supervisor = Supervisor(config.up, print)
        for worker in specs(case, config, recipe):
            self._supervisor.add(worker)
        stack.callback(self._supervisor.stop, 20)
        self.heartbeats: dict[str, Heartbeat] = {}
        self.rollouts = 0

    @property
    def producers_running(self) -> bool:
        """Whether each has its engine."""
        states = [beat.state for name, beat in self.heartbeats.items() if name.startswith("producer")]
        return states.count("running") == self._case.producers

    def next_update(self) -> Mark:
        """Wait for an update, and look at everything."""
        before = self.rollouts
        while self.rollouts == before:
            self.step()
        lag = {"learner": int(self.heartbeats["learner-0"].metrics.get("consumer/lag", 0))}
        lag |= consumer_lag(self._broker, RUN)
        return Mark(time.monotonic(), self.rollouts, cpu_seconds(), self._log_bytes(), lag)

    def step(self) -> None:
        """Read what has come."""
        self._supervisor.step()
        if self._supervisor.failure:
            raise RuntimeError(self._supervisor.failure)
        for record in self._reader.poll(0.2):
            match decode_or_none(record, topic_of(record.topic)):
                case Heartbeat() as heartbeat:
                    self.heartbeats[heartbeat.worker] = heartbeat
                case Update() as update:
                    self.rollouts = int(update.metrics.get("learner/num_rollouts", 0))

    def _log_bytes(self) -> dict[str, int]:
        """Of all copies, by topic."""
        return {
            topic.name: sum(f.stat().st_size for f in self._kafka.glob(f"node-*/**/{topic.of(RUN)}-*/*.log"))
            for topic in TOPICS
        }


def measure(case: Case, seconds: float) -> Found:
    """Run a case until it is steady, and then for so long; says how far it is."""
    begin_s = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - begin_s:6.1f} s: {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="scale") as folder, ExitStack() as stack:
        world = World(case, Path(folder), stack)
        say("brokers answer")
        while not world.producers_running:
            world.step()
        say("all producers run")
        settled = time.monotonic() + max(10.0, 2 * case.turn_s)
        while time.monotonic() < settled or not world.rollouts:
            world.step()
        say(f"settled, {world.rollouts} rollouts so far")
        marks = [world.next_update()]
        while len(marks) < 3 or marks[-1].at_s - marks[0].at_s < seconds:
            marks.append(world.next_update())
        say(f"measured, {world.rollouts} rollouts so far")
    say("ended")
    return found_between(marks, case.brokers)


def found_between(marks: Sequence[Mark], copies: int) -> Found:
    """What was used between the first mark and the last."""
    begin, end = marks[0], marks[-1]
    seconds, num = end.at_s - begin.at_s, end.rollouts - begin.rollouts
    used = {role: cpu_s - begin.cpu_s.get(role, 0.0) for role, cpu_s in end.cpu_s.items()}
    grown = {name: size - begin.log_bytes[name] for name, size in end.log_bytes.items()}
    return Found(
        seconds=round(seconds, 1),
        num_rollouts=num,
        rollouts_per_s=round(num / seconds, 1),
        cpu_ms={role: round(1000 * cpu_s / num, 3) for role, cpu_s in sorted(used.items())},
        busy_cores=round(sum(used.values()) / seconds, 2),
        kib={name: round(size / copies / num / 1024, 3) for name, size in grown.items() if size > 0},
        lag={name: [m.lag[name] for m in (begin, marks[len(marks) // 2], end)] for name in end.lag},
    )


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table."""
    roles = ("producer", "kafka", "verifier", "allocator", "learner")
    table = Table(title="CPU ms per rollout by role")
    for column in ("producers", "brokers", "tokens", "offered/s", "rollouts/s", "KiB each", "cores", *roles, "lag"):
        table.add_column(column, justify="right")
    for row in rows:
        case, found = Case(**row["case"]), row["found"]
        cells = (case.producers, case.brokers, case.answer_tokens, f"{case.offered_per_s:.0f}", found["rollouts_per_s"],
                 f"{sum(found['kib'].values()):.1f}", found["busy_cores"])  # fmt: skip
        costs = [f"{found['cpu_ms'].get(role, 0):.2f}" for role in roles]
        table.add_row(*map(str, cells), *costs, ", ".join(f"{name} {lag[-1]}" for name, lag in found["lag"].items()))
    make_console().print(table)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--producers", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--brokers", type=int, nargs="+", default=[1, 3], choices=(1, 3))
    parser.add_argument("--answer-tokens", type=int, nargs="+", default=[1000])
    parser.add_argument("--tokens-per-s", type=float, nargs="+", default=[4000.0], help="of each producer")
    parser.add_argument("--verifiers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the steady state, at least three updates")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    exit_on_sigterm()
    facts = machine("kafka-python")
    print(as_line(facts))
    rows = []
    for tokens, rate, brokers, producers in product(
        options.answer_tokens, options.tokens_per_s, options.brokers, options.producers
    ):
        case = Case(producers, brokers, options.verifiers, tokens, rate)
        rows.append({"case": asdict(case), "load": load(), "found": asdict(measure(case, options.seconds))})
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            write_rows(options.out, facts, "rows", rows)
    show(rows)


if __name__ == "__main__":
    main()
