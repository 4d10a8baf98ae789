"""Runs the tracker: sends the figures of updates and evaluations to the services that `tracking.to` names.

    updates ------+--> handle --> Sinks: a JSONL file, TensorBoard, W&B, trackio
    evaluations --+

What blocks it, and what unblocks it:
    - a service that is slow blocks it until it answers; one that fails is given up;
    - it ends once the final update and all final evaluations are sent.

It reads the log like any other role, so training never waits for a service, a run that ended long ago can be tracked, and
a restarted tracker continues where it was: progress is committed once the figures are handed over. Imports no torch.
"""

import threading
from collections.abc import Mapping

from stream.config import Config
from stream.messages import Evaluation, Update
from stream.run_topics import RunTopics
from stream.topics import CONSUMER_GROUPS, EVALUATIONS, UPDATES
from stream.worker import Delivery, run_loop
from tracker.sinks import Sinks

NEWEST_UPDATES = 64
"""Those that are looked at for the last one at the start: some offsets hold no record."""


class Tracker:
    """Sends every update's and evaluation's figures on, once unless it is killed."""

    def __init__(self, config: Config, topics: RunTopics, sinks: Sinks) -> None:
        self._sinks = sinks
        self._topics = topics
        self._step = 0
        self._num_records = 0
        table = config.evaluator
        self._awaited = {"heldout", *table.sets, *(["pool"] if table.pool else [])} if table.enabled else set[str]()
        self._awaited -= {evaluation.name for evaluation in topics.read_all(EVALUATIONS) if evaluation.final}
        self._is_over = any(update.final for update in topics.read_each(UPDATES, NEWEST_UPDATES))
        self.reader = topics.reader(UPDATES, EVALUATIONS, consumer_group=CONSUMER_GROUPS["tracker"])

    @property
    def wants_input(self) -> bool:
        """Always."""
        return True

    @property
    def finished(self) -> bool:
        """The last update and the last evaluations are sent."""
        return self._is_over and not self._awaited and self._is_at_the_end()

    def handle(self, delivery: Delivery) -> None:
        """Send the figures of an update or an evaluation."""
        message = delivery.message
        if isinstance(message, Update):
            self._step = message.step
            self._is_over |= message.final
            self._sinks.write(message.step, {"learner/version": float(message.version), **message.metrics})
        else:
            if message.final:
                self._awaited.discard(message.name)
            self._sinks.write(message.step, evaluation_figures(message))
        self._num_records += 1
        delivery.done()

    def work(self) -> bool:
        """Nothing to do but handle records."""
        return False

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        return {"tracker/records": self._num_records, "tracker/step": self._step}

    def close(self) -> None:
        """Return once all is sent."""
        self._sinks.close()

    def _is_at_the_end(self) -> bool:
        names = [topic.of(self._topics.run) for topic in (UPDATES, EVALUATIONS)]
        positions = self.reader.positions()
        return bool(positions) and all(
            positions.get((name, partition), 0) >= end
            for name in names
            for partition, end in self._topics.broker.end_offsets(name).items()
        )


def evaluation_figures(evaluation: Evaluation) -> dict[str, float]:
    """Figures of an evaluation: accuracy, pass@k and so on, under the name of its set."""
    figures = {"accuracy": evaluation.accuracy, **evaluation.metrics}
    return {f"evaluation/{evaluation.name}/{name}": value for name, value in figures.items()}


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the tracker until the run is over."""
    role = Tracker(config, topics, Sinks(config))
    run_loop(role, topics, role.reader, stop, commits=True, poll_s=0.2)
