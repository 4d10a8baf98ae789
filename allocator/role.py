"""Runs the allocator: turns verdicts into beliefs, and beliefs into jobs.

    verdicts ----> Ledger --complete groups--+
    updates -----> (ends of groups) ---------+--> beliefs --Admission--> jobs       } one transaction
    evaluations (of the base policy) --------+       |                              }
                                                     +-> beliefs, with the offsets  }
    heartbeats --> StreamClock --> overdue rollouts --> jobs again (topic `jobs`), or, in the end, verdicts `abandoned` (topic `verdicts`)

What blocks it, and what unblocks it:
    - what would want newer weights than the base's waits for the evaluations of the base policy
      (`evaluator.await_base`), and so do leases: until then rollouts stand behind those of the evaluations;
    - a round waits until what is open is within (run.rounds_ahead + 1) updates; `updates` end groups;
    - a group of mode `sequential` is asked for another slice, or is over, when all that it was asked for has a verdict;
    - a group's verdicts count in its belief once all are there; of a rollout without one for `allocator.lease_s` another is
      issued, and after `allocator.max_attempts` it is given up as `abandoned`, so no group waits for ever. Leases count
      the time in which a producer and a verifier were at work: a run that stands still gives nothing up;
    - after a crash that tore a transaction, the groups that it left behind wait for the ends of their prompts' earlier ones.

The one source of the offsets is the topic `beliefs`: the record of each transaction holds those that all beliefs rest on
(`Commit.positions`), and nothing is committed to a consumer group. An offset is passed once what its record says is in
a belief. So after a crash, all that is in memory beyond the last transaction is read again (`allocator.recovery`).
"""

import gc
import logging
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from allocator import beliefs as belief_rules
from allocator.admission import Admission, admission_of
from allocator.forgetting import PER_VISIT
from allocator.jobs import Issuer
from allocator.ledger import Entry
from allocator.plan import Plan
from allocator.recovery import Recovery
from allocator.stream_clock import StreamClock
from prompts.sources import load_prompts
from prompts.tokens import tokenize
from stream.config import Config
from stream.errors import BadRecord, UserError
from stream.messages import TRAINING, Evaluation, Heartbeat, Prompt, Update, Verdict
from stream.run_topics import RunTopics
from stream.topics import EVALUATIONS, HEARTBEATS, TRANSACTIONAL_IDS, UPDATES, VERDICTS
from stream.watermark import Watermark
from stream.worker import Delivery, run_loop

log = logging.getLogger(__name__)

LEASE_CHECK_S = 1.0
"""How often it looks for leases that have run out, by the stream's clock."""


