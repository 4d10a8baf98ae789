"""Runs the learner: puts verdicts together to groups, makes an update of every few groups, publishes the weights.

    verdicts --> Assembler --complete groups--> Trainer.update (on a thread) --> Publications --+--> weights: what changed
                     |                               |                                          +--> policies, updates
                     +--open groups, offsets--> checkpoint <--parameters, optimizer

What blocks it, and what unblocks it:
    - an update waits for `prompts_per_update` complete groups (with the advantage `belief` and in mode `sequential`, for as many
      as hold `rollouts_per_update` rollouts), and for those that would be older than `max_staleness` in the next one
      (`learner.order`); the one before it is published meanwhile, or together with it where
      publishing is the slower;
    - a checkpoint, and the end of the run, wait until every version made is announced;
    - newer policies than the base's are withheld until the base is evaluated (`evaluator.await_base`); updates go on;
    - a group waits for its last verdict; of a rollout that is lost the allocator issues another, or gives it up
      (`abandoned`), so no group waits for ever;
    - reading pauses while groups for MAX_READY_UPDATES updates are complete and the next one is among them;
    - publishing raises Fenced once a newer learner of the run is active: this one ends.

What has been consumed is in the checkpoint, not in Kafka: after a crash the learner resumes from the newest one, reads on
from there, and trains again what came after it, in a new lineage (law 2). Versions continue after the highest on the log,
so none is ever used twice.
"""

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import torch

from learner import checkpoint, ranks
from learner.changes import ChangeFinder, published_dtype
from learner.groups import Assembler, Group, group_end
from learner.metrics import batch_metrics
from learner.model import load_model
from learner.order import TrainingOrder
from learner.presets import objective_of
from learner.publications import Publications
from learner.publisher import publisher_of
from learner.recovery import recover
from learner.trainer import Trainer
from learner.weights import pick_device, save_final
from prompts.tokens import load_tokenizer
from stream.codec import decode
from stream.config import Config
from stream.errors import BadRecord
from stream.logprob_gap import REMEDY, gap_fault
from stream.messages import TRAINING, Evaluation, GroupEnd, Update, Verdict
from stream.run_topics import RunTopics
from stream.sequential import SEQUENTIAL
from stream.topics import EVALUATIONS, POLICIES, TRANSACTIONAL_IDS, UPDATES, VERDICTS
from stream.worker import Delivery, Pulse, run_loop

log = logging.getLogger(__name__)

MAX_READY_UPDATES = 4
"""Complete groups for this many updates may wait in memory before reading pauses."""
NEWEST_RECORDS = 64
"""Of `updates` and `policies`, those that are read at the start for the highest version: some offsets hold no record."""


