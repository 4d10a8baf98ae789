"""Measures whether a role's memory stays flat: its resident size while half a million verdicts pass through its loop.

    python -m benchmarks.memory [--roles allocator learner ...] [--verdicts 500000] [--out FILE.json]

Each role runs in a process of its own, as `rucksack ROLE` runs it, on a broker inside that process that forgets a record
once the role has read it, so that what grows is the role's. The rest of the run is played: jobs are answered, groups
end, policies come. A row passes if the resident size at the end is less than 2 % above that at the half.
"""

import argparse
import asyncio
import gc
import importlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.table import Table

from benchmarks.results import machine
from stream.broker import Record
from stream.codec import decode, encode
from stream.config import Config, load
from stream.console import make_console
from stream.memory import MemoryBroker, MemoryReader
from stream.messages import GroupEnd, Job, Policy, Prompt, Sampling, Span, Timing, Trajectory, Update, Verdict
from stream.run_topics import RunTopics
from stream.topics import JOBS, POLICIES, TOPICS, TRAJECTORIES, UPDATES, VERDICTS, Topic

ROLES = ("allocator", "producer", "verifier", "learner", "evaluator", "tracker")
MOST_GROWTH = 0.02
NUM_SAMPLES = 20
BACKLOG = 2000
"""Records that wait for the role before more are made."""
TOKENS = np.arange(2, 8, dtype=np.int32)


class ForgetfulBroker(MemoryBroker):
    """Keeps records only until the one reader of their topic has read them."""

    def __init__(self, on_send: Callable[[str, bytes], None]) -> None:
        super().__init__()
        self.on_send = on_send
        self.ends: Counter[tuple[str, int]] = Counter()
        self.waiting: dict[str, deque[Record]] = {}

    def append(self, topic: str, key: bytes, value: bytes, partition: int | None) -> None:
        """Hand the record to the world, and to the reader of its topic if there is one."""
        chosen = partition or 0
        if topic in self.waiting:
            offset = self.ends[topic, chosen]
            self.ends[topic, chosen] += 1
            self.waiting[topic].append(Record(topic, chosen, offset, key, value, 0))
        self.on_send(topic, value)

    def reader(self, topics: Sequence[str], **options: Any) -> "ForgetfulReader":
        """A reader of what comes from now on."""
        for topic in topics:
            self.waiting.setdefault(topic, deque())
        return ForgetfulReader(self, topics, options.get("consumer_group"), from_end=True)


class ForgetfulReader(MemoryReader):
    """Takes the records out of the broker."""

    _broker: ForgetfulBroker

    def poll(self, timeout_s: float, max_records: int = 500) -> list[Record]:
        """The next records, at once."""
        records: list[Record] = []
        for topic in {} if self._paused else dict.fromkeys(topic for topic, _ in self._next):
            waiting = self._broker.waiting[topic]
            while waiting and len(records) < max_records:
                record = waiting.popleft()
                self._next[record.topic, record.partition] = record.offset + 1
                records.append(record)
        if not records:
            time.sleep(min(timeout_s, 0.001))
        return records


