"""The producer against a memory broker and an engine that the tests finish by hand."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from factories import make_job

from producers import role
from producers.engine import Completion, EngineDied, Refused
from producers.role import MAX_SLICE, Producer
from stream.codec import SCHEMA_VERSION, decode, encode
from stream.config import Config
from stream.errors import UserError
from stream.memory import MemoryBroker, MemoryWriter
from stream.messages import DeadLetter, Job, Policy, Sampling, Span, Trajectory
from stream.run_topics import RunTopics
from stream.topics import DEADLETTERS, JOBS, POLICIES, TOPICS, TRAJECTORIES, partition_of
from stream.watermark import Watermark
from stream.weights import WEIGHTS_FILE, digest_of
from stream.worker import hand_over, run_loop


class HandEngine:
    """Rollouts and swaps end when the test says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.requests: dict[str, asyncio.Future[Completion]] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.prompts: dict[str, list[int]] = {}
        self.swaps: list[tuple[str, int]] = []
        self.swap_error: Exception | None = None
        self.swap_gate = asyncio.Event()
        self.swap_gate.set()
        self.alive = True

    async def generate(self, prompt_token_ids: np.ndarray, *, request_id: str, **settings: Any) -> Completion:
        name = request_id.rpartition("/")[0]
        self.requests[name] = self.loop.create_future()
        self.settings[name], self.prompts[name] = settings, prompt_token_ids.tolist()
        return await self.requests[name]

    async def swap(self, folder: str, version: int) -> float:
        self.swaps.append((folder, version))
        await self.swap_gate.wait()
        if self.swap_error is not None:
            raise self.swap_error
        return 0.25

    def require_alive(self) -> None:
        if not self.alive:
            raise EngineDied("killed by the test")


class HeldWriter(MemoryWriter):
    """Acknowledges trajectories and dead letters when the test says so."""

    held: list[Callable[[], None]]

    def send(
        self, topic: str, key: bytes, value: bytes, *, on_ack: Callable[[], None] | None = None, **at: Any
    ) -> None:
        super().send(topic, key, value, **at)
        if on_ack is not None:
            self.held.append(on_ack)


