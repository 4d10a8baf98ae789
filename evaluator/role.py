"""Runs the evaluator: has policies sampled on sets of prompts, and publishes how many answers are right.

    policies --> _consider --> queue of scoreboards --> _start --> jobs (to producers and verifiers, marked `eval:SET`)
                                        |
    verdicts --> handle --> Scoreboard.record --complete--> _publish --> evaluations

What blocks it, and what unblocks it:
    - the evaluations of one policy are made together; those of the next wait until all of them are published;
    - one is published when every rollout has a verdict, or nothing has come of any for `timeout_s`: then with what there is;
    - a rollout that older weights have sampled is asked for again;
    - verdicts are read only while an evaluation is under way, from where they ended when it began.

Before the first update and after the last all sets are evaluated, in between the held-out ones every so many updates. A
restarted evaluator learns from `evaluations` what is published, and continues with the policies that are still on their
topic. It keeps no verdict of a training rollout.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluator.scoreboard import Scoreboard
from prompts.sources import load_prompts, load_set
from prompts.tokens import tokenize
from stream.codec import decode
from stream.config import Config
from stream.errors import BadRecord, UserError
from stream.messages import Job, Policy, Prompt, Sampling, Verdict
from stream.run_topics import RunTopics
from stream.topics import EVALUATIONS, JOBS, POLICIES, VERDICTS
from stream.worker import Delivery, run_loop

log = logging.getLogger(__name__)


class Evaluator:
    """Measures policies, one after the other."""

    def __init__(
        self,
        config: Config,
        topics: RunTopics,
        sets: Mapping[str, Sequence[Prompt]],
        token_ids: Mapping[str, Mapping[str, NDArray[np.int32]]],
    ) -> None:
        self._config = config
        self._topics = topics
        self._sets = {
            name: [prompt for prompt in prompts if prompt.prompt_id in token_ids[name]]
            for name, prompts in sets.items()
        }
        self._token_ids = token_ids
        self._regular_sets = ("heldout", *config.evaluator.sets)
        """Sets that are evaluated every so many updates."""
        # Jobs of an evaluator that has died may still be answered: the session tells its verdicts from ours.
        self._session = uuid.uuid4().hex[:8]
        self._queue: deque[Scoreboard] = deque()
        self._under_way: dict[str, Scoreboard] = {}
        """Evaluations of one policy, by the beginning of their groups' ids."""
        self._heard_s = 0.0
        """When they began, or when their newest verdict came."""
        self._next_partition = 0
        published = topics.read_all(EVALUATIONS)
        self._has_base = {evaluation.name for evaluation in published}
        self._has_final = {evaluation.name for evaluation in published if evaluation.final}
        self._final_queued = False
        self._last_step = 0
        self._num_evaluations = len(published)
        self._accuracies = {evaluation.name: evaluation.accuracy for evaluation in published}
        """Newest of each set."""
        self._policies = topics.reader(POLICIES)
        self.reader = topics.reader(VERDICTS, from_end=True)

    # -- what the loop asks -------------------------------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """While an evaluation is under way: most verdicts are of training."""
        return bool(self._under_way)

    @property
    def finished(self) -> bool:
        """The final policy is evaluated on all sets."""
        return self._final_queued and not self._under_way and not self._queue

    def handle(self, delivery: Delivery) -> None:
        """Record a verdict of an evaluation under way; all others are passed over."""
        verdict: Verdict = delivery.message
        job = verdict.trajectory.job
        scoreboard = self._under_way.get(job.group_id.partition("/")[0])
        if scoreboard is None:
            return
        self._heard_s = time.monotonic()
        if not scoreboard.record(verdict):
            rollout_index = verdict.trajectory.rollout_index
            self._send_job(scoreboard, job.prompt, rollout_index, rollout_index + 1)

    def work(self) -> bool:
        """Follow the policies; start the evaluations of the next, or publish those that are complete or overdue."""
        self._follow_policies()
        if not self._under_way and self._queue:
            self._start_next()
        is_overdue = time.monotonic() - self._heard_s > self._config.evaluator.timeout_s
        for prefix, scoreboard in list(self._under_way.items()):
            if scoreboard.complete or is_overdue:
                del self._under_way[prefix]
                self._publish(scoreboard)
        return False

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        return {
            "evaluator/evaluations": self._num_evaluations,
            "evaluator/waiting": len(self._queue),
            **{f"evaluator/accuracy/{name}": accuracy for name, accuracy in self._accuracies.items()},
        }

    def close(self) -> None:
        """Free the reader of the policies."""
        self._policies.close()

    # -- what is evaluated --------------------------------------------------------------------------------------------

    def _follow_policies(self) -> None:
        for record in self._policies.poll(0.0):
            try:
                self._consider(decode(record.value, Policy))
            except BadRecord as error:
                self._topics.send_to_deadletters(record, str(error))

    def _consider(self, policy: Policy) -> None:
        table = self._config.evaluator
        if policy.final:
            self._queue_final(policy)
        elif policy.step == 0:
            self._queue_base(policy)
        elif policy.step >= self._config.run.num_updates:
            return  # it comes again as the final one
        elif policy.step >= self._last_step + table.every and not self._under_way and not self._queue:
            self._last_step = policy.step - policy.step % table.every
            for name in self._regular_sets:
                self._enqueue(name, policy, table.samples, table.temperature)

    def _queue_base(self, policy: Policy) -> None:
        table = self._config.evaluator
        for name in table.base_sets:
            if name not in self._has_base:
                self._has_base.add(name)
                is_sampled = name == "base"
                samples, temperature = (table.base_samples, 1.0) if is_sampled else (table.samples, table.temperature)
                self._enqueue(name, policy, samples, temperature)

    def _queue_final(self, policy: Policy) -> None:
        table = self._config.evaluator
        self._final_queued = True
        for name in (*self._regular_sets, "pool") if table.pool else self._regular_sets:
            if name not in self._has_final:
                self._has_final.add(name)
                self._enqueue(name, policy, table.samples, table.temperature)

    def _enqueue(self, name: str, policy: Policy, samples: int, temperature: float) -> None:
        self._queue.append(
            Scoreboard(
                name=name,
                policy_version=policy.version,
                step=policy.step,
                prompts=self._sets[name],
                samples=samples,
                temperature=temperature,
                final=policy.final,
            )
        )

    # -- evaluations under way ----------------------------------------------------------------------------------------

    def _start_next(self) -> None:
        """Start all that is queued of the oldest policy."""
        # Their verdicts come behind what the topic holds now, before the first job goes out.
        ends = self._topics.broker.end_offsets(VERDICTS.of(self._topics.run))
        self.reader.seek({(VERDICTS.of(self._topics.run), partition): end for partition, end in ends.items()})
        version, self._heard_s = self._queue[0].policy_version, time.monotonic()
        while self._queue and self._queue[0].policy_version == version:
            scoreboard = self._queue.popleft()
            self._under_way[self._prefix(scoreboard)] = scoreboard
            for prompt in scoreboard.prompts:
                self._send_job(scoreboard, prompt, 0, scoreboard.samples)

    def _send_job(self, scoreboard: Scoreboard, prompt: Prompt, start: int, stop: int) -> None:
        """Ask for rollouts [start, stop) of a prompt."""
        sampling = self._config.sampling
        greedy = scoreboard.temperature == 0.0
        job = Job(
            group_id=f"{self._prefix(scoreboard)}/{prompt.prompt_id}",
            start=start,
            stop=stop,
            num_rollouts=scoreboard.samples,
            prompt=prompt,
            prompt_token_ids=self._token_ids[scoreboard.name][prompt.prompt_id],
            sampling=Sampling(
                temperature=scoreboard.temperature,
                top_p=1.0 if greedy else sampling.top_p,
                top_k=0 if greedy else sampling.top_k,
                max_tokens=sampling.max_tokens,
            ),
            purpose=f"eval:{scoreboard.name}",
            min_policy_version=scoreboard.policy_version,
            created_s=time.time(),
        )
        self._next_partition = (self._next_partition + 1) % self._topics.num_partitions(JOBS)
        self._topics.send(JOBS, f"{job.group_id}/{start}", job, partition=self._next_partition)

    def _prefix(self, scoreboard: Scoreboard) -> str:
        return f"eval.{scoreboard.name}.v{scoreboard.policy_version}.{self._session}"

    def _publish(self, scoreboard: Scoreboard) -> None:
        evaluation = scoreboard.result(time.time())
        name, version = evaluation.name, evaluation.policy_version
        missing = len(scoreboard.prompts) * scoreboard.samples - len(scoreboard.verdicts)
        if missing:
            log.error("evaluation incomplete name=%s version=%d missing=%d", name, version, missing)
        log.info("evaluated name=%s version=%d accuracy=%.4f", name, version, evaluation.accuracy)
        self._topics.send(EVALUATIONS, name, evaluation)
        self._num_evaluations += 1
        self._accuracies[name] = evaluation.accuracy


def load_sets(config: Config) -> dict[str, list[Prompt]]:
    """Prompts of every set that may be evaluated, by its name.

    Raises:
        UserError: evaluator.sets has a name that is taken.

    """
    pool, heldout = load_prompts(config)
    sets = {"heldout": heldout, "pool": pool, "base": heldout}
    for name, source in config.evaluator.sets.items():
        if name in sets:
            raise UserError(f"evaluator.sets has {name!r}, which there always is; choose another name")
        sets[name] = load_set(config, source)
    return sets


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the evaluator to its end."""
    sets = load_sets(config)
    role = Evaluator(config, topics, sets, {name: tokenize(prompts, config) for name, prompts in sets.items()})
    run_loop(role, topics, role.reader, stop)