class Learner:
    """Owns the weights."""

    def __init__(self, config: Config, topics: RunTopics, tokenizer: Any) -> None:
        self._config = config
        self._topics = topics
        self._tokenizer = tokenizer
        self._trainer = make_trainer(config)
        run = config.run
        self._by_groups = config.by_groups
        self._most_groups = run.budget if config.counts_rollouts else run.prompts_per_update
        self._assembler = Assembler()
        slack = run.max_staleness - run.rounds_ahead
        self._order = TrainingOrder(
            self._most_groups,
            None if config.mode == SEQUENTIAL else slack,  # how many rollouts its rounds have is known in the end
            counts_rollouts=config.counts_rollouts,
        )
        self._pulse = Pulse(topics)
        # Transactional for its fence: of two learners at once only the newer one makes versions known (law 2).
        writer = topics.broker.writer(name=f"{topics.run}.{TRANSACTIONAL_IDS['learner']}", transactional=True)
        self._lineage = RunTopics(topics.broker, topics.run, topics.worker, writer)
        finder = ChangeFinder(published_dtype(config))
        publisher = publisher_of(config, topics, self._trainer.model.config)
        self._publications = Publications(self._trainer, finder, publisher, self._lineage)
        self._awaited = set(config.evaluator.awaited)
        """Evaluations of the base policy that are not published yet."""
        self._evaluations = topics.reader(EVALUATIONS) if self._awaited else None
        if self._awaited:
            self._publications.withhold()
        self._step, self._version, self._num_rollouts = 0, 0, 0
        self._saved_step, self._save_due = 0, False
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._training: Future[dict[str, float]] | None = None
        self._batch: list[Group] = []
        self._ends: list[GroupEnd] = []
        self._figures: Mapping[str, float] = {}
        self._idle_since = time.monotonic()
        self._idle_s = 0.0
        self._checkpoints = config.run.path / "checkpoints"
        self.reader = topics.reader(VERDICTS)
        self._resume()

    # -- what the loop asks -------------------------------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """False while groups for the next few updates are complete, and nothing that is due is missing."""
        ready = self._assembler.ready
        return len(ready) < MAX_READY_UPDATES * self._most_groups or not self._order.arrange(ready)

    @property
    def finished(self) -> bool:
        """All updates are made and announced."""
        is_settled = self._training is None and self._publications.settled
        return self._is_last and is_settled and not self._awaited

    def handle(self, delivery: Delivery) -> None:
        """Add a verdict to its group; verdicts of evaluations are passed over."""
        verdict: Verdict = delivery.message
        if verdict.trajectory.job.purpose != TRAINING:
            return
        if not self._by_groups and not has_belief(verdict):
            raise BadRecord(
                f"the job of group {verdict.trajectory.job.group_id} holds no belief (budgeting.a and .b), which "
                "learner.advantage 'belief' measures against: an allocator that has none wrote it"
            )
        try:
            self._assembler.add(verdict)
        except ValueError as error:
            raise BadRecord(str(error)) from None

    def work(self) -> bool:
        """Announce what is published; finish an update that is done, or start the next."""
        self._follow_evaluations()
        self._publications.announce()
        if self._training is not None:
            if not self._training.done():
                return False
            self._finish_update(self._training.result())
        self._publications.begin(self._thread)
        if self._save_due and not self._publications.settled:
            return False
        if self._save_due:
            self._save()
        batch = [] if self._is_last else self._take_batch()
        if not batch:
            return False
        self._start_update(batch)
        return True

    def rest(self, seconds: float) -> None:
        """Wait until an update is made or published."""
        under_way = [future for future in (self._training, self._publications.under_way) if future is not None]
        if under_way:
            wait(under_way, seconds, FIRST_COMPLETED)
        else:
            time.sleep(seconds)

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        return {
            "learner/version": self._version,
            "learner/step": self._step,
            "learner/ready_groups": len(self._assembler.ready),
            "learner/open_groups": len(self._assembler.open),
            "learner/duplicates": self._assembler.num_duplicates,
            **self._figures,
        }

    def close(self) -> None:
        """Wait for the update under way and keep it; save the model if the run is over."""
        if self._training is not None:
            self._finish_update(self._training.result())
        self._settle("closing")
        if self._step > self._saved_step:
            self._save()
        if self.finished:
            self._publications.announce_final()
            facts = {"run": self._topics.run, "step": self._step, "version": self._version}
            facts["base"] = self._config.run.model
            weights = self._trainer.weights()
            save_final(self._trainer.model, weights, self._tokenizer, self._config.run.path / "model", facts)
        self._publications.close()
        if self._evaluations is not None:
            self._evaluations.close()
        self._thread.shutdown(wait=True)
        ranks.announce("stop")
        self._lineage.writer.close()

    def _follow_evaluations(self) -> None:
        if self._evaluations is None:
            return
        for record in self._evaluations.poll(0.0):
            try:
                self._awaited.discard(decode(record.value, Evaluation).name)
            except BadRecord as error:
                self._topics.send_to_deadletters(record, str(error))
        if not self._awaited:
            self._evaluations.close()
            self._evaluations = None
            self._publications.release()

    # -- updates ------------------------------------------------------------------------------------------------------

    def _take_batch(self) -> list[Group]:
        """The groups of the next update; [] while it has too few."""
        if not self._order.arrange(self._assembler.ready):
            return []
        # Of rollouts, what one update takes too many of, as its last group was not over, the next one takes less of.
        take = self._assembler.take_rollouts if self._config.counts_rollouts else self._assembler.take
        return take(self._order.num_wanted)

    def _start_update(self, batch: list[Group]) -> None:
        self._idle_s = time.monotonic() - self._idle_since
        self._batch = batch
        self._order.note(batch)
        run, overlong = self._config.run, self._trainer.overlong
        stale_after = run.max_staleness + self._config.learner.stale_after
        self._ends = [
            group_end(group, self._version, stale_after, overlong, group_mean=self._by_groups) for group in batch
        ]
        trained = [group for group, end in zip(batch, self._ends, strict=True) if end.ending == "trained"]
        self._training = self._thread.submit(self._trainer.update, trained, self._version, self._step)

    def _finish_update(self, metrics: dict[str, float]) -> None:
        busy_s = time.monotonic() - self._idle_since - self._idle_s
        parent, self._version, self._step = self._version, self._version + 1, self._step + 1
        self._num_rollouts += sum(end.num_rollouts for end in self._ends)
        self._training = None
        figures = batch_metrics(self._batch, self._ends) | metrics
        figures["learner/idle_share"] = self._idle_s / max(self._idle_s + busy_s, 1e-9)
        figures["learner/num_rollouts"] = float(self._num_rollouts)
        if fault := gap_fault(figures.get("learner/logprob_gap/mean"), figures.get("learner/logprob_distance")):
            log.error("%s step=%d version=%d. %s", fault, self._step, self._version, REMEDY)
        figures["learner/logprob_gap/alarm"] = float(bool(fault))
        self._add_version(parent, tuple(self._ends), figures)
        self._batch, self._ends, self._figures = [], [], figures
        self._save_due = self._save_due or self._step % self._config.learner.checkpoint_every == 0 or self._is_last
        self._idle_since = time.monotonic()

    @property
    def _is_last(self) -> bool:
        return self._step >= self._config.run.num_updates

    def _add_version(self, parent: int, ends: tuple[GroupEnd, ...], metrics: Mapping[str, float]) -> None:
        """Let the weights become known, and how they came to be."""
        self._publications.add(
            Update(
                step=self._step,
                version=self._version,
                parent_version=parent,
                groups=ends,
                metrics=metrics,
                final=self._is_last,
                created_s=time.time(),
            )
        )

    def _settle(self, state: str) -> None:
        """Return when all versions are announced.

        Raises:
            Fenced: a newer learner of this run is active.

        """
        self._publications.settle(self._thread, lambda: self._pulse.beat(state, self.metrics))

    # -- crash and resume ---------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write a checkpoint. Every update that it rests on is on the log: no surviving one can be missing there."""
        self._pulse.beat("saving", self.metrics, now=True)  # may take minutes, in which no heartbeat is sent
        progress = checkpoint.Progress(
            step=self._step,
            version=self._version,
            offsets=self.reader.positions(),
            pending=self._assembler.pending_verdicts(),
            seen=self._assembler.seen.without([group.group_id for group in self._assembler.ready]),
            num_rollouts=self._num_rollouts,
            early=dict(self._order.early),
        )
        checkpoint.save(self._checkpoints, self._trainer, progress, self._config.learner.keep_checkpoints)
        self._saved_step, self._save_due = self._step, False

    def _resume(self) -> None:
        """Load the newest checkpoint, and publish its weights under a version that is not on the log."""
        progress = checkpoint.load_newest(self._checkpoints, self._trainer)
        if progress is None:
            progress = recover(self._config, self._topics, self._trainer)
        used = [m.version for topic in (UPDATES, POLICIES) for m in self._topics.read_each(topic, NEWEST_RECORDS)]
        parent = 0
        if progress is not None:
            self._step, parent, self._num_rollouts = progress.step, progress.version, progress.num_rollouts
            self._saved_step = self._step
            num_taken = self._num_rollouts if self._config.counts_rollouts else self._step * self._most_groups
            self._order.resume(self._step, num_taken, progress.early)
            self._assembler.seen = progress.seen
            for verdict in progress.pending:
                self._assembler.add(verdict)
            self._topics.seek_all(self.reader, progress.offsets)
        self._version = max(used) + 1 if used else 0
        self._add_version(parent, (), {"learner/resumed": 1.0})
        self._settle("starting")


def has_belief(verdict: Verdict) -> bool:
    """Whether the job says what was believed of its prompt."""
    budgeting = verdict.trajectory.job.budgeting
    return budgeting is not None and budgeting.a > 0


def make_trainer(config: Config) -> Trainer:
    """The trainer of this rank, with the weights that the run starts with."""
    table = config.learner
    torch.set_num_threads(table.threads)
    torch.manual_seed(config.run.seed)
    device = pick_device(table.device)
    if ranks.under_torchrun():
        device = ranks.join(device)
    reference = load_model(config.run.model, device) if objective_of(table).kl_coef and not table.lora_rank else None
    return Trainer(load_model(config.run.model, device), table, reference)


def follow(config: Config) -> None:
    """Run a rank other than 0 to its end."""
    trainer = make_trainer(config)
    checkpoint.load_newest(config.run.path / "checkpoints", trainer)
    ranks.follow(trainer)


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the learner to its end."""
    role = Learner(config, topics, load_tokenizer(config.run.model))
    run_loop(role, topics, role.reader, stop, rest=role.rest)