class Bench:
    """A producer and the rest of the world, driven step by step."""

    def __init__(self, model_folder: Path, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.folder = folder
        self.broker = MemoryBroker()
        self.broker.create_topics("r", TOPICS, 2)
        self.writer = HeldWriter(self.broker, "producer-0", None)
        self.writer.held = []
        self.world = RunTopics(self.broker, "r", "world")
        self.topics = RunTopics(self.broker, "r", "producer-0", self.writer)
        self.config = Config(
            run={"name": "r", "model": str(model_folder)}, producer={"max_model_len": 64, "max_num_seqs": 6}
        )
        self.loop, self.engine = loop, HandEngine(loop)
        self.role = Producer(self.config, self.topics, loop, self.engine)
        self.jobs = self.topics.reader(JOBS, consumer_group="producers")
        self.watermark = Watermark()

    # -- the world ----------------------------------------------------------------------------------------------------

    def publish(self, version: int, *, digest: str | None = None, folder: str | None = None) -> Path:
        weights = self.folder / f"v{version}"
        weights.mkdir()
        (weights / WEIGHTS_FILE).write_bytes(bytes([version]))
        uri = folder or str(weights)
        policy = Policy(version=version, uri=uri, digest=digest or digest_of(weights), step=version)
        self.world.send(POLICIES, "policy", policy)
        return weights

    def ask(self, job: Job, partition: int = 0) -> None:
        self.world.send(JOBS, f"{job.group_id}/{job.start}", job, partition=partition)

    def ask_raw(self, value: bytes) -> None:
        self.world.writer.send(JOBS.of("r"), b"k", value, partition=0)

    # -- the producer -------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """One round of the worker loop."""
        if self.role.wants_input:
            self.jobs.resume()
        else:
            self.jobs.pause()
        for record in self.jobs.poll(0):
            hand_over(self.role, self.topics, record, self.watermark)
        self.role.work()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "the producer does not get there"
            self.turn()
            self.barrier()

    def barrier(self) -> None:
        """Let the event loop do all that it has to do now."""

        async def rest() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(rest(), self.loop).result(60)

    def serve(self, version: int = 0) -> None:
        self.publish(version)
        self.until(lambda: self.version == version)

    @property
    def version(self) -> float:
        return self.role.metrics()["producer/policy_version"]

    def finish(self, name: str, outcome: Completion | Exception | None = None) -> None:
        def settle() -> None:
            if isinstance(outcome, Exception):
                self.engine.requests[name].set_exception(outcome)
            else:
                self.engine.requests[name].set_result(outcome or make_rollout())

        self.loop.call_soon_threadsafe(settle)
        self.barrier()
        self.turn()

    def acknowledge(self) -> None:
        while self.writer.held:
            self.writer.held.pop(0)()

    def progress(self) -> int:
        """Offset of the first partition that a crash would start from."""
        return self.watermark.offsets().get((JOBS.of("r"), 0), 0)

    def trajectories(self) -> list[Trajectory]:
        return self.world.read_all(TRAJECTORIES)

    def letters(self) -> list[DeadLetter]:
        return self.world.read_all(DEADLETTERS)


@pytest.fixture
def bench(model_folder: Path, tmp_path: Path) -> Iterator[Bench]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    bench = Bench(model_folder, tmp_path, loop)
    yield bench

    async def cancel_all() -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await loop.shutdown_default_executor()

    asyncio.run_coroutine_threadsafe(cancel_all(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def make_rollout(token_ids: tuple[int, ...] = (2, 3, 1), version: int = 0, logprob: float = -0.5) -> Completion:
    return Completion(
        token_ids=np.array(token_ids, np.int32),
        behavior_logprobs=np.full(len(token_ids), logprob, np.float32),
        spans=(Span(policy_version=version, start=0, stop=len(token_ids)),),
        finish_reason="stop",
        queued_s=0.5,
        generated_s=1.5,
    )


# -- trajectories -----------------------------------------------------------------------------------------------------


def test_a_trajectory_says_what_was_sampled_and_for_which_job(bench):
    bench.serve()
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=5, max_tokens=17)
    job = make_job("p0.0000", num_rollouts=9, start=4, stop=6, sampling=sampling)
    bench.ask(job)
    bench.until(lambda: len(bench.engine.requests) == 2)
    assert bench.engine.settings["p0.0000/4"] == {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "max_tokens": 17}
    assert bench.engine.prompts["p0.0000/5"] == [1, 2, 3]
    bench.finish("p0.0000/5", make_rollout((4, 3, 1), version=2, logprob=-0.25))
    (trajectory,) = bench.trajectories()
    assert (trajectory.rollout_index, trajectory.job.group_id, trajectory.producer) == (5, "p0.0000", "producer-0")
    assert trajectory.job.sampling == sampling
    assert trajectory.token_ids.tolist() == [4, 3, 1]
    assert trajectory.behavior_logprobs.tolist() == [-0.25, -0.25, -0.25]
    assert trajectory.spans == (Span(policy_version=2, start=0, stop=3),)
    assert trajectory.text == "c b"  # WordLevel without a decoder; the end token is left out
    assert (trajectory.timing.queued_s, trajectory.timing.generated_s) == (0.5, 1.5)


def test_all_of_a_group_share_a_partition_whichever_partition_its_jobs_came_from(bench):
    bench.serve()
    for start in range(4):
        bench.ask(make_job("p7.0003", 4, start=start, stop=start + 1), partition=start % 2)
    bench.until(lambda: len(bench.engine.requests) == 4)
    for rollout in range(4):
        bench.finish(f"p7.0003/{rollout}")
    topic = bench.broker.logs[TRAJECTORIES.of("r")]
    assert [len(log) for log in topic] == [4 * (partition_of("p7.0003", 2) == number) for number in range(2)]
    assert len({trajectory.trajectory_id for trajectory in bench.trajectories()}) == 4


def test_no_job_is_taken_before_there_is_a_policy_nor_while_the_engine_is_full(bench):
    bench.ask(make_job("p0.0000", 4))
    bench.turn()
    bench.barrier()
    assert (bench.role.wants_input, bench.engine.requests) == (False, {})
    bench.serve()
    assert bench.role.wants_input
    bench.until(lambda: len(bench.engine.requests) == 4)
    assert bench.role.wants_input
    bench.ask(make_job("p1.0000", 4))
    bench.until(lambda: len(bench.engine.requests) == 8)
    assert not bench.role.wants_input  # 8 rollouts, places for 6
    for rollout in range(3):
        bench.finish(f"p0.0000/{rollout}")
    assert bench.role.wants_input


def test_a_job_waits_for_weights_as_new_as_it_wants_them(bench):
    bench.serve(3)
    bench.ask(replace(make_job("p0.0000", 2), min_policy_version=5))
    bench.until(lambda: bench.role.metrics()["producer/held_jobs"] == 1)
    bench.serve(4)
    assert bench.engine.requests == {}
    assert bench.progress() == 0
    bench.serve(5)
    bench.until(lambda: len(bench.engine.requests) == 2)
    assert bench.role.metrics()["producer/held_jobs"] == 0


def test_jobs_that_wait_for_weights_that_never_come_do_not_fill_the_producer_for_ever(bench, monkeypatch):
    bench.serve(3)
    bench.ask(replace(make_job("p0.0000", 6), min_policy_version=10**9))
    bench.until(lambda: bench.role.metrics()["producer/held_jobs"] == 1)
    bench.ask(make_job("p1.0000", 1))
    bench.turn()
    assert not bench.role.wants_input
    now = time.monotonic()
    monkeypatch.setattr(role.time, "monotonic", lambda: now + bench.config.allocator.lease_s + 1)
    bench.turn()
    monkeypatch.undo()
    (letter,) = bench.letters()
    assert "job of group p0.0000 wants policy 1000000000; 3 is the newest" in letter.error
    bench.until(lambda: list(bench.engine.requests) == ["p1.0000/0"])
    bench.finish("p1.0000/0")
    bench.acknowledge()
    assert bench.progress() == 2


# -- progress ---------------------------------------------------------------------------------------------------------


def test_progress_waits_for_every_trajectory_of_a_job_to_be_durable(bench):
    bench.serve()
    bench.ask(make_job("p0.0000", 2))
    bench.until(lambda: len(bench.engine.requests) == 2)
    bench.finish("p0.0000/1")
    bench.acknowledge()
    assert bench.progress() == 0
    bench.finish("p0.0000/0")
    assert len(bench.trajectories()) == 2
    assert bench.progress() == 0  # written, but the broker has not said so
    bench.acknowledge()
    assert bench.progress() == 1


def test_what_is_issued_again_while_it_is_sampled_is_sampled_once(bench):
    bench.serve()
    job = make_job("p0.0000", 2)
    bench.ask(job)
    bench.until(lambda: len(bench.engine.requests) == 2)
    first = dict(bench.engine.requests)
    bench.ask(replace(job, start=1, attempt=1))
    bench.until(lambda: bench.role.metrics()["producer/in_flight"] == 3)
    assert bench.engine.requests == first
    bench.finish("p0.0000/1")
    bench.acknowledge()
    assert [trajectory.rollout_index for trajectory in bench.trajectories()] == [1]
    assert (bench.progress(), bench.watermark.num_pending) == (0, 1)  # the second job is done, the first is not
    bench.finish("p0.0000/0")
    bench.acknowledge()
    assert [trajectory.rollout_index for trajectory in bench.trajectories()] == [1, 0]
    assert (bench.progress(), bench.role.metrics()["producer/in_flight"]) == (2, 0)


def test_progress_is_the_lowest_unfinished_job_when_jobs_end_out_of_order(bench):
    bench.serve()
    for number in range(3):
        bench.ask(make_job(f"p{number}.0000", 2))
    bench.until(lambda: len(bench.engine.requests) == 6)
    for name in ("p2.0000/0", "p2.0000/1", "p1.0000/1", "p1.0000/0", "p0.0000/0"):
        bench.finish(name)
        bench.acknowledge()
        assert bench.progress() == 0
    bench.finish("p0.0000/1")
    bench.acknowledge()
    assert bench.progress() == 3


@contextmanager
def running(bench: Bench) -> Iterator[None]:
    """The worker loop in a thread of its own; stopped at the end."""
    stop, reader = threading.Event(), bench.topics.reader(JOBS, consumer_group="producers")
    thread = threading.Thread(
        target=run_loop, args=(bench.role, bench.topics, reader, stop), kwargs={"commits": True, "poll_s": 0.001}
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_job_that_was_not_finished_is_there_for_the_next_producer(bench):
    bench.publish(0)
    bench.ask(make_job("p0.0000", 1))
    bench.ask(make_job("p1.0000", 1))
    with running(bench):
        wait_for(lambda: len(bench.engine.requests) == 2)
        bench.loop.call_soon_threadsafe(lambda: bench.engine.requests["p0.0000/0"].set_result(make_rollout()))
        wait_for(lambda: len(bench.trajectories()) == 1)
        bench.acknowledge()
    assert bench.broker.group_offsets("r.producers")[JOBS.of("r"), 0] == 1
    (record,) = bench.topics.reader(JOBS, consumer_group="producers").poll(0)
    assert decode(record.value, Job).group_id == "p1.0000"


# -- policies ---------------------------------------------------------------------------------------------------------


def test_only_the_newest_of_several_policies_is_loaded(bench):
    bench.publish(3)
    bench.publish(4)
    folder = bench.publish(5)
    bench.until(lambda: bench.version == 5)
    bench.turn()
    assert bench.engine.swaps == [(str(folder), 5)]
    assert bench.role.metrics()["producer/swap_s"] == 0.25


def test_policies_that_arrive_during_a_swap_wait_and_are_skipped_but_for_the_newest(bench):
    bench.loop.call_soon_threadsafe(bench.engine.swap_gate.clear)
    bench.publish(0)
    bench.until(lambda: len(bench.engine.swaps) == 1)
    for version in (1, 2, 3):
        bench.publish(version)
    bench.turn()
    bench.barrier()
    assert [version for _, version in bench.engine.swaps] == [0]
    bench.loop.call_soon_threadsafe(bench.engine.swap_gate.set)
    bench.until(lambda: bench.version == 3)
    assert [version for _, version in bench.engine.swaps] == [0, 3]


def test_an_older_policy_is_never_loaded_over_a_newer(bench):
    bench.serve(4)
    bench.publish(2)
    bench.serve(5)
    assert [version for _, version in bench.engine.swaps] == [4, 5]


def test_weights_that_are_not_the_announced_ones_are_never_loaded(bench):
    bench.serve(1)
    bench.publish(2, digest="0" * 64)
    bench.until(lambda: len(bench.letters()) == 1)
    assert [version for _, version in bench.engine.swaps] == [1]
    (letter,) = bench.letters()
    assert "weights of version 2 have sha256 " in letter.error
    assert letter.topic == POLICIES.of("r")
    assert decode(letter.value, Policy).version == 2
    bench.serve(3)


def test_a_policy_whose_folder_is_pruned_already_is_passed_over(bench):
    bench.serve(1)
    bench.publish(2, folder=str(bench.folder / "pruned"))
    bench.serve(3)
    assert [version for _, version in bench.engine.swaps] == [1, 3]
    assert bench.letters() == []


def test_a_fresh_producer_falls_back_to_the_policy_before_a_broken_one(bench):
    bench.publish(6)
    bench.publish(7, digest="0" * 64)
    bench.until(lambda: bench.version == 6)
    assert len(bench.letters()) == 1


def test_weights_that_do_not_fit_leave_the_producer_with_what_it_serves(bench):
    bench.serve(1)
    bench.engine.swap_error = UserError("weights do not fit the served model")
    bench.publish(2)
    bench.until(lambda: len(bench.letters()) == 1)
    assert bench.version == 1
    assert bench.role.wants_input


# -- what must not stop a producer, and what must ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "error"),
    [
        pytest.param(
            make_job("p0.0000", 1, sampling=Sampling(max_tokens=62)),
            "may reach 65 tokens; producer.max_model_len is 64",
            id="too long",
        ),
        pytest.param(
            make_job("p0.0000", 1, prompt_token_ids=np.zeros(5000, np.int32)), "may reach 5008 tokens", id="long prompt"
        ),
        pytest.param(make_job("p0.0000", MAX_SLICE + 1), f"asks for {MAX_SLICE + 1} rollouts at once", id="too many"),
    ],
)
def test_jobs_that_no_producer_can_do_are_buried(bench, job, error):
    bench.serve()
    bench.ask(job)
    bench.ask(make_job("p9.0000", 1))
    bench.until(lambda: len(bench.engine.requests) == 1)
    (letter,) = bench.letters()
    assert error in letter.error
    assert decode(letter.value, Job).group_id == "p0.0000"
    bench.finish("p9.0000/0")
    bench.acknowledge()
    assert bench.progress() == 2


def test_garbage_other_messages_and_newer_major_schemas_are_buried_and_newer_minors_read(bench):
    bench.serve()
    major, minor = SCHEMA_VERSION
    job = make_job("p0.0000", 1)
    header, body = msgspec.msgpack.decode(encode(job), type=tuple[int, int, str, msgspec.Raw])[2:]
    bench.ask_raw(b"\xc1garbage")
    bench.ask_raw(encode(Policy(version=1, uri="x", digest="y", step=1)))
    bench.ask_raw(msgspec.msgpack.encode((major + 1, 0, header, body)))
    fields = msgspec.msgpack.decode(body) | {"a_field_of_tomorrow": [1, {"a": None}]}
    bench.ask_raw(msgspec.msgpack.encode((major, minor + 7, header, fields)))
    bench.until(lambda: len(bench.engine.requests) == 1)
    bench.finish("p0.0000/0")
    assert [trajectory.job.group_id for trajectory in bench.trajectories()] == ["p0.0000"]
    errors = [letter.error for letter in bench.letters()]
    assert len(errors) == 3
    assert "not a Rucksack record" in errors[0]
    assert "record holds a Policy; this topic carries Job" in errors[1]
    assert f"schema version is {major + 1}; this program reads {major}" in errors[2]
    bench.acknowledge()
    assert bench.progress() == 4


def test_a_job_that_the_engine_refuses_is_one_dead_letter_and_the_rest_goes_on(bench):
    bench.serve()
    bench.ask(make_job("p0.0000", 3, sampling=Sampling(temperature=-1.0, max_tokens=8)))
    bench.ask(make_job("p1.0000", 1))
    bench.until(lambda: len(bench.engine.requests) == 4)
    for rollout in range(3):
        bench.finish(f"p0.0000/{rollout}", Refused("vLLM refuses request: temperature must be non-negative"))
    bench.finish("p1.0000/0")
    assert [letter.error for letter in bench.letters()] == ["vLLM refuses request: temperature must be non-negative"]
    assert bench.progress() == 0  # the dead letter is not durable yet
    bench.acknowledge()
    assert bench.progress() == 2
    assert len(bench.trajectories()) == 1


def test_logprobs_that_are_not_numbers_are_buried_not_published(bench):
    bench.serve()
    bench.ask(make_job("p0.0000", 1))
    bench.until(lambda: len(bench.engine.requests) == 1)
    bench.finish("p0.0000/0", make_rollout(logprob=float("nan")))
    assert bench.trajectories() == []
    (letter,) = bench.letters()
    assert "behavior_logprobs are not all finite" in letter.error


def test_a_policy_record_that_is_garbage_is_buried(bench):
    bench.world.writer.send(POLICIES.of("r"), b"policy", b"\x00")
    bench.serve(1)
    (letter,) = bench.letters()
    assert letter.topic == POLICIES.of("r")


def test_a_dead_engine_ends_the_producer_even_when_nothing_is_in_flight(bench):
    bench.serve()
    bench.engine.alive = False
    with pytest.raises(EngineDied):
        bench.turn()


def test_an_engine_that_dies_in_a_rollout_or_a_swap_ends_the_producer(bench):
    bench.serve()
    bench.ask(make_job("p0.0000", 1))
    bench.until(lambda: len(bench.engine.requests) == 1)
    with pytest.raises(EngineDied):
        bench.finish("p0.0000/0", EngineDied("killed in flight"))
    assert bench.progress() == 0
    bench.engine.swap_error = EngineDied("killed while loading")
    bench.publish(1)
    with pytest.raises(EngineDied):
        bench.until(lambda: False)
