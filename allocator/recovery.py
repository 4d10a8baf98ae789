"""Brings the allocator back after a crash, and writes what its next life needs for that.

Beliefs, updates and jobs in; the state as of the last transaction out, and the offsets to read on from. What came after
that transaction is in the log still, and is read again.

A transaction (jobs, beliefs, offsets) should become visible as a whole or not at all. Brokers were found to tear some
(Jepsen on Bufstream 0.1.0, 2024: the protocol before KIP-890), so no law rests on it:
    - offsets are in the record of the beliefs that rest on them, so they cannot part;
    - jobs without their belief are found as partial groups, and admitted as they are; records of them are held until then;
    - a belief without its jobs has slices whose lease runs out, so they are issued again;
    - beliefs are written twice, by the transaction that changes them and by the next one.
"""

import gc
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from allocator.beliefs import next_group_id
from allocator.evidence import Evidence
from allocator.forgetting import PER_VERSION
from allocator.ledger import Ledger
from allocator.prompt_queue import PromptQueue
from allocator.state import PartialGroup, State
from stream.broker import Offsets, Record
from stream.codec import decode
from stream.config import Config
from stream.errors import BadRecord, UserError
from stream.messages import TRAINING, Belief, Commit, Job, OpenGroup, Position, Prompt, Update, Verdict
from stream.run_topics import RunTopics
from stream.snapshot import Snapshot, decode_or_none
from stream.topics import BELIEFS, EVALUATIONS, JOBS, UPDATES
from stream.worker import Delivery

log = logging.getLogger(__name__)

NEWEST_UPDATES = 8
"""Updates that are read again at the start, for the newest version: some offsets hold no record."""
NEWEST_ROUNDS = 4
"""Rounds' worth of newest jobs that are looked through for partial groups."""
MIN_SLOTS = 16
"""Slots for records of beliefs; more where a pool has more rounds' worth of prompts. Few are little to keep, many to repeat."""
MOST_BELIEFS = 8192
"""Beliefs that a transaction puts into one record, beside those that it repeats: some 4 MB."""


