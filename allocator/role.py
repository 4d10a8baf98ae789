"""The allocator as a process: prompts, verdicts and updates in; jobs and beliefs out.

A round (its jobs, the beliefs that changed, the offsets they rest on) is one transaction. What is in memory beyond the
last round is rebuilt after a crash: offsets are committed no further than the first verdict of a group that is not yet
in a belief. Should a transaction be torn: the offsets also stand beside the beliefs, in their partition; jobs without a
belief are found and taken on; a belief without its jobs has a lease that runs out; and what one transaction has written
of the beliefs, the next one writes again.
"""

import gc
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from allocator import beliefs as belief_rules
from allocator.evidence import Evidence
from allocator.jobs import JobMaker
from allocator.ledger import Entry, Ledger, Slice
from allocator.rounds import RoundPlan, TornGroup, Turns, find_torn, note_groups, plan_round, plan_stream
from prompts.sources import load_prompts
from prompts.tokens import tokenize
from stream.broker import Offsets
from stream.config import Config
from stream.errors import BadRecord, UserError
from stream.messages import (
    TRAINING,
    Belief,
    Evaluation,
    Job,
    OpenGroup,
    Pace,
    Position,
    Prompt,
    Update,
    Verdict,
)
from stream.run_topics import RunTopics
from stream.topics import BELIEFS, EVALUATIONS, JOBS, UPDATES, VERDICTS
from stream.watermark import Watermark
from stream.worker import Delivery, run_loop

log = logging.getLogger(__name__)

NEWEST_UPDATES = 8
"""Updates that are read again at the start, for the newest version: some offsets hold no record."""
NEWEST_ROUNDS = 4
"""Rounds' worth of newest jobs that are looked through for groups of a torn transaction."""


