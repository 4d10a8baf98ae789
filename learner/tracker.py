"""The tracker as a process: updates and evaluations in, figures out to the sinks that `tracking.to` names.

It follows the log like any other role, so training never waits for a service, a run that ended long ago can be tracked,
and a tracker that was restarted goes on where it was. `python -m learner.tracker CONFIG`. Imports no torch.
"""

import sys
import threading
from collections.abc import Mapping, Sequence

from learner.sinks import Sinks
from stream.config import Config
from stream.launch import run_role
from stream.messages import Evaluation, Update
from stream.topics import EVALUATIONS, UPDATES
from stream.worker import Delivery, Log, run_loop


class Tracker:
    """Sends every update's and evaluation's figures on, once unless it is killed."""

    def __init__(self, config: Config, stream: Log, sinks: Sinks) -> None:
        self._sinks = sinks
        self._stream = stream
        self._step = 0
        self._count = 0
        self._steps = {update.version: update.step for update in stream.read_all(UPDATES)}
        table = config.evaluator
        self._awaited = {"heldout", *table.sets, *(["pool"] if table.pool else [])} if table.enabled else set[str]()
        self._awaited -= {evaluation.name for evaluation in stream.read_all(EVALUATIONS) if evaluation.final}
        self._is_over = any(update.final for update in stream.read_all(UPDATES))
        self.reader = stream.reader(UPDATES, EVALUATIONS, consumer_group="tracker")

    @property
    def wants_input(self) -> bool:
        """Always."""
        return True

    @property
    def finished(self) -> bool:
        """The last update and the last evaluations are sent."""
        return self._is_over and not self._awaited and self._is_at_the_end()

    def handle(self, delivery: Delivery) -> None:
        """An update or an evaluation."""
        message = delivery.message
        if isinstance(message, Update):
            self._step = message.step
            self._steps[message.version] = message.step
            self._is_over |= message.final
            self._sinks.write(message.step, {"learner/version": float(message.version), **message.metrics})
        else:
            if message.final:
                self._awaited.discard(message.name)
            self._sinks.write(self._steps.get(message.policy_version, 0), evaluation_figures(message))
        self._count += 1
        delivery.done()

    def work(self) -> bool:
        """Nothing beside the records."""
        return False

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        return {"tracker/records": self._count, "tracker/step": self._step}

    def close(self) -> None:
        """Return when all is sent."""
        self._sinks.close()

    def _is_at_the_end(self) -> bool:
        ends = {topic.of(self._stream.run): topic for topic in (UPDATES, EVALUATIONS)}
        positions = self.reader.positions()
        return bool(positions) and all(
            positions.get((name, partition), 0) >= end
            for name in ends
            for partition, end in self._stream.broker.end_offsets(name).items()
        )


def evaluation_figures(evaluation: Evaluation) -> dict[str, float]:
    """Figures of an evaluation: accuracy, pass@k and so on of its set."""
    figures = {"accuracy": evaluation.accuracy, **evaluation.metrics}
    return {f"evaluation/{evaluation.name}/{name}": value for name, value in figures.items()}


def run(config: Config, stream: Log, stop: threading.Event) -> None:
    """Run the tracker until the run is over."""
    role = Tracker(config, stream, Sinks(config))
    run_loop(role, stream, role.reader, stop, commits=True, poll_s=0.2)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the process; returns its exit code."""
    return run_role("tracker", run, argv)


if __name__ == "__main__":
    sys.exit(main())
