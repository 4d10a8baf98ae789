"""The producer as a process: jobs and policies in; trajectories out, each the moment it finishes.

The engine lives on an event loop in a thread of its own; this loop hands it rollouts and publishes what comes back. A
job's offset is committed when all its trajectories are durable, so a crash repeats work, and never loses any.
"""

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from producers.engine import Completion, Engine, EngineDied
from producers.process import default_signals
from prompts.tokens import load_tokenizer
from stream.broker import Record
from stream.codec import decode
from stream.config import Config
from stream.errors import BadRecord
from stream.messages import Job, Policy, Timing, Trajectory
from stream.run_topics import RunTopics
from stream.topics import JOBS, POLICIES, TRAJECTORIES
from stream.weights import digest_of
from stream.worker import Delivery, IdleClock, Pulse, run_loop

log = logging.getLogger(__name__)

MAX_SLICE = 1024
"""Most rollouts of one job: a record must not be able to fill the memory."""
MAX_OFFERS = 8
"""Newest policies that are remembered until one of them is loaded."""


Key = tuple[str, int]
"""Group and rollout."""


@dataclass(slots=True)
class Assignment:
    """A job under way."""

    delivery: Delivery
    num_left: int
    refused: bool = False
    """Its dead letter is on the way."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self) -> None:
        """One of its trajectories is durable; called from the writer's thread."""
        with self.lock:
            self.num_left -= 1
            over = self.num_left == 0
        if over:
            self.delivery.done()


@dataclass(frozen=True, slots=True)
class Offer:
    """A policy, and the record that announced it."""

    policy: Policy
    record: Record


class Producer:
    """Samples what jobs ask for, always from the newest weights."""

    def __init__(self, config: Config, topics: RunTopics, loop: asyncio.AbstractEventLoop, engine: Engine) -> None:
        self._config = config
        self._topics = topics
        self._loop = loop
        self._engine = engine
        self._tokenizer = load_tokenizer(config.run.model)
        self._policies = topics.reader(POLICIES)
        self._sampling: dict[Key, list[Assignment]] = {}
        """Who waits for a rollout: one job, or more where it was issued again meanwhile."""
        self._finished: deque[tuple[Key, Future[Completion]]] = deque()
        self._swap: tuple[Offer, Future[float]] | None = None
        self._offers: list[Offer] = []
        self._version = -1
        self._in_flight = 0
        self._held: list[tuple[float, Delivery]] = []
        self._counters = {"rollouts": 0, "tokens": 0, "swaps": 0}
        self._swap_s = 0.0
        self._idle = IdleClock()

    # -- what the loop asks -------------------------------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """While the engine has room, and once it has a policy."""
        return self._version >= 0 and self._in_flight < self._config.producer.max_num_seqs

    @property
    def finished(self) -> bool:
        """Never: producers run until they are stopped."""
        return False

    def handle(self, delivery: Delivery) -> None:
        """A job: one request to the engine for each rollout, once the weights are as new as it wants them."""
        job: Job = delivery.message
        if job.stop - job.start > MAX_SLICE:
            raise BadRecord(
                f"job of group {job.group_id} asks for {job.stop - job.start} rollouts at once; the most is {MAX_SLICE}"
            )
        longest = job.prompt_token_ids.size + job.sampling.max_tokens
        if longest > self._config.producer.max_model_len:
            raise BadRecord(
                f"job of group {job.group_id} may reach {longest} tokens; producer.max_model_len is "
                f"{self._config.producer.max_model_len}: raise it, or lower sampling.max_tokens"
            )
        self._in_flight += job.stop - job.start
        if job.min_policy_version > self._version:
            self._held.append((time.monotonic(), delivery))
        else:
            self._begin(delivery)

    def _begin(self, delivery: Delivery) -> None:
        job: Job = delivery.message
        assignment = Assignment(delivery, job.stop - job.start)
        for rollout in range(job.start, job.stop):
            key = (job.group_id, rollout)
            waiting = self._sampling.setdefault(key, [])
            waiting.append(assignment)
            if len(waiting) > 1:  # a lease ran out that was too short: twice the work would only make it later
                continue
            future = self._spawn(
                self._engine.generate(
                    job.prompt_token_ids,
                    request_id=f"{job.group_id}/{rollout}/{uuid.uuid4().hex[:8]}",
                    temperature=job.sampling.temperature,
                    top_p=job.sampling.top_p,
                    top_k=job.sampling.top_k,
                    max_tokens=job.sampling.max_tokens,
                )
            )
            future.add_done_callback(partial(self._note, key))

    def _note(self, key: Key, future: "Future[Completion]") -> None:
        """A rollout has ended; called from the engine's thread."""
        self._finished.append((key, future))

    def work(self) -> bool:
        """Publish what is finished; follow the newest policy.

        Raises:
            EngineDied: whoever supervises this process starts another.

        """
        self._engine.require_alive()
        self._follow_policies()
        self._bury_overdue()
        while self._finished:
            key, future = self._finished.popleft()
            waiting = self._sampling.pop(key)
            self._in_flight -= len(waiting)
            try:
                self._publish(waiting, key[1], future.result())
            except ValueError as error:  # a prompt, a parameter, or weights that give no trajectory: law 8
                for assignment in waiting:
                    self._refuse(assignment, str(error))
        self._idle.note(idle=self._in_flight == 0)
        return False

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        return {
            **{f"producer/{name}": count for name, count in self._counters.items()},
            "producer/in_flight": self._in_flight,
            "producer/held_jobs": len(self._held),
            "producer/policy_version": self._version,
            "producer/swap_s": self._swap_s,
            "producer/idle_share": self._idle.share(),
        }

    def close(self) -> None:
        """Free the reader; the engine is closed by whoever started it."""
        self._policies.close()

    def _unhold(self, which: Callable[[float, Job], bool]) -> list[tuple[float, Delivery]]:
        """Take those held jobs out that `which` says, by the time since which they are held."""
        held, self._held = self._held, []
        taken: list[tuple[float, Delivery]] = []
        for since, delivery in held:
            (taken if which(since, delivery.message) else self._held).append((since, delivery))
        return taken

    def _bury_overdue(self) -> None:
        """A job may not fill the engine's places for ever: after its lease it has been issued again."""
        overdue = time.monotonic() - self._config.allocator.lease_s
        for _, delivery in self._unhold(lambda since, _: since < overdue):
            job: Job = delivery.message
            self._in_flight -= job.stop - job.start
            error = f"job of group {job.group_id} wants policy {job.min_policy_version}; {self._version} is the newest"
            self._topics.send_to_deadletters(delivery.record, error, delivery.done)

    # -- trajectories -------------------------------------------------------------------------------------------------

    def _publish(self, waiting: list[Assignment], rollout: int, result: Completion) -> None:
        job: Job = waiting[0].delivery.message

        def acknowledge() -> None:
            for assignment in waiting:
                assignment.acknowledge()

        text = self._tokenizer.decode(result.token_ids.tolist(), skip_special_tokens=True)
        trajectory = Trajectory(
            job=job,
            rollout_index=rollout,
            trajectory_id=uuid.uuid4().hex,
            token_ids=result.token_ids,
            behavior_logprobs=result.behavior_logprobs,
            spans=result.spans,
            text=text.encode("utf-8", "replace").decode(),  # a lone surrogate cannot go on the wire
            finish_reason=result.finish_reason,
            timing=Timing(queued_s=result.queued_s, generated_s=result.generated_s),
            producer=self._topics.worker,
            created_s=time.time(),
        )
        self._topics.send_of_group(TRAJECTORIES, job.group_id, trajectory, acknowledge)
        self._counters["rollouts"] += 1
        self._counters["tokens"] += int(result.token_ids.size)

    def _refuse(self, assignment: Assignment, error: str) -> None:
        """One dead letter for a job, however many of its rollouts fail."""
        if assignment.refused:
            assignment.acknowledge()
            return
        assignment.refused = True
        self._topics.send_to_deadletters(assignment.delivery.record, error, assignment.acknowledge)

    # -- policies -----------------------------------------------------------------------------------------------------

    def _follow_policies(self) -> None:
        for record in self._policies.poll(0.0):
            try:
                self._offers.append(Offer(decode(record.value, Policy), record))
            except BadRecord as error:
                self._topics.send_to_deadletters(record, str(error))
        if self._swap is not None and self._swap[1].done():
            offer, swap = self._swap
            self._swap = None
            self._end_swap(offer, swap)
        self._offers = sorted((o for o in self._offers if o.policy.version > self._version), key=_version)[-MAX_OFFERS:]
        if self._swap is None and self._offers:
            offer = self._offers.pop()
            self._swap = (offer, self._spawn(self._load(offer.policy)))

    def _end_swap(self, offer: Offer, swap: "Future[float]") -> None:
        """Note what is served now. A policy that cannot be is passed over; the next older one is tried."""
        try:
            self._swap_s = swap.result()
        except FileNotFoundError as error:
            # Only the newest few versions are kept: one that vanished before it was read has a successor on the topic.
            log.warning("policy gone version=%d error=%s", offer.policy.version, error)
        except (OSError, ValueError) as error:
            self._topics.send_to_deadletters(offer.record, str(error))
        else:
            self._version = offer.policy.version
            self._counters["swaps"] += 1
            for _, delivery in self._unhold(lambda _, job: job.min_policy_version <= self._version):
                self._begin(delivery)

    async def _load(self, policy: Policy) -> float:
        digest = await asyncio.to_thread(digest_of, policy.uri)
        if digest != policy.digest:
            raise ValueError(f"weights of version {policy.version} have sha256 {digest}, announced was {policy.digest}")
        return await self._engine.swap(policy.uri, policy.version)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