class Recovery:
    """What one life of the allocator leaves to the next, and takes over from the last."""

    def __init__(self, config: Config, topics: RunTopics) -> None:
        self._config = config
        self._topics = topics
        self.offsets: Offsets = {}
        """Where to read on, as of the last transaction of the life before."""
        self._newest_jobs: list[Job] = []
        self.issued: set[tuple[str, int]] = set()
        """Group id and start of slices behind a group's first that the log asks for already."""
        self._unbelieved: set[str] = set()
        """Ids of the groups whose jobs are in the log, though no belief tells of them."""
        self._held: list[Delivery] = []
        self._just_written: set[str] = set()
        self._slot = -1
        """Of the last transaction."""
        self._slots = np.zeros(0, np.int32)
        """That which holds the newest belief of each prompt, in the order of the pool; -1 for none. [M]"""

    # -- coming back --------------------------------------------------------------------------------------------------

    def restore(self, pool: Mapping[str, Prompt]) -> State:
        """The state as of the last transaction."""
        with _uncollected():
            state = self._restored(pool)
        if awaited := self._config.evaluator.awaited:
            published = {evaluation.name for evaluation in self._topics.read_all(EVALUATIONS)}
            state.awaited_evaluations = set(awaited - published)
        for update in self._topics.read_all(UPDATES, newest=NEWEST_UPDATES):
            state.evidence.advance(update.version)
        table, run = self._config.allocator, self._config.run
        most_jobs = run.budget
        if not self._config.counts_rollouts:
            most_jobs = run.prompts_per_update * -(-table.max_rollouts // table.slice_rollouts)
        self._newest_jobs = self._topics.read_all(JOBS, newest=NEWEST_ROUNDS * most_jobs)
        self.issued = {(job.group_id, job.start) for job in self._newest_jobs if job.start}
        self._find_partial_groups(state)
        if state.num_admitted or state.partial_groups:
            log.info(
                "restored round=%d open_groups=%d partial_groups=%d",
                state.next_round,
                len(state.ledger.entries),
                len(state.partial_groups),
            )
        return state

    def _restored(self, pool: Mapping[str, Prompt]) -> State:
        beliefs, last = self._read_beliefs(pool)
        table, sampling = self._config.allocator, self._config.sampling
        open_groups = [belief.open_group for belief in beliefs.values() if belief.open_group is not None]
        unobserved = [group for group in open_groups if not group.observed]
        state = State(
            beliefs=beliefs,
            evidence=Evidence(
                list(pool.values()),
                table.prior,
                most_tokens=sampling.max_tokens,
                per_version=() if table.discount else PER_VERSION,
            ),
            ledger=Ledger(table.slice_rollouts, self._topics.num_partitions(JOBS)),
            queue=PromptQueue(beliefs, self._config.run.seed),
            prompts_per_update=self._config.run.prompts_per_update,
            rollouts_per_update=self._config.run.budget if self._config.counts_rollouts else None,
            num_admitted=sum(belief.num_groups for belief in beliefs.values()),
            num_admitted_rollouts=sum(belief.num_rollouts for belief in beliefs.values()),
            num_completed=sum(belief.num_groups for belief in beliefs.values()) - len(unobserved),
            num_completed_rollouts=sum(belief.num_rollouts for belief in beliefs.values())
            - sum(group.num_rollouts for group in unobserved),
            pace=last.pace,
        )
        state.evidence.note_all(beliefs.values())
        state.evidence.scores.restore(last.losses, max(belief.faded_at for belief in beliefs.values()))
        for belief in beliefs.values():
            if belief.open_group is not None:
                state.ledger.open(belief.prompt_id, belief.open_group, 0.0)  # the stream's clock begins
        return state

    def _read_beliefs(self, pool: Mapping[str, Prompt]) -> tuple[dict[str, Belief], Commit]:
        """The newest of every prompt, and the last transaction.

        Raises:
            UserError: an older version of Rucksack has written them.

        """
        beliefs = {prompt_id: Belief(prompt_id=prompt_id) for prompt_id in pool}
        last, slots = Commit(slot=-1, beliefs=(), positions=(), losses=()), dict.fromkeys(pool, -1)
        for batch in Snapshot(self._topics.broker, self._topics.run, [BELIEFS]):
            for record in batch:
                commit: Commit | None = decode_or_none(record, BELIEFS)
                if commit is None:
                    _refuse_older(record)
                    continue
                newest = {belief.prompt_id: belief for belief in commit.beliefs if belief.prompt_id in pool}
                beliefs.update(newest)
                slots.update(dict.fromkeys(newest, commit.slot))
                last = commit
        self.offsets = {(at.topic, at.partition): at.offset for at in last.positions}
        self._slot, self._slots = last.slot, np.fromiter(slots.values(), np.int32)
        return beliefs, last

    # -- partial groups -----------------------------------------------------------------------------------------------

    def hold(self, delivery: Delivery) -> bool:
        """Keep a record that concerns a partial group until the group is admitted; whether it does.

        Its offset is not passed before that: the record is not `done`.
        """
        match delivery.message:
            case Verdict() as verdict:
                concerned = verdict.trajectory.job.group_id in self._unbelieved
            case Update() as update:
                concerned = any(end.group_id in self._unbelieved for end in update.groups)
            case _:
                concerned = False
        if concerned:
            self._held.append(delivery)
        return concerned

    def release(self, state: State) -> list[Delivery]:
        """The partial groups of the state are admitted: find those of the next round, and hand out what was held."""
        self._find_partial_groups(state)
        held, self._held = self._held, []
        return held

    def _find_partial_groups(self, state: State) -> None:
        self._newest_jobs = [job for job in self._newest_jobs if _is_unbelieved(job, state.beliefs)]
        self._unbelieved = {job.group_id for job in self._newest_jobs}
        state.partial_groups = partial_groups(self._newest_jobs, state.beliefs)

    # -- beliefs ------------------------------------------------------------------------------------------------------

    def write_beliefs(self, topics: RunTopics, state: State, offsets: Offsets) -> None:
        """Write what changed since the last transaction, and again what that one wrote, as a part of the open one.

        Args:
            offsets: what has been read since the start, as far as it is in the beliefs.

        """
        ids, indices = state.evidence.prompt_ids, state.evidence.indices
        written = sorted(self._just_written | state.changed)
        positions = tuple(
            Position(topic=topic, partition=partition, offset=offset)
            for (topic, partition), offset in {**self.offsets, **offsets}.items()
        )
        num_slots = max(MIN_SLOTS, len(ids) // min(state.groups_per_update, MOST_BELIEFS // 2))
        slots = [(self._slot + 1 + part) % num_slots for part in range(-(-len(written) // MOST_BELIEFS) or 1)]
        for part, slot in enumerate(slots):
            self._slots[indices(written[part * MOST_BELIEFS : (part + 1) * MOST_BELIEFS])] = slot
        told = set[str]()
        for slot in slots:
            in_slot = [ids[index] for index in np.flatnonzero(self._slots == slot)]
            commit = Commit(
                slot=slot,
                beliefs=tuple(state.beliefs[prompt_id] for prompt_id in in_slot),
                positions=positions,
                losses=tuple(state.evidence.scores.losses.tolist()),
                pace=state.pace,
            )
            topics.send(BELIEFS, str(slot), commit)
            told.update(in_slot)
        self._slot = slots[-1]
        self._just_written, state.changed = told - (self._just_written - state.changed), set()


def partial_groups(unbelieved: Iterable[Job], beliefs: Mapping[str, Belief]) -> dict[str, PartialGroup]:
    """The next group, by prompt id, of each prompt that has such jobs."""
    groups: dict[str, PartialGroup] = {}
    for job in unbelieved:
        prompt_id = job.prompt.prompt_id
        if job.budgeting is None or job.group_id != next_group_id(beliefs[prompt_id]):
            continue
        group = OpenGroup(
            group_id=job.group_id, num_rollouts=job.num_rollouts, round=job.round, budgeting=job.budgeting
        )
        issued = groups[prompt_id].issued if prompt_id in groups else frozenset()
        groups[prompt_id] = PartialGroup(group=group, issued=issued | set(range(job.start, job.stop)))
    return groups


def _is_unbelieved(job: Job, beliefs: Mapping[str, Belief]) -> bool:
    """Whether a group for training has a job, but is not in its prompt's belief."""
    belief = beliefs.get(job.prompt.prompt_id)
    if belief is None or job.purpose != TRAINING:
        return False
    following = next_group_id(belief)
    return (len(job.group_id), job.group_id) >= (len(following), following)  # ids end in numbers


def _refuse_older(record: Record) -> None:
    """Raise UserError for a belief as it was written before `Commit`: the run would begin anew, unnoticed."""
    try:
        decode(record.value, Belief)
    except BadRecord:
        return  # no allocator has written it
    raise UserError(
        f"{record.topic} was written by an older version of Rucksack: go on with that one, or choose another run.name"
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage among millions of objects that are being made to stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
