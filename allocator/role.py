"""The allocator as a process: prompts, verdicts and updates in; jobs and beliefs out.

A round (its jobs, the beliefs that changed, the offsets they rest on) is one transaction. What is in memory beyond the
last round is rebuilt after a crash: offsets are committed no further than the first verdict of a group that is not yet
in a belief, and group ids follow from the beliefs, so a round planned twice is the same round.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from allocator import beliefs as belief_rules
from allocator.evidence import Evidence
from allocator.ledger import Entry, Ledger, Slice
from allocator.rounds import RoundPlan, choose_prompts, plan_round
from prompts.sources import load_prompts, tokenize
from stream.config import Config
from stream.errors import BadRecord
from stream.messages import (
    TRAINING,
    Belief,
    Evaluation,
    Job,
    Prompt,
    Sampling,
    Timing,
    Trajectory,
    Update,
    Verdict,
)
from stream.topics import BELIEFS, EVALUATIONS, JOBS, UPDATES, VERDICTS
from stream.watermark import Watermark
from stream.worker import Delivery, Log, run_loop

log = logging.getLogger(__name__)


class Allocator:
    """Owns every group from its admission to its end."""

    def __init__(
        self, config: Config, stream: Log, pool: Sequence[Prompt], token_ids: Mapping[str, NDArray[np.int32]]
    ) -> None:
        self._config = config
        self._stream = stream
        self._consumer_group = f"{stream.run}.allocator"
        self._rounds = Log(
            stream.broker,
            stream.run,
            stream.worker,
            writer=stream.broker.writer(name=f"{stream.run}.allocator.rounds", transactional=True),
        )
        self._pool = {prompt.prompt_id: prompt for prompt in pool if prompt.prompt_id in token_ids}
        self._token_ids = token_ids
        self._beliefs = {prompt_id: Belief(prompt_id=prompt_id) for prompt_id in self._pool}
        self._evidence = Evidence(
            list(self._pool.values()), config.allocator.prior, most_tokens=config.sampling.max_tokens
        )
        self._plan = RoundPlan()
        """The last one that was admitted."""
        self._changed: set[str] = set()
        self._policy_version = 0
        """The newest that an update has told of: what is admitted now may not be sampled by older weights."""
        self._ledger = Ledger()
        self._watermark = Watermark()
        self._places: dict[str, list[tuple[tuple[str, int], int]]] = {}
        self._awaited = _awaited_evaluations(config)
        self._counters = {"reissued_rollouts": 0, "abandoned_rollouts": 0}
        self._restore()
        self.reader = stream.reader(VERDICTS, UPDATES, EVALUATIONS)
        self.reader.seek(stream.broker.group_offsets(self._consumer_group))

    # -- what the loop asks -------------------------------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """Always: handling a record is quick."""
        return True

    @property
    def finished(self) -> bool:
        """All rounds are admitted, and all their groups have ended."""
        return self._next_round >= self._config.run.num_updates and not self._ledger.entries

    def handle(self, delivery: Delivery) -> None:
        """A verdict, an update or an evaluation."""
        match delivery.message:
            case Verdict() as verdict:
                self._handle_verdict(verdict, delivery)
            case Update() as update:
                for end in update.groups:
                    self._end(end.group_id)
                self._policy_version = max(self._policy_version, update.version)
                self._pass(delivery)
            case Evaluation() as evaluation:
                self._awaited.discard(evaluation.name)

    def work(self) -> bool:
        """Admit a round if pacing lets it; issue again what is overdue."""
        self._recover_overdue(time.monotonic())
        if not self._may_admit:
            return False
        self._admit_round()
        return True

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        return {
            "allocator/round": self._next_round,
            "allocator/groups": self._num_admitted,
            "allocator/open_rollouts": self._ledger.num_open_rollouts,
            "allocator/value": self._plan.value,
            "allocator/spent": self._plan.spent,
            "allocator/gap": self._plan.gap,
            **{f"allocator/{name}": count for name, count in self._counters.items()},
        }

    def close(self) -> None:
        """Write what changed since the last round."""
        self._commit(RoundPlan())
        self._rounds.writer.close()

    # -- records ------------------------------------------------------------------------------------------------------

    def _handle_verdict(self, verdict: Verdict, delivery: Delivery) -> None:
        job = verdict.trajectory.job
        if job.purpose != TRAINING:
            self._pass(delivery)
            return
        if job.prompt.prompt_id not in self._pool:
            self._pass(delivery)
            raise BadRecord(f"verdict of prompt {job.prompt.prompt_id!r}, which is not in this run's pool")
        place = (delivery.record.topic, delivery.record.partition)
        self._watermark.start(place, delivery.record.offset)
        if not self._awaits(job.prompt.prompt_id, job.group_id):
            self._watermark.finish(place, delivery.record.offset)
            return
        self._places.setdefault(job.group_id, []).append((place, delivery.record.offset))
        completed = self._ledger.record(verdict)
        if completed is not None:
            self._observe(completed)

    def _awaits(self, prompt_id: str, group_id: str) -> bool:
        """Whether a group's verdicts are not yet in its belief."""
        group = self._beliefs[prompt_id].open_group
        return group is not None and group.group_id == group_id and not group.observed

    def _observe(self, entry: Entry) -> None:
        rewards = [reward for reward in entry.rewards.values() if reward is not None]
        belief = self._beliefs[entry.prompt_id]
        observed = belief_rules.observe(
            belief,
            float(sum(rewards)),
            len(rewards),
            num_sampled=entry.num_sampled,
            num_tokens=entry.num_tokens,
            discount=self._config.allocator.discount,
        )
        self._believe(entry, observed)
        for place, offset in self._places.pop(entry.group.group_id, ()):
            self._watermark.finish(place, offset)

    def _end(self, group_id: str) -> None:
        entry = self._ledger.entries.get(group_id)
        if entry is not None and not entry.group.ended:
            self._believe(entry, belief_rules.end(self._beliefs[entry.prompt_id]))

    def _believe(self, entry: Entry, belief: Belief) -> None:
        self._beliefs[belief.prompt_id] = belief
        self._evidence.note(belief)
        self._changed.add(belief.prompt_id)
        if belief.open_group is None:
            self._ledger.close(entry.group.group_id)
        else:
            entry.group = belief.open_group

    def _pass(self, delivery: Delivery) -> None:
        place = (delivery.record.topic, delivery.record.partition)
        self._watermark.start(place, delivery.record.offset)
        self._watermark.finish(place, delivery.record.offset)

    # -- rounds -------------------------------------------------------------------------------------------------------

    @property
    def _num_admitted(self) -> int:
        return sum(belief.num_groups for belief in self._beliefs.values())

    @property
    def _next_round(self) -> int:
        return self._num_admitted // self._config.run.prompts_per_update

    @property
    def _may_admit(self) -> bool:
        """Pacing: open rollouts (with a budget of tokens: groups) stay within (max_staleness + 1) x one update's."""
        run = self._config.run
        if self._awaited or self._next_round >= run.num_updates:
            return False
        if self._config.allocator.budget_tokens:  # rounds differ in rollouts, not in groups
            return self._ledger.num_open_groups <= run.max_staleness * run.prompts_per_update
        return self._ledger.num_open_rollouts <= run.max_staleness * run.budget

    def _admit_round(self) -> None:
        run, table = self._config.run, self._config.allocator
        chosen = choose_prompts(list(self._pool), self._beliefs, run.prompts_per_update, run.seed)
        if len(chosen) < run.prompts_per_update:
            return
        plan = plan_round(
            chosen,
            self._beliefs,
            self._evidence.beliefs(chosen, self._beliefs),
            mode=table.mode,
            budget=table.budget_tokens or run.budget,
            low=table.min_rollouts,
            high=table.max_rollouts,
            round_number=self._next_round,
            cost=self._evidence.costs(chosen) if table.budget_tokens else None,
        )
        self._commit(plan)
        self._plan = plan
        log.info(
            "admitted round=%d rollouts=%d spent=%.10g value=%.6g gap=%.2g",
            self._next_round - 1,
            sum(group.num_rollouts for group in plan.groups),
            plan.spent,
            plan.value,
            plan.gap,
        )

    def _commit(self, plan: RoundPlan) -> None:
        """One transaction: the plan's jobs, all beliefs that changed, the offsets that they rest on."""
        for prompt_id, group in zip(plan.prompt_ids, plan.groups, strict=True):
            self._beliefs[prompt_id] = belief_rules.admit(self._beliefs[prompt_id], group)
            self._changed.add(prompt_id)
        num_partitions = self._stream.num_partitions(JOBS)
        slice_rollouts, now = self._config.allocator.slice_rollouts, time.monotonic()
        with self._rounds.writer.transaction():
            for prompt_id, group in zip(plan.prompt_ids, plan.groups, strict=True):
                entry = self._ledger.open(prompt_id, group, slice_rollouts, num_partitions, now)
                for piece in entry.slices:
                    self._issue(self._rounds, entry, piece, piece.start, piece.stop)
            for prompt_id in sorted(self._changed):
                self._rounds.send(BELIEFS, prompt_id, self._beliefs[prompt_id])
            self._rounds.writer.send_offsets(self._watermark.offsets(), self._consumer_group)
        self._changed.clear()

    def _issue(self, stream: Log, entry: Entry, piece: Slice, start: int, stop: int) -> None:
        job = self._job(entry, start, stop, piece.attempt)
        stream.send(JOBS, f"{entry.group.group_id}/{start}", job, partition=piece.partition)

    def _job(self, entry: Entry, start: int, stop: int, attempt: int) -> Job:
        sampling = self._config.sampling
        return Job(
            group_id=entry.group.group_id,
            start=start,
            stop=stop,
            num_rollouts=entry.group.num_rollouts,
            prompt=self._pool[entry.prompt_id],
            prompt_token_ids=self._token_ids[entry.prompt_id],
            sampling=Sampling(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=sampling.max_tokens,
            ),
            budgeting=entry.group.budgeting,
            min_policy_version=self._policy_version,
            round=entry.group.round,
            attempt=attempt,
            created_s=time.time(),
        )

    # -- leases -------------------------------------------------------------------------------------------------------

    def _recover_overdue(self, now_s: float) -> None:
        for entry, piece in self._ledger.overdue(now_s, self._config.allocator.lease_s):
            missing = entry.missing(piece)
            piece.attempt, piece.issued_s = piece.attempt + 1, now_s
            given_up = piece.attempt >= self._config.allocator.max_attempts
            self._counters["abandoned_rollouts" if given_up else "reissued_rollouts"] += len(missing)
            log.warning(
                "%s group=%s rollouts=%s attempt=%d",
                "abandoned" if given_up else "issued again",
                entry.group.group_id,
                missing,
                piece.attempt,
            )
            for rollout in missing:
                if given_up:
                    self._abandon(entry, rollout)
                else:
                    self._issue(self._stream, entry, piece, rollout, rollout + 1)

    def _abandon(self, entry: Entry, rollout: int) -> None:
        """Close one rollout with a verdict that says that there is none, where its verdict would have stood."""
        trajectory = Trajectory(
            job=self._job(entry, rollout, rollout + 1, self._config.allocator.max_attempts),
            rollout=rollout,
            trajectory_id=f"{entry.group.group_id}/{rollout}/abandoned",
            token_ids=np.empty(0, dtype=np.int32),
            behavior_logprobs=np.empty(0, dtype=np.float32),
            spans=(),
            text="",
            finish_reason="abandoned",
            timing=Timing(queued_s=0.0, generated_s=0.0),
            producer="",
            created_s=time.time(),
        )
        reason = f"no verdict after {self._config.allocator.max_attempts} issues"
        verdict = Verdict(trajectory=trajectory, outcome="abandoned", reward=0.0, reason=reason, created_s=time.time())
        self._stream.send_of_group(VERDICTS, entry.group.group_id, verdict)

    # -- start --------------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Beliefs and open groups as of the last transaction; verdicts since then are read again."""
        for belief in self._stream.read_all(BELIEFS):
            if belief.prompt_id in self._beliefs:
                self._beliefs[belief.prompt_id] = belief
        num_partitions, slice_rollouts = self._stream.num_partitions(JOBS), self._config.allocator.slice_rollouts
        for belief in self._beliefs.values():
            self._evidence.note(belief)
            if belief.open_group is not None:
                entry = self._ledger.open(
                    belief.prompt_id, belief.open_group, slice_rollouts, num_partitions, time.monotonic()
                )
                if belief.open_group.observed:
                    self._ledger.settle(entry)
        if self._num_admitted:
            log.info("restored round=%d open_groups=%d", self._next_round, len(self._ledger.entries))


def _awaited_evaluations(config: Config) -> set[str]:
    """Evaluations of the base policy that the first round waits for."""
    table = config.evaluator
    if not (table.enabled and config.allocator.await_evaluation):
        return set()
    return {"heldout"} | ({"pool"} if table.pool else set()) | ({"base"} if table.base_samples else set())


def run(config: Config, stream: Log, stop: threading.Event) -> None:
    """Run the allocator to its end."""
    pool, _heldout = load_prompts(config)
    role = Allocator(config, stream, pool, tokenize(pool, config))
    run_loop(role, stream, role.reader, stop, commits=False)
