"""Runs a producer: samples what jobs ask for, each rollout published the moment it finishes.

    jobs -----> handle --one request a rollout--> Engine.generate (its thread) --> _publish --> trajectories
                  |  held until the weights are new enough                     ^
    policies, weights --> PolicyFollower (its thread) --digest checked--> Engine.apply or swap +

What blocks it, and what unblocks it:
    - reading jobs pauses until the first policy is loaded, and while `max_num_seqs` rollouts are in flight;
    - a job that wants newer weights is held until they are loaded, or for a lease: then it goes to deadletters, as it has
      been issued again;
    - putting new weights in pauses sampling for its own time; policies that come meanwhile are read, and only the newest
      is loaded next;
    - a job of a prompt that was being sampled at the last two deaths waits until no other such one is sampled; at three
      it is a dead letter (`producers.suspects`);
    - an engine that is dead, or silent for `hang_s`, raises EngineDied: the process ends, and the supervisor starts
      another.

A job's offset is committed once all its trajectories are durable: a crash repeats work, and loses none.
"""

import asyncio
import itertools
import logging
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvloop

from producers.adapters import Adapter
from producers.engine import Completion, Engine, EngineDied
from producers.follower import Offer, PolicyFollower
from producers.process import default_signals
from producers.sampler import Sampler, StartEngine
from producers.suspects import GIVEN_UP_AFTER, Suspects
from prompts.tokens import load_tokenizer
from stream.config import Config
from stream.errors import BadRecord
from stream.messages import Job, Timing, Trajectory
from stream.run_topics import RunTopics
from stream.topics import CONSUMER_GROUPS, JOBS, TRAJECTORIES
from stream.worker import Delivery, IdleClock, Pulse, run_loop

log = logging.getLogger(__name__)

MAX_SLICE = 1024
"""Most rollouts of one job, so that no record can fill the memory."""

SWITCH_S = 0.0005
"""For how long a thread may keep Python's lock to itself. With 5 ms, the default, reading 256 MB of weights took 12 s while
another thread imported vLLM; so, 3 s."""

RolloutKey = tuple[str, int]
"""Group id and rollout index."""


@dataclass(slots=True)
class Assignment:
    """A job that is being sampled."""

    delivery: Delivery
    num_left: int
    """Rollouts that are not durable yet."""
    refused: bool = False
    """Its dead letter is sent."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self) -> None:
        """One of its trajectories is durable. Called from the writer's thread."""
        with self.lock:
            self.num_left -= 1
            is_done = self.num_left == 0
        if is_done:
            self.delivery.done()