class Allocator:
    """Owns every group from its admission to its end."""

    def __init__(
        self,
        config: Config,
        topics: RunTopics,
        pool: Sequence[Prompt],
        token_ids: Mapping[str, NDArray[np.int32]],
        admission: Admission,
    ) -> None:
        """Take over the run as the last transaction has left it; `pool` counts as far as it has `token_ids`."""
        self._config = config
        self._topics = topics
        self._admission = admission
        # First of all: it fences an allocator that still runs, so that nothing changes any more while this one reads.
        writer = topics.broker.writer(name=f"{topics.run}.{TRANSACTIONAL_IDS['allocator']}", transactional=True)
        self.transactions = RunTopics(topics.broker, topics.run, topics.worker, writer=writer)
        self._pool = _usable(pool, token_ids, *config.least_prompts)
        self._issuer = Issuer(config.sampling, self._pool, token_ids)
        self._recovery = Recovery(config, topics)
        self.state = self._recovery.restore(self._pool)
        self._newest_plan = Plan(groups={})
        self._counters = {"reissued_rollouts": 0, "abandoned_rollouts": 0}
        self._clock = StreamClock()
        self._leases_checked_s = 0.0
        self.watermark = Watermark()
        self.reader = topics.reader(VERDICTS, UPDATES, EVALUATIONS, HEARTBEATS)
        topics.seek_all(self.reader, self._recovery.offsets)

    # -- what the loop asks -------------------------------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """Always: handling a record is quick."""
        return True

    @property
    def finished(self) -> bool:
        """All rounds are admitted, and all their groups have ended."""
        return not self.state.ledger.entries and self.state.next_round >= self._config.run.num_updates

    def handle(self, delivery: Delivery) -> None:
        """Take a verdict, an update or an evaluation; `done` once its offset may be passed."""
        held = self._recovery.hold(delivery)  # it comes again once its group is admitted
        match delivery.message:
            case Verdict() as verdict if not held:
                self._take_verdict(verdict, delivery)
            case Update() as update:
                self._take_update(update)
                if not held:
                    delivery.done()
            case Evaluation() as evaluation:
                self.state.awaited_evaluations.discard(evaluation.name)
                delivery.done()
            case Heartbeat() as heartbeat:
                if heartbeat.state == "running":
                    self._clock.note(heartbeat.worker.partition("-")[0], time.monotonic())
                delivery.done()

    def work(self) -> bool:
        """Renew the leases that have run out; admit what there is room for."""
        self._clock.advance(time.monotonic(), counts=not self.state.awaited_evaluations)
        if self._clock.now_s - self._leases_checked_s >= LEASE_CHECK_S:
            self._leases_checked_s = self._clock.now_s
            self.renew_leases(self._clock.now_s)
        if not self._admission.ready(self.state):
            return False
        plan = self._admission.plan(self.state)
        if not plan.groups:
            return False
        self._admit(plan)
        return True

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        return {
            "allocator/round": self.state.next_round,
            "allocator/groups": self.state.num_admitted,
            "allocator/open_rollouts": self.state.ledger.num_open_rollouts,
            "allocator/value": self._newest_plan.value,
            "allocator/spent": self._newest_plan.spent,
            "allocator/gap": self._newest_plan.gap,
            **{f"allocator/{name}": count for name, count in self._counters.items()},
        }

    def close(self) -> None:
        """Write what changed since the last transaction."""
        self._commit([])
        self.transactions.writer.close()

    # -- verdict -> ledger -> belief ----------------------------------------------------------------------------------

    def _take_verdict(self, verdict: Verdict, delivery: Delivery) -> None:
        job = verdict.trajectory.job
        if job.purpose == TRAINING and job.prompt.prompt_id not in self._pool:
            raise BadRecord(f"verdict of prompt {job.prompt.prompt_id!r}, which is not in this run's pool")
        entry = self.state.ledger.entries.get(job.group_id)
        if job.purpose != TRAINING or entry is None or not entry.awaits(verdict.trajectory.rollout_index):
            delivery.done()
            return
        entry.pass_offsets.append(delivery.done)
        if self.state.ledger.record(verdict) is not None:
            self._go_on(entry)

    def _go_on(self, entry: Entry) -> None:
        """All that a group was asked for has a verdict: it is asked for more, or over."""
        for piece in self.state.ledger.grow(entry, self._clock.now_s):
            if (entry.group.group_id, piece.start) not in self._recovery.issued:
                self._issuer.issue(self._topics, entry, piece, self.state.policy_version)
        if not entry.complete:
            return
        self.state.observe(entry, self._config.allocator.discount or PER_VISIT)
        for pass_offset in entry.pass_offsets:
            pass_offset()
        entry.pass_offsets.clear()

    def _take_update(self, update: Update) -> None:
        for end in update.groups:
            entry = self.state.ledger.entries.get(end.group_id)
            if entry is not None and not entry.group.ended:
                self.state.believe(belief_rules.end(self.state.beliefs[entry.prompt_id]))
        self.state.evidence.advance(update.version)

    # -- belief -> plan -> jobs ---------------------------------------------------------------------------------------

    def _admit(self, plan: Plan) -> None:
        self.state.pace, self._newest_plan = plan.pace, plan
        self._commit(self.state.admit_all(plan.groups, self._clock.now_s))
        groups = list(plan.groups.values())
        log.info(
            "admitted round=%d rollouts=%d spent=%.10g value=%.6g gap=%.2g",
            groups[-1].round,
            sum(group.num_rollouts for group in groups),
            plan.spent,
            plan.value,
            plan.gap,
        )
        for delivery in self._recovery.release(self.state):
            self.handle(delivery)

    def _commit(self, admitted: Sequence[Entry]) -> None:
        """One transaction: the jobs of these groups, all beliefs that changed, and the offsets that they rest on."""
        offsets = self.watermark.offsets()
        with self.transactions.writer.transaction():
            for entry in admitted:
                issued = self.state.issued(entry.prompt_id)
                for piece in entry.slices:
                    if not issued.issuperset(range(piece.start, piece.stop)):
                        self._issuer.issue(self.transactions, entry, piece, self.state.policy_version)
            self._recovery.write_beliefs(self.transactions, self.state, offsets)

    # -- leases -------------------------------------------------------------------------------------------------------

    def renew_leases(self, now_s: float) -> None:
        """Issue again, or give up, the rollouts that have been without a verdict for too long.

        Args:
            now_s: seconds of the stream's clock.

        """
        table = self._config.allocator
        for entry, piece in self.state.ledger.overdue(now_s, table.lease_s):
            missing = entry.missing(piece)
            piece.attempt, piece.issued_s = piece.attempt + 1, now_s
            given_up = piece.attempt >= table.max_attempts
            self._counters["abandoned_rollouts" if given_up else "reissued_rollouts"] += len(missing)
            what, group_id = "abandoned" if given_up else "issued again", entry.group.group_id
            log.warning("%s group=%s rollouts=%s attempt=%d", what, group_id, missing, piece.attempt)
            for rollout_index in missing:
                if given_up:
                    self._issuer.give_up(self._topics, entry, rollout_index, table.max_attempts)
                else:
                    rollouts = range(rollout_index, rollout_index + 1)
                    self._issuer.issue(self._topics, entry, piece, self.state.policy_version, rollouts)


def _usable(
    pool: Sequence[Prompt], token_ids: Mapping[str, NDArray[np.int32]], keys: str, least: int
) -> dict[str, Prompt]:
    """The prompts that are short enough, by id.

    Raises:
        UserError: fewer than `least`, which `keys` say that an update takes.

    """
    usable = {prompt.prompt_id: prompt for prompt in pool if prompt.prompt_id in token_ids}
    if len(usable) < least:
        raise UserError(
            f"{len(usable)} prompts are short enough; want at least {keys}, which is {least}: raise "
            "prompts.max_prompt_tokens, or add prompts"
        )
    return usable


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the allocator to its end."""
    pool, _heldout = load_prompts(config)
    role = Allocator(config, topics, pool, tokenize(pool, config), admission_of(config))
    gc.freeze()  # beliefs stay as long as the process: no search for garbage needs to look at them
    run_loop(role, topics, role.reader, stop, watermark=role.watermark)
