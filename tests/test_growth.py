"""100,000 records pass through the loops of learner, evaluator, producer and tracker, and nothing is kept of them."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from factories import make_job, make_prompt, make_verdict
from growth import compared, container_sizes, growing
from producer_bench import make_completion
from tiny_models import make_tokenizer

import learner.role
from evaluator.role import Evaluator
from learner.overlong import KEEP
from learner.role import Learner
from producers.role import Producer
from stream.config import Config
from stream.memory import MemoryBroker
from stream.messages import Policy, Update
from stream.run_topics import RunTopics
from stream.topics import DEADLETTERS, JOBS, POLICIES, TOPICS, TRAJECTORIES, UPDATES, VERDICTS
from stream.weights import WEIGHTS_FILE, State, digest_of, write_state
from stream.worker import MAX_RECORDS
from tracker.role import Tracker
from tracker.sinks import Sinks

NUM_RECORDS = 100_000
GROUP = 8


@pytest.fixture
def topics() -> RunTopics:
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 4)
    return RunTopics(broker, "r", "role-0")


def send_verdicts(topics: RunTopics) -> None:
    """Groups of training, complete one after the other."""
    for group in range(NUM_RECORDS // GROUP):
        job = make_job(f"p{group % 100}.{group // 100:04d}", GROUP)
        for rollout in range(GROUP):
            verdict = make_verdict(rollout_index=rollout, reward=float(rollout % 2), job=job)
            topics.send_of_group(VERDICTS, job.group_id, verdict)


def num_committed(topics: RunTopics, consumer_group: str) -> int:
    return sum(topics.broker.group_offsets(f"r.{consumer_group}").values())


def test_a_container_that_keeps_every_record_is_found() -> None:
    half, whole = {"seen": 500, "open": 40, "nothing": 0}, {"seen": 1000, "open": 55, "nothing": 5}
    assert compared(half, whole) == {"seen": (500, 1000)}
    role = SimpleNamespace(groups={"a": [1, 2], "b": [3]}, part=SimpleNamespace(queue=[1]))
    assert container_sizes(role) == {"groups": 5, "part.queue": 1}


# -- learner ----------------------------------------------------------------------------------------------------------


class FakeTrainer:
    """Trains nothing; its weights are one number."""

    def __init__(self) -> None:
        self.overlong = KEEP
        self.model = SimpleNamespace(config=SimpleNamespace(save_pretrained=lambda folder: None))

    def update(self, groups: object, version: int, step: int) -> dict[str, float]:
        return {"learner/loss": 0.0}

    def weights(self) -> dict[str, torch.Tensor]:
        return {"weight": torch.zeros(1)}

    def each_weight(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield "weight", torch.rand(1)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        return {"weight": torch.zeros(1)}, {}


def test_the_learner_keeps_nothing_of_groups_that_have_ended(
    topics: RunTopics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_update = 100
    num_updates = NUM_RECORDS // GROUP // per_update
    config = Config(
        run={"name": "r", "dir": tmp_path, "num_updates": num_updates + 1, "prompts_per_update": per_update},
        learner={"objective": "tis"},
        evaluator={"enabled": False},
    )
    monkeypatch.setattr(learner.role, "make_trainer", lambda config: FakeTrainer())
    send_verdicts(topics)
    role = Learner(config, topics, tokenizer=None)
    grown = growing(role, topics, role.reader, NUM_RECORDS, lambda: role.metrics()["learner/step"] == num_updates)
    # How far the verdicts are ahead of the updates is a matter of the machine's load; it has a limit.
    _, most_ready = grown.pop("_assembler.ready", (0, 0))
    assert most_ready <= learner.role.MAX_READY_UPDATES * per_update + MAX_RECORDS
    # So is how many updates wait while one is published; it is over at the end.
    for name in ("_waiting", "_under_way"):
        grown.pop(f"_publications.{name}", None)
    assert role._publications.settled
    # A second verdict of a rollout may come at any later time: a number a prompt says which groups have ended (law 2).
    assert set(grown) <= {"_assembler.seen.counts"}
    assert len(role._assembler.seen) == NUM_RECORDS // GROUP
    assert (len(role._assembler.seen.counts), role._assembler.seen.apart) == (100, set())
    assert role._assembler.pending_verdicts() == []
    assert sum(len(update.groups) for update in topics.read_all(UPDATES)) == NUM_RECORDS // GROUP


# -- evaluator --------------------------------------------------------------------------------------------------------


def test_the_evaluator_keeps_no_verdict_of_training(topics: RunTopics) -> None:
    config = Config(run={"name": "r"}, evaluator={"pool": False, "base_samples": 0})
    prompts = [make_prompt("q1"), make_prompt("q2")]
    token_ids = {prompt.prompt_id: np.array([1, 2], np.int32) for prompt in prompts}
    role = Evaluator(config, topics, {"heldout": prompts}, {"heldout": token_ids})
    topics.send(POLICIES, "policy", Policy(version=0, uri="", digest="", step=0))
    role.work()
    (scoreboard,) = role._under_way.values()  # an evaluation is under way, and stays so
    send_verdicts(topics)
    before = container_sizes(role)
    grown = growing(
        role, topics, role.reader, NUM_RECORDS, lambda: sum(role.reader.positions().values()) == NUM_RECORDS
    )
    assert grown == {}
    assert container_sizes(role) == before
    assert scoreboard.verdicts == {}
    assert list(role._under_way.values()) == [scoreboard]


# -- producer ---------------------------------------------------------------------------------------------------------


class InstantEngine:
    """Every rollout is there at once."""

    patchable = True

    async def generate(self, prompt_token_ids: object, **settings: Any) -> Any:
        return make_completion()

    async def swap(self, folder: str, version: int) -> float:
        return 0.0

    def require_alive(self) -> None:
        pass


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_the_producer_keeps_nothing_of_what_it_has_sampled(
    topics: RunTopics, tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    make_tokenizer(tmp_path)
    with (tmp_path / WEIGHTS_FILE).open("wb") as file:
        write_state(State(), file)
    config = Config(run={"name": "r", "model": str(tmp_path)})
    topics.send(POLICIES, "policy", Policy(version=0, uri=str(tmp_path), digest=digest_of(tmp_path), step=0))
    num_jobs = NUM_RECORDS // GROUP
    for number in range(num_jobs):
        topics.send(JOBS, f"{number}", make_job(f"p.{number:05d}", GROUP), partition=number % 4)
    role = Producer(config, topics, loop, InstantEngine())  # type: ignore[arg-type]
    reader = topics.reader(JOBS, consumer_group="producers")
    grown = growing(
        role, topics, reader, num_jobs, lambda: role.metrics()["producer/rollouts"] == NUM_RECORDS, commits=True
    )
    # What is in flight is as much as one poll brings, however late the engine's thread gets its turn; it is over at the end.
    in_flight = [grown.pop(name, (0, 0)) for name in ("_sampling", "_finished")]
    assert max(size for _, size in in_flight) <= config.producer.max_num_seqs + 500 * GROUP
    assert grown == {}
    assert sum(topics.broker.end_offsets(TRAJECTORIES.of("r")).values()) == NUM_RECORDS
    assert num_committed(topics, "producers") == num_jobs
    assert (role._sampling, list(role._finished), role._held) == ({}, [], [])
    assert role.metrics()["producer/in_flight"] == 0


# -- tracker ----------------------------------------------------------------------------------------------------------


def test_the_tracker_keeps_nothing_of_what_it_has_sent(topics: RunTopics) -> None:
    for step in range(1, NUM_RECORDS + 1):
        update = Update(step=step, version=step, parent_version=step - 1, groups=(), metrics={"learner/loss": 0.1})
        topics.send(UPDATES, "update", update)
    config = Config(run={"name": "r"})
    role = Tracker(config, topics, Sinks(config))
    grown = growing(
        role, topics, role.reader, NUM_RECORDS, lambda: role.metrics()["tracker/step"] == NUM_RECORDS, commits=True
    )
    assert grown == {}
    assert num_committed(topics, "tracker") == NUM_RECORDS
    assert topics.read_all(DEADLETTERS) == []