def _version(offer: Offer) -> int:
    return offer.policy.version


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Start the engine, warm it up, and run until stopped."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="engine", daemon=True).start()
    with default_signals():
        engine = None if stop.is_set() else _start_engine(config, topics, loop)
    if engine is None:
        return
    try:
        role = Producer(config, topics, loop, engine)
        run_loop(role, topics, topics.reader(JOBS, consumer_group="producers"), stop, commits=True)
    except EngineDied:
        if not stop.is_set():  # Ctrl-C in a terminal goes to the engine as well
            raise
    finally:
        asyncio.run_coroutine_threadsafe(engine.close(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)


def _start_engine(config: Config, topics: RunTopics, loop: asyncio.AbstractEventLoop) -> Engine:
    """The engine, ready. Shows signs of life while it starts."""
    table, started = config.producer, time.monotonic()
    pulse = Pulse(topics)

    async def start() -> Engine:
        engine = await Engine.start(
            config.run.model,
            max_model_len=table.max_model_len,
            max_num_seqs=table.max_num_seqs,
            dtype=table.dtype,
            seed=config.run.seed,
            gpu_memory_utilization=table.gpu_memory_utilization,
            kv_cache_gib=table.kv_cache_gib,
            tensor_parallel_size=table.tensor_parallel_size,
        )
        await engine.warm_up()
        return engine

    future = asyncio.run_coroutine_threadsafe(start(), loop)
    while not future.done():
        pulse.beat("starting", dict)
        with suppress(TimeoutError):
            future.exception(timeout=0.1)
    engine = future.result()
    log.info("engine ready elapsed_s=%.1f", time.monotonic() - started)
    return engine
