"""The evaluator as a process: policies in; jobs, and from their verdicts evaluations, out.

Evaluation rollouts take the same way as training's (same engine, same verifiers), marked by their purpose. Before the
first update and after the last all sets are evaluated, in between the held-out set every so many updates.
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
from prompts.sources import load_prompts
from prompts.tokens import tokenize
from stream.codec import decode
from stream.config import Config
from stream.errors import BadRecord, UserError
from stream.messages import Evaluation, Job, Policy, Prompt, Sampling, Verdict
from stream.run_topics import RunTopics
from stream.topics import EVALUATIONS, JOBS, POLICIES, VERDICTS
from stream.worker import Delivery, run_loop

log = logging.getLogger(__name__)


class Evaluator:
    """Measures policies, one set of prompts at a time."""

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
        self._followed = ("heldout", *config.evaluator.sets)
        """Sets that are evaluated again and again."""
        # Jobs of an evaluator that died meanwhile may still be answered: the session tells them from ours.
        self._session = uuid.uuid4().hex[:8]
        self._queue: deque[Scoreboard] = deque()
        self._board: Scoreboard | None = None
        self._heard_s = 0.0
        """When the newest verdict came."""
        self._next_partition = 0
        known = topics.read_all(EVALUATIONS)
        self._has_base = {evaluation.name for evaluation in known}
        self._has_final = {evaluation.name for evaluation in known if evaluation.final}
        self._final_queued = False
        self._last_step = 0
        self._count = len(known)
        self._policies = topics.reader(POLICIES)
        self.reader = topics.reader(VERDICTS, from_end=True)
        self.reader.positions()  # fixes where "the end" is before the first job goes out

    # -- what the loop asks -------------------------------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """Always: handling a verdict is quick."""
        return True

    @property
    def finished(self) -> bool:
        """The final policy is evaluated on all sets."""
        return self._final_queued and self._board is None and not self._queue

    def handle(self, delivery: Delivery) -> None:
        """A verdict; those of training rollouts are passed over."""
        verdict: Verdict = delivery.message
        board, job = self._board, verdict.trajectory.job
        if board is None or not job.group_id.startswith(self._prefix(board)):
            return
        self._heard_s = time.monotonic()
        if not board.record(verdict):
            self._ask(board, job.prompt, verdict.trajectory.rollout_index, verdict.trajectory.rollout_index + 1)

    def work(self) -> bool:
        """Follow the policies; start the next evaluation, or publish one that is complete or overdue."""
        self._follow_policies()
        if self._board is None and self._queue:
            self._start(self._queue.popleft())
        board = self._board
        if board is not None:
            silent_s = time.monotonic() - max(board.started_s, self._heard_s)
            overdue = silent_s > self._config.evaluator.timeout_s
            if board.complete or overdue:
                self._publish(board, overdue)
        return False

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        return {"evaluator/evaluations": self._count, "evaluator/waiting": len(self._queue)}

    def close(self) -> None:
        """Free the second reader."""
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
        elif policy.step >= self._last_step + table.every and self._board is None and not self._queue:
            self._last_step = policy.step - policy.step % table.every
            for name in self._followed:
                self._enqueue(name, policy, table.samples, table.temperature)

    def _queue_base(self, policy: Policy) -> None:
        table = self._config.evaluator
        names = (*self._followed, "pool") if table.pool else self._followed
        wanted = dict.fromkeys(names, (table.samples, table.temperature))
        if table.base_samples:
            wanted["base"] = (table.base_samples, 1.0)
        for name, (samples, temperature) in wanted.items():
            if name not in self._has_base:
                self._has_base.add(name)
                self._enqueue(name, policy, samples, temperature)

    def _queue_final(self, policy: Policy) -> None:
        table = self._config.evaluator
        self._final_queued = True
        for name in (*self._followed, "pool") if table.pool else self._followed:
            if name not in self._has_final:
                self._has_final.add(name)
                self._enqueue(name, policy, table.samples, table.temperature)

    def _enqueue(self, name: str, policy: Policy, samples: int, temperature: float) -> None:
        self._queue.append(
            Scoreboard(
                name=name,
                policy_version=policy.version,
                prompts=self._sets[name],
                samples=samples,
                temperature=temperature,
                final=policy.final,
                started_s=time.monotonic(),
            )
        )

    # -- one evaluation -----------------------------------------------------------------------------------------------

    def _start(self, board: Scoreboard) -> None:
        self._board = board
        board.started_s = time.monotonic()
        for prompt in board.prompts:
            self._ask(board, prompt, 0, board.samples)

    def _ask(self, board: Scoreboard, prompt: Prompt, start: int, stop: int) -> None:
        sampling = self._config.sampling
        greedy = board.temperature == 0.0
        job = Job(
            group_id=f"{self._prefix(board)}{prompt.prompt_id}",
            start=start,
            stop=stop,
            num_rollouts=board.samples,
            prompt=prompt,
            prompt_token_ids=self._token_ids[board.name][prompt.prompt_id],
            sampling=Sampling(
                temperature=board.temperature,
                top_p=1.0 if greedy else sampling.top_p,
                top_k=0 if greedy else sampling.top_k,
                max_tokens=sampling.max_tokens,
            ),
            purpose=f"eval:{board.name}",
            min_policy_version=board.policy_version,
            created_s=time.time(),
        )
        self._next_partition = (self._next_partition + 1) % self._topics.num_partitions(JOBS)
        self._topics.send(JOBS, f"{job.group_id}/{start}", job, partition=self._next_partition)

    def _prefix(self, board: Scoreboard) -> str:
        return f"eval.{board.name}.v{board.policy_version}.{self._session}/"

    def _publish(self, board: Scoreboard, overdue: bool) -> None:
        evaluation: Evaluation = board.result(time.time())
        missing = len(board.prompts) * board.samples - len(board.verdicts)
        if overdue and missing:
            log.error("evaluation incomplete name=%s version=%d missing=%d", board.name, board.policy_version, missing)
        log.info("evaluated name=%s version=%d accuracy=%.4f", board.name, board.policy_version, evaluation.accuracy)
        self._topics.send(EVALUATIONS, board.name, evaluation)
        self._count += 1
        self._board = None


def load_sets(config: Config) -> dict[str, list[Prompt]]:
    """Prompts of every set that may be evaluated, by its name.

    Raises:
        UserError: a set has the name of one that there always is.

    """
    pool, heldout = load_prompts(config)
    sets = {"heldout": heldout, "pool": pool, "base": heldout}
    for name, source in config.evaluator.sets.items():
        if name in sets:
            raise UserError(f"evaluator.sets has {name!r}, which there always is; choose another name")
        prompts = config.prompts.model_copy(update={"heldout_source": source})
        sets[name] = load_prompts(config.model_copy(update={"prompts": prompts}))[1]
    return sets


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the evaluator to its end."""
    sets = load_sets(config)
    role = Evaluator(config, topics, sets, {name: tokenize(prompts, config) for name, prompts in sets.items()})
    run_loop(role, topics, role.reader, stop)