class Allocator:
    """Owns every group from its admission to its end."""

    def __init__(
        self, config: Config, topics: RunTopics, pool: Sequence[Prompt], token_ids: Mapping[str, NDArray[np.int32]]
    ) -> None:
        self._config = config
        self._topics = topics
        self._consumer_group = f"{topics.run}.allocator"
        self._rounds = RunTopics(
            topics.broker,
            topics.run,
            topics.worker,
            writer=topics.broker.writer(name=f"{self._consumer_group}.rounds", transactional=True),
        )
        self._pool = {prompt.prompt_id: prompt for prompt in pool if prompt.prompt_id in token_ids}
        if len(self._pool) < config.run.prompts_per_update:
            raise UserError(
                f"{len(self._pool)} prompts are short enough; want at least run.prompts_per_update, which is "
                f"{config.run.prompts_per_update}: raise prompts.max_prompt_tokens, or add prompts"
            )
        self._make = JobMaker(config.sampling, self._pool, token_ids)
        self._beliefs: dict[str, Belief] = {}
        self._evidence = Evidence(
            list(self._pool.values()), config.allocator.prior, most_tokens=config.sampling.max_tokens
        )
        self._plan = RoundPlan()
        """The last one that was admitted."""
        self._pace: Pace | None = None
        """How the stream of prompts goes on, where they are decided one by one."""
        self._changed: set[str] = set()
        self._just_written: set[str] = set()
        self._num_admitted = 0
        self._newest_jobs: list[Job] = []
        self._torn: dict[str, TornGroup] = {}
        self._held: list[Delivery] = []
        self._policy_version = 0
        """The newest that an update has told of: what is admitted now may not be sampled by older weights."""
        self._ledger = Ledger()
        self._watermark = Watermark()
        self._places: dict[str, list[tuple[tuple[str, int], int]]] = {}
        self._awaited = _awaited_evaluations(config)
        self._counters = {"reissued_rollouts": 0, "abandoned_rollouts": 0}
        with _uncollected():
            positions = self._restore()
            self._turns = Turns(self._beliefs, config.run.seed)
        self.reader = topics.reader(VERDICTS, UPDATES, EVALUATIONS)
        self.reader.seek(positions)

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
                if {left.group.group_id for left in self._torn.values()} & {end.group_id for end in update.groups}:
                    self._hold(delivery)
            case Evaluation() as evaluation:
                self._awaited.discard(evaluation.name)

    def work(self) -> bool:
        """Admit a round if pacing lets it; issue again what is overdue."""
        self._recover_overdue(time.monotonic())
        if not self._may_admit:
            return False
        chosen = self._choose()
        if not chosen and not self._torn:
            return False
        self._admit_round(chosen)
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
        left = self._torn.get(job.prompt.prompt_id)
        if left is not None and left.group.group_id == job.group_id:
            self._hold(delivery)
            return
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
            self._turns.put(belief)
        else:
            entry.group = belief.open_group

    def _hold(self, delivery: Delivery) -> None:
        """Keep a record of a torn group for when the group is taken on; until then its offset is not passed."""
        self._watermark.start((delivery.record.topic, delivery.record.partition), delivery.record.offset)
        self._held.append(delivery)

    def _pass(self, delivery: Delivery) -> None:
        place = (delivery.record.topic, delivery.record.partition)
        self._watermark.start(place, delivery.record.offset)
        self._watermark.finish(place, delivery.record.offset)

    # -- rounds -------------------------------------------------------------------------------------------------------

    @property
    def _next_round(self) -> int:
        return self._num_admitted // self._config.run.prompts_per_update

    @property
    def _may_admit(self) -> bool:
        """Pacing: open rollouts (groups, with a budget of tokens) stay within (max_staleness + 1) x one update's."""
        run = self._config.run
        if self._torn:  # they are under way; what closes their prompts' earlier groups is in the log, to be read again
            return all(self._beliefs[prompt_id].open_group is None for prompt_id in self._torn)
        if self._awaited or self._next_round >= run.num_updates:
            return False
        if self._streams:
            return self._room > 0
        if self._config.allocator.budget_tokens:  # rounds differ in rollouts, not in groups
            return self._ledger.num_open_groups <= run.max_staleness * run.prompts_per_update
        return self._ledger.num_open_rollouts <= run.max_staleness * run.budget

    @property
    def _streams(self) -> bool:
        return self._config.allocator.pacing == "stream"

    @property
    def _room(self) -> int:
        """Groups that a stream may be given now: open ones stay within (max_staleness + 1) x one update's."""
        run = self._config.run
        open_most = (run.max_staleness + 1) * run.prompts_per_update
        left = run.num_updates * run.prompts_per_update - self._num_admitted
        return min(open_most - self._ledger.num_open_groups, left)

    def _choose(self) -> list[str]:
        """The prompts that go with the torn groups: those that the round still lacks, or as many as there is room for."""
        size, torn = self._config.run.prompts_per_update, self._torn
        if not self._streams:
            return self._turns.take(size - self._num_admitted % size - len(torn), without=torn)
        chosen: list[str] = []
        while len(chosen) < self._room - len(torn) and (one := self._turns.take(1, without=torn)):
            chosen += one
        return chosen

    def _admit_round(self, chosen: Sequence[str]) -> None:
        """Admit the next round, with the groups that a torn transaction has left in the log as a part of it."""
        torn = self._torn
        if self._streams:
            left = [group.group for group in torn.values()]
            self._pace = note_groups(self._pace, self._config.run.rollouts_per_prompt, left)
        rest = self._plan_for(chosen) if chosen else RoundPlan(pace=self._pace)
        groups = (*(left.group for left in torn.values()), *rest.groups)
        self._plan = replace(rest, prompt_ids=(*torn, *rest.prompt_ids), groups=groups)
        self._pace = rest.pace
        self._commit(self._plan)
        self._torn, held, self._held = find_torn(self._newest_jobs, self._beliefs), self._held, []
        for delivery in held:
            self.handle(delivery)
        log.info(
            "admitted round=%d rollouts=%d spent=%.10g value=%.6g gap=%.2g",
            groups[-1].round,
            sum(group.num_rollouts for group in groups),
            self._plan.spent,
            self._plan.value,
            self._plan.gap,
        )

    def _plan_for(self, chosen: Sequence[str]) -> RoundPlan:
        run, table = self._config.run, self._config.allocator
        believed = self._evidence.beliefs(chosen, self._beliefs)
        torn = [left.group for left in self._torn.values()]
        if self._streams:
            first = self._num_admitted + len(torn)
            return plan_stream(
                chosen,
                self._beliefs,
                believed,
                mode=table.mode,
                mean=run.rollouts_per_prompt,
                low=table.min_rollouts,
                high=table.max_rollouts,
                rounds=[(first + i) // run.prompts_per_update for i in range(len(chosen))],
                pace=self._pace,
            )
        full = table.budget_tokens or run.budget
        budget: float = full * (len(chosen) + len(torn)) // run.prompts_per_update
        budget -= sum(group.num_rollouts * (group.budgeting.cost if table.budget_tokens else 1) for group in torn)
        least = len(chosen) * table.min_rollouts * (self._config.sampling.max_tokens if table.budget_tokens else 1)
        most = full if table.budget_tokens else len(chosen) * table.max_rollouts
        return plan_round(
            chosen,
            self._beliefs,
            believed,
            mode=table.mode,
            budget=max(least, min(most, budget)),
            low=table.min_rollouts,
            high=table.max_rollouts,
            round_number=self._next_round,
            cost=self._evidence.costs(chosen) if table.budget_tokens else None,
        )

    def _commit(self, plan: RoundPlan) -> None:
        """One transaction: the plan's jobs, all beliefs that changed, the offsets that they rest on."""
        for prompt_id, group in zip(plan.prompt_ids, plan.groups, strict=True):
            self._beliefs[prompt_id] = belief_rules.admit(self._beliefs[prompt_id], group)
            self._changed.add(prompt_id)
        self._num_admitted += len(plan.groups)
        positions = self._watermark.offsets()
        with self._rounds.writer.transaction():
            for prompt_id, group in zip(plan.prompt_ids, plan.groups, strict=True):
                entry = self._open(prompt_id, group)
                issued = self._torn[prompt_id].issued if prompt_id in self._torn else frozenset()
                for piece in entry.slices:
                    if not issued.issuperset(range(piece.start, piece.stop)):
                        self._issue(self._rounds, entry, piece, piece.start, piece.stop)
            self._write_beliefs(positions)
            self._rounds.writer.send_offsets(positions, self._consumer_group)
        self._just_written, self._changed = self._changed, set()

    def _write_beliefs(self, positions: Offsets) -> None:
        """Those that changed since the last transaction, and those that it wrote, in case that it was torn."""
        written = sorted(self._just_written | self._changed)
        for prompt_id in written:
            belief = self._beliefs[prompt_id]
            if prompt_id == written[-1]:
                places = tuple(Position(topic=t, partition=p, offset=offset) for (t, p), offset in positions.items())
                belief = replace(belief, positions=places, pace=self._pace)
            self._rounds.send(BELIEFS, prompt_id, belief)

    def _open(self, prompt_id: str, group: OpenGroup) -> Entry:
        num_partitions = self._topics.num_partitions(JOBS)
        return self._ledger.open(
            prompt_id, group, self._config.allocator.slice_rollouts, num_partitions, time.monotonic()
        )

    def _issue(self, topics: RunTopics, entry: Entry, piece: Slice, start: int, stop: int) -> None:
        job = self._make.job(entry, start, stop, attempt=piece.attempt, min_policy_version=self._policy_version)
        topics.send(JOBS, f"{entry.group.group_id}/{start}", job, partition=piece.partition)

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
                    self._issue(self._topics, entry, piece, rollout, rollout + 1)

    def _abandon(self, entry: Entry, rollout: int) -> None:
        verdict = self._make.abandoned(entry, rollout, self._config.allocator.max_attempts)
        self._topics.send_of_group(VERDICTS, entry.group.group_id, verdict)

    # -- start --------------------------------------------------------------------------------------------------------

    def _restore(self) -> Offsets:
        """Beliefs and open groups as of the last transaction; returns where to read on: what came since is read again."""
        positions: Offsets = {}
        self._beliefs |= {prompt_id: Belief(prompt_id=prompt_id) for prompt_id in self._pool}
        for belief in self._topics.read_each(BELIEFS):
            if belief.positions or belief.pace is not None:
                self._pace = belief.pace
                positions = {(place.topic, place.partition): place.offset for place in belief.positions}
            if belief.prompt_id in self._beliefs:
                self._beliefs[belief.prompt_id] = belief
        self._evidence.note_all(self._beliefs.values())
        for belief in self._beliefs.values():
            self._num_admitted += belief.num_groups
            if belief.open_group is not None:
                entry = self._open(belief.prompt_id, belief.open_group)
                if belief.open_group.observed:
                    self._ledger.settle(entry)
        for update in self._topics.read_all(UPDATES, newest=NEWEST_UPDATES):
            self._policy_version = max(self._policy_version, update.version)
        table, run = self._config.allocator, self._config.run
        most_jobs = run.prompts_per_update * -(-table.max_rollouts // table.slice_rollouts)
        self._newest_jobs = self._topics.read_all(JOBS, newest=NEWEST_ROUNDS * most_jobs)
        self._torn = find_torn(self._newest_jobs, self._beliefs)
        if not self._torn:
            self._newest_jobs = []
        if self._num_admitted or self._torn:
            log.info(
                "restored round=%d open_groups=%d torn_groups=%d",
                self._next_round,
                len(self._ledger.entries),
                len(self._torn),
            )
        return positions


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage among millions of objects that are being made to stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _awaited_evaluations(config: Config) -> set[str]:
    """Evaluations of the base policy that the first round waits for."""
    table = config.evaluator
    if not (table.enabled and config.allocator.await_evaluation):
        return set()
    return {"heldout"} | ({"pool"} if table.pool else set()) | ({"base"} if table.base_samples else set())


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the allocator to its end."""
    pool, _heldout = load_prompts(config)
    role = Allocator(config, topics, pool, tokenize(pool, config))
    gc.freeze()  # beliefs stay as long as the process: no search for garbage needs to look at them
    run_loop(role, topics, role.reader, stop)