class World(threading.Event):
    """The rest of the run, and the stop signal: asked by the loop at every turn, it feeds the role and takes samples."""

    def __init__(self, role: str, config: Config, num_verdicts: int) -> None:
        super().__init__()
        self.role, self.config, self.num_verdicts = role, config, num_verdicts
        self.broker = ForgetfulBroker(self.note)
        self.broker.create_topics(config.run.name, TOPICS, 1)
        self.topics = RunTopics(self.broker, config.run.name, f"{role}-0")
        self.num_fed = 0
        self.samples: list[tuple[int, float]] = []
        self.open: Counter[str] = Counter()
        self.step = 0
        self.source = getattr(self, f"feed_{role}")()
        self.process = psutil.Process()

    def is_set(self) -> bool:
        """Whether all verdicts have passed; feeds more of them if the role has caught up."""
        if sum(map(len, self.broker.waiting.values())) < BACKLOG and not super().is_set():
            for _ in range(50):
                next(self.source, None)
        if self.num_fed >= len(self.samples) * self.num_verdicts / NUM_SAMPLES:
            gc.collect()
            self.samples.append((self.num_fed, self.process.memory_info().rss / 2**20))
        if self.num_fed >= self.num_verdicts:
            self.set()
        return super().is_set()

    def send(self, topic: Topic, message: object) -> None:
        """Append to the log as another role."""
        self.broker.append(topic.of(self.config.run.name), b"k", encode(message), None)

    def verdict(self, job: Job, index: int, reward: float = 1.0) -> None:
        """A rollout of a job is sampled and graded."""
        self.num_fed += 1
        self.send(
            VERDICTS, Verdict(trajectory=trajectory(job, index), outcome="correct", reward=reward, grader="string")
        )

    def note(self, topic: str, value: bytes) -> None:
        """Answer a job of the allocator or the evaluator, and end the group."""
        if not topic.endswith(".jobs") or self.role not in ("allocator", "evaluator"):
            return
        job = decode(value, Job)
        for index in range(job.start, job.stop):
            self.verdict(job, index, float(index % 2))
            self.open[job.group_id] += 1
        if self.open[job.group_id] >= job.num_rollouts:
            del self.open[job.group_id]
            if self.role == "allocator":
                self.end(job)

    def end(self, job: Job) -> None:
        """The learner has trained a group."""
        self.step += 1
        size = job.num_rollouts
        group = GroupEnd(
            group_id=job.group_id, ending="trained", num_rollouts=size, num_graded=size, reward_sum=1.0, staleness=0
        )
        self.send(UPDATES, Update(step=self.step, version=self.step, parent_version=self.step - 1, groups=(group,)))

    # -- what each role is fed ----------------------------------------------------------------------------------------

    def jobs(self) -> Iterator[Job]:
        """Groups of training, one after the other."""
        number = 0
        while True:
            prompt = Prompt(
                prompt_id=f"p{number % 600}", text="1+1=", answer="2", grader="string", task="sum", level="easy"
            )
            yield job_of(f"p{number % 600}.{number // 600:04d}", prompt, 8)
            number += 1

    def feed_allocator(self) -> Iterator[None]:
        """Evaluations of other prompts; its own verdicts answer its jobs."""
        for job in self.jobs():
            self.verdict(job_of(f"eval.{job.group_id}", job.prompt, 1, "eval:heldout"), 0)
            yield

    def feed_evaluator(self) -> Iterator[None]:
        """Verdicts of training, and a policy now and then."""
        for number, job in enumerate(self.jobs()):
            for index in range(8):
                self.verdict(job, index)
            if number % 600 == 0:
                self.send(POLICIES, Policy(version=number // 600, uri="", digest="", step=20 * number // 600))
            yield

    def feed_learner(self) -> Iterator[None]:
        """Groups, one of twenty with a gradient."""
        for number, job in enumerate(self.jobs()):
            for index in range(8):
                self.verdict(job, index, float(index % 2) if number % 20 == 0 else 1.0)
            yield

    def feed_verifier(self) -> Iterator[None]:
        """Trajectories."""
        for job in self.jobs():
            for index in range(8):
                self.num_fed += 1
                self.send(TRAJECTORIES, trajectory(job, index))
            yield

    def feed_producer(self) -> Iterator[None]:
        """Jobs."""
        for job in self.jobs():
            self.num_fed += 8
            self.send(JOBS, job)
            yield

    def feed_tracker(self) -> Iterator[None]:
        """Updates of 480 verdicts each."""
        for number, _ in enumerate(self.jobs(), 1):
            metrics = {f"learner/figure{column}/mean": float(number) for column in range(40)}
            self.num_fed += 480
            self.send(
                UPDATES, Update(step=number, version=number, parent_version=number - 1, groups=(), metrics=metrics)
            )
            yield


def job_of(group_id: str, prompt: Prompt, size: int, purpose: str = "train") -> Job:
    """One job that asks for a whole group."""
    return Job(
        group_id=group_id, start=0, stop=size, num_rollouts=size, prompt=prompt,
        prompt_token_ids=TOKENS, sampling=Sampling(max_tokens=16), purpose=purpose,
    )  # fmt: skip


def trajectory(job: Job, index: int) -> Trajectory:
    """A rollout of six tokens."""
    return Trajectory(
        job=job, rollout_index=index, trajectory_id=f"{job.group_id}/{index}", token_ids=TOKENS,
        behavior_logprobs=np.full(TOKENS.size, -0.5, dtype=np.float32),
        spans=(Span(policy_version=0, start=0, stop=TOKENS.size),), text="2", finish_reason="stop",
        timing=Timing(queued_s=0.0, generated_s=0.1), producer="producer-0",
    )  # fmt: skip


class InstantEngine:
    """Samples at once; nothing else than the producer's own memory is measured."""

    patchable = True

    async def generate(self, _prompt: Any, **_settings: Any) -> Any:
        """Six tokens."""
        from producers.engine import Completion

        return Completion(
            token_ids=TOKENS, behavior_logprobs=np.full(TOKENS.size, -0.5, dtype=np.float32),
            spans=(Span(policy_version=0, start=0, stop=TOKENS.size),), finish_reason="stop", queued_s=0.0, generated_s=0.1,
        )  # fmt: skip

    async def swap(self, _folder: str, _version: int) -> float:
        """Nothing to load."""
        return 0.0

    def require_alive(self) -> None:
        """It is."""


def run_role(role: str, config: Config, world: World) -> None:
    """The role as its process runs it, until the world stops it."""
    if role == "producer":
        from producers import role as producers_role
        from stream.weights import digest_of
        from stream.worker import run_loop

        policy = Policy(version=0, uri=config.run.model, digest=digest_of(config.run.model), step=0)
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        producer = producers_role.Producer(config, world.topics, loop, InstantEngine())  # type: ignore[arg-type]
        world.send(POLICIES, policy)
        run_loop(producer, world.topics, world.topics.reader(JOBS, consumer_group="producers"), world, commits=True)
        return
    if role != "learner":
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # as `python -m ROLE` does
    module = importlib.import_module(f"{role}.role")
    module.run(config, world.topics, world)


def measure(role: str, num_verdicts: int) -> dict[str, Any]:
    """One role in this process."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--run.dir", folder, "--run.num_updates", "1000000", "--tracking.to", "jsonl"]
        arguments += ["--run.max_staleness", "8", "--evaluator.await_base", "false", "--run.name", "memory"]
        config = load("configs/demo.toml", arguments)
        config.run.path.mkdir(parents=True)
        world = World(role, config, num_verdicts)
        began = time.monotonic()
        run_role(role, config, world)
    half = next(size for fed, size in world.samples if fed >= num_verdicts / 2)
    end = world.samples[-1][1]
    return {
        "role": role, "verdicts": world.num_fed, "seconds": time.monotonic() - began, "start_mib": world.samples[0][1],
        "half_mib": half, "end_mib": end, "growth": end / half - 1, "samples": world.samples,
    }  # fmt: skip


def main() -> int:
    """Measure the roles one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=ROLES)
    parser.add_argument("--verdicts", type=int, default=500_000)
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    parser.add_argument("--here", choices=ROLES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.here, options.verdicts)))
        return 0
    rows = []
    for role in options.roles:
        command = [sys.executable, "-m", "benchmarks.memory", "--here", role, "--verdicts", str(options.verdicts)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{role}: {rows[-1]['half_mib']:.1f} -> {rows[-1]['end_mib']:.1f} MiB", file=sys.stderr)
    table = Table(title=f"Resident memory over {options.verdicts:,} verdicts")
    for column in (
        "role",
        "at the start, MiB",
        "at the half, MiB",
        "at the end, MiB",
        "growth of the second half",
        "s",
    ):
        table.add_column(column, justify="left" if column == "role" else "right")
    for row in rows:
        sizes = (f"{row[key]:.1f}" for key in ("start_mib", "half_mib", "end_mib"))
        table.add_row(row["role"], *sizes, f"{row['growth']:+.2%}", f"{row['seconds']:.0f}")
    make_console().print(table)
    if options.out:
        options.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1), encoding="utf-8")
    grown = [row["role"] for row in rows if row["growth"] >= MOST_GROWTH]
    if grown:
        print(f"memory grows by {MOST_GROWTH:.0%} or more: {', '.join(grown)}", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