class Producer:
    """Samples what jobs ask for, always from the newest weights."""

    def __init__(
        self,
        config: Config,
        topics: RunTopics,
        loop: asyncio.AbstractEventLoop,
        engine: Sampler,
        follower: PolicyFollower | None = None,
        suspects: Suspects | None = None,
    ) -> None:
        """`follower` may have read already; None makes one. `suspects` remember the lives before; None starts anew."""
        self._config = config
        self._topics = topics
        self._loop = loop
        self._engine = engine
        self._tokenizer = load_tokenizer(config.run.model)
        self._follower = follower or PolicyFollower(topics)
        self._follower.whole = not engine.patchable
        self._following = ThreadPoolExecutor(max_workers=1, thread_name_prefix="follow")
        self._read: Future[Offer | None] | None = None
        """The follower's step under way."""
        self._sampling: dict[RolloutKey, list[Assignment]] = {}
        """The jobs that wait for a rollout: one, or more if it was issued again meanwhile."""
        self._begun: list[tuple[Job, list[RolloutKey]]] = []
        """Rollouts of which the engine has not been told yet."""
        self._tasks: set[asyncio.Task[Completion]] = set()
        """Rollouts with the engine: asyncio alone would not keep them. Touched on the engine's thread only."""
        self._finished: deque[tuple[RolloutKey, asyncio.Task[Completion]]] = deque()
        self._swap: tuple[Offer, Future[float]] | None = None
        self._version = -1
        self._in_flight = 0
        self._wake = threading.Event()
        """Set when weights have come or are loaded, and when the engine has nothing more to do."""
        self._suspects = suspects or Suspects()
        self._waiting: deque[Delivery] = deque()
        """Jobs of suspects, which are sampled one at a time."""
        self._held: list[tuple[float, Delivery]] = []
        """Jobs that wait for newer weights, each with the time since when."""
        # Numbers behind one random name: os.urandom lets go of the GIL, and gets it back late beside the engine's thread.
        self._life, self._numbers = uuid.uuid4().hex, itertools.count()
        self._counters = {"rollouts": 0, "tokens": 0, "swaps": 0}
        self._swap_s = self._checked_s = 0.0
        self._idle = IdleClock()

    # -- what the loop asks -------------------------------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """Once there is a policy, and while less waits for the engine's slots than fills them."""
        return self._version >= 0 and self._in_flight < 2 * self._config.producer.max_num_seqs

    @property
    def finished(self) -> bool:
        """Never: producers run until they are stopped."""
        return False

    def handle(self, delivery: Delivery) -> None:
        """Take a job: a request to the engine for each rollout, once the weights are as new as the job wants them."""
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
        prompt_id = job.prompt.prompt_id
        if self._suspects.is_given_up(prompt_id):
            self._in_flight -= job.stop - job.start
            error = (
                f"job of group {job.group_id}: prompt {prompt_id} was being sampled at {GIVEN_UP_AFTER} deaths in a row"
            )
            self._topics.send_to_deadletters(delivery.record, f"{error}: it is given up", delivery.done)
            return
        if self._suspects.must_wait(prompt_id):
            self._waiting.append(delivery)
            return
        assignment = Assignment(delivery, job.stop - job.start)
        keys = []
        for rollout_index in range(job.start, job.stop):
            key = (job.group_id, rollout_index)
            assignments = self._sampling.setdefault(key, [])
            assignments.append(assignment)
            if len(assignments) > 1:  # already being sampled: a second request would only add delay
                continue
            self._suspects.begin(prompt_id, time.monotonic())
            keys.append(key)
        self._begun.append((job, keys))

    def _sample_begun(self) -> None:
        """Tell the engine of all that has begun since the last time: one file and one wake-up for all of them."""
        if self._begun:
            self._suspects.save()
            self._loop.call_soon_threadsafe(self._sample, self._begun)
            self._begun = []

    def _sample(self, begun: list[tuple[Job, list[RolloutKey]]]) -> None:
        """A request to the engine for each rollout. Called on the engine's thread."""
        for job, (group_id, rollout_index) in ((job, key) for job, keys in begun for key in keys):
            completion = self._engine.generate(
                job.prompt_token_ids,
                request_id=f"{group_id}/{rollout_index}/{next(self._numbers)}",
                temperature=job.sampling.temperature,
                top_p=job.sampling.top_p,
                top_k=job.sampling.top_k,
                max_tokens=job.sampling.max_tokens,
            )
            task = self._loop.create_task(completion)
            self._tasks.add(task)
            task.add_done_callback(partial(self._note_finished, (group_id, rollout_index)))

    def _note_finished(self, key: RolloutKey, task: "asyncio.Task[Completion]") -> None:
        """A rollout has ended. Called on the engine's thread."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: an engine that dies fails them all, and the first one is enough to tell of it
        self._finished.append((key, task))
        if not self._tasks:
            self._wake.set()

    def work(self) -> bool:
        """Publish what is finished; follow the newest policy.

        Raises:
            EngineDied: this process is of no use any more; the supervisor starts another.

        """
        try:
            self._engine.require_alive()
            self._follow_policies()
            self._give_up_overdue_jobs()
            self._publish_finished()
        except EngineDied:
            self._suspects.die()
            raise
        self._suspects.note(time.monotonic())
        for _ in range(len(self._waiting)):
            self._begin(self._waiting.popleft())
        self._sample_begun()
        return False

    def _publish_finished(self) -> None:
        while self._finished:
            key, task = self._finished.popleft()
            assignments = self._sampling.pop(key)
            self._in_flight -= len(assignments)
            try:
                self._publish(assignments, key[1], task.result())
            except ValueError as error:  # a prompt, a parameter, or weights that give no trajectory: law 8
                for assignment in assignments:
                    self._refuse(assignment, str(error))
            self._suspects.end(assignments[0].delivery.message.prompt.prompt_id)

    def rest(self, seconds: float) -> None:
        """Wait until there is something to do besides jobs."""
        is_idle = self._in_flight == 0
        self._idle.note(idle=False)
        self._wake.wait(seconds)
        self._wake.clear()
        self._idle.note(idle=is_idle)

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        return {
            **{f"producer/{name}": count for name, count in self._counters.items()},
            "producer/in_flight": self._in_flight,
            "producer/held_jobs": len(self._held),
            "producer/policy_version": self._version,
            "producer/swap_s": self._swap_s,
            "producer/weights_checked_s": self._checked_s,
            "producer/idle_share": self._idle.share(),
        }

    def close(self) -> None:
        """Free the reader of the policies; `run`, which has started the engine, closes it."""
        self._suspects.close()
        self._following.shutdown(wait=True)
        self._follower.close()

    def _release(self, condition: Callable[[float, Job], bool]) -> list[Delivery]:
        """Take the held jobs out that meet a condition on the time since when they are held and on the job."""
        held, self._held = self._held, []
        released: list[Delivery] = []
        for since, delivery in held:
            if condition(since, delivery.message):
                released.append(delivery)
            else:
                self._held.append((since, delivery))
        return released

    def _give_up_overdue_jobs(self) -> None:
        """Free the slots of jobs that have been held for a lease: the allocator has issued them again."""
        overdue = time.monotonic() - self._config.allocator.lease_s
        for delivery in self._release(lambda since, _: since < overdue):
            job: Job = delivery.message
            self._in_flight -= job.stop - job.start
            error = f"job of group {job.group_id} wants policy {job.min_policy_version}; {self._version} is the newest"
            self._topics.send_to_deadletters(delivery.record, error, delivery.done)

    # -- trajectories -------------------------------------------------------------------------------------------------

    def _publish(self, assignments: list[Assignment], rollout_index: int, completion: Completion) -> None:
        job: Job = assignments[0].delivery.message

        def acknowledge() -> None:
            for assignment in assignments:
                assignment.acknowledge()

        text = self._tokenizer.decode(completion.token_ids.tolist(), skip_special_tokens=True)
        trajectory = Trajectory(
            job=job,
            rollout_index=rollout_index,
            trajectory_id=f"{self._life}.{next(self._numbers)}",
            token_ids=completion.token_ids,
            behavior_logprobs=completion.behavior_logprobs,
            spans=completion.spans,
            text=text.encode("utf-8", "replace").decode(),  # UTF-8 has no lone surrogates
            finish_reason=completion.finish_reason,
            timing=Timing(queued_s=completion.queued_s, generated_s=completion.generated_s),
            producer=self._topics.worker,
            created_s=time.time(),
        )
        self._topics.send_of_group(TRAJECTORIES, job.group_id, trajectory, acknowledge)
        self._counters["rollouts"] += 1
        self._counters["tokens"] += int(completion.token_ids.size)

    def _refuse(self, assignment: Assignment, error: str) -> None:
        """Send a job to deadletters, once however many of its rollouts fail."""
        if assignment.refused:
            assignment.acknowledge()
            return
        assignment.refused = True
        self._topics.send_to_deadletters(assignment.delivery.record, error, assignment.acknowledge)

    # -- policies -----------------------------------------------------------------------------------------------------

    def _follow_policies(self) -> None:
        if self._swap is not None and self._swap[1].done():
            offer, swap = self._swap
            self._swap = None
            self._end_swap(offer, swap)
        if self._read is not None and self._read.done():
            found, self._read = self._read.result(), None
            if found is not None:
                self._checked_s = found.checked_s
                self._swap = (found, self._spawn(self._load(found)))
                self._swap[1].add_done_callback(lambda _: self._wake.set())
        if self._read is None:
            self._read = self._following.submit(self._follower.step, self._version, busy=self._swap is not None)
            self._read.add_done_callback(lambda _: self._wake.set())

    def _end_swap(self, offer: Offer, swap: "Future[float]") -> None:
        """Note the version that is served now. A policy that cannot be loaded is skipped, and the next older one tried."""
        try:
            self._swap_s = swap.result()
        except (OSError, ValueError) as error:
            self._following.submit(self._follower.drop, offer.head)
            self._topics.send_to_deadletters(offer.head.record, str(error))
        else:
            self._version = offer.version
            self._counters["swaps"] += 1
            for delivery in self._release(lambda _, job: job.min_policy_version <= self._version):
                self._begin(delivery)

    async def _load(self, offer: Offer) -> float:
        if offer.folder:
            return await self._engine.swap(offer.folder, offer.version)
        return await self._engine.apply(offer.patches, offer.version)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


async def start_vllm(config: Config) -> Sampler:
    """Start vLLM with the model and the settings of the recipe, warmed up."""
    table, learner = config.producer, config.learner
    engine = await Engine.start(
        config.run.model,
        max_model_len=table.max_model_len,
        max_num_seqs=table.max_num_seqs,
        dtype=table.dtype,
        seed=config.run.seed,
        gpu_memory_utilization=table.gpu_memory_utilization,
        kv_cache_gib=table.kv_cache_gib,
        tensor_parallel_size=table.tensor_parallel_size,
        enforce_eager=table.enforce_eager,
        hang_s=table.hang_s,
        load_s=table.load_s,
        adapter=Adapter(learner.lora_rank, learner.lora_alpha) if learner.lora_publish == "adapter" else None,
    )
    await engine.warm_up()
    return engine


def run(config: Config, topics: RunTopics, stop: threading.Event, start: StartEngine = start_vllm) -> None:
    """Start the engine, and run until stopped."""
    sys.setswitchinterval(SWITCH_S)
    loop = uvloop.new_event_loop()  # as vLLM's own server: a sixth of the producer's time less than asyncio's
    threading.Thread(target=loop.run_forever, name="engine", daemon=True).start()
    with default_signals():
        follower = PolicyFollower(topics)
        engine = None if stop.is_set() else _await_engine(config, topics, loop, follower, start)
    if engine is None:
        return
    try:
        suspects = Suspects(config.run.path / "producers" / f"{topics.worker}.json")
        role = Producer(config, topics, loop, engine, follower, suspects)
        reader = topics.reader(JOBS, consumer_group=CONSUMER_GROUPS["producer"])
        run_loop(role, topics, reader, stop, commits=True, max_records=1, rest=role.rest)
    except EngineDied:
        if not stop.is_set():  # Ctrl-C in a terminal goes to the engine as well
            raise
    finally:
        asyncio.run_coroutine_threadsafe(engine.close(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)


def _await_engine(
    config: Config, topics: RunTopics, loop: asyncio.AbstractEventLoop, follower: PolicyFollower, start: StartEngine
) -> Sampler:
    """Start the engine; meanwhile send heartbeats, and read the weights that it will begin with."""
    started_at, pulse = time.monotonic(), Pulse(topics)
    future = asyncio.run_coroutine_threadsafe(start(config), loop)
    while not future.done():
        pulse.beat("starting", dict)
        # What it offers is not taken yet, but the state is put together and checked. Files are read when they are taken.
        follower.step(-1, busy=config.learner.weights == "files")
    engine = future.result()
    log.info("engine ready elapsed_s=%.1f", time.monotonic() - started_at)
    return engine
