"""A producer whose engine the tests finish by hand, and the rest of the world: what the tests of the producer drive."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from producers.engine import Completion, EngineDied
from producers.role import Producer
from stream.config import Config
from stream.memory import MemoryBroker, MemoryWriter
from stream.messages import DeadLetter, Job, Policy, Span, Trajectory, WeightsPart
from stream.patches import TensorPatch
from stream.run_topics import RunTopics
from stream.topics import DEADLETTERS, JOBS, POLICIES, TOPICS, TRAJECTORIES, WEIGHTS
from stream.watermark import Watermark
from stream.weights import WEIGHTS_FILE, HostTensor, State, digest_of, write_state
from stream.worker import hand_over


class HandEngine:
    """Rollouts and swaps end when the test says so."""

    patchable = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.requests: dict[str, asyncio.Future[Completion]] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.prompts: dict[str, list[int]] = {}
        self.swaps: list[tuple[str, int]] = []
        self.state = State()
        """What the applied patches have made."""
        self.applied: list[tuple[list[TensorPatch], int]] = []
        self.swap_error: Exception | None = None
        self.swap_gate = asyncio.Event()
        self.swap_gate.set()
        self.alive = True

    async def generate(self, prompt_token_ids: np.ndarray, *, request_id: str, **settings: Any) -> Completion:
        name = request_id.rpartition("/")[0]
        self.requests[name] = self.loop.create_future()
        self.settings[name], self.prompts[name] = settings, prompt_token_ids.tolist()
        return await self.requests[name]

    async def apply(self, patches: Sequence[TensorPatch], version: int) -> float:
        self.applied.append(([dataclasses.replace(patch, values=patch.values.copy()) for patch in patches], version))
        paused_s = await self._end_swap()
        self.state.apply(patches)
        return paused_s

    async def swap(self, folder: str, version: int) -> float:
        self.swaps.append((folder, version))
        return await self._end_swap()

    async def _end_swap(self) -> float:
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
        if on_ack is not None:
            self.held.append(on_ack)  # first: who sees the record may acknowledge it
        super().send(topic, key, value, **at)


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
        with (weights / WEIGHTS_FILE).open("wb") as file:
            write_state(State({"w": HostTensor("float32", (), np.array([version], np.uint32))}), file)
        uri = folder or str(weights)
        policy = Policy(version=version, uri=uri, digest=digest or digest_of(weights), step=version)
        self.world.send(POLICIES, "policy", policy)
        return weights

    def send_parts(self, parts: Iterable[WeightsPart]) -> None:
        for part in parts:
            self.world.send(WEIGHTS, str(part.version), part)

    def announce(self, version: int, digest: str, offset: int = 0) -> None:
        self.world.send(POLICIES, "policy", Policy(version=version, digest=digest, step=version, offset=offset))

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

    def settle(self) -> None:
        """Let the follower read all that there is, and offer what it can."""
        for _ in range(3):
            self.turn()
            self.barrier()
            if self.role._read is not None:
                self.role._read.exception(60)
        self.turn()
        self.barrier()

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
                self.engine.requests[name].set_result(outcome or make_completion())

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


def make_completion(token_ids: tuple[int, ...] = (2, 3, 1), version: int = 0, logprob: float = -0.5) -> Completion:
    return Completion(
        token_ids=np.array(token_ids, np.int32),
        behavior_logprobs=np.full(len(token_ids), logprob, np.float32),
        spans=(Span(policy_version=version, start=0, stop=len(token_ids)),),
        finish_reason="stop",
        queued_s=0.5,
        generated_s=1.5,
    )
