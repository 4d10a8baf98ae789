"""Grades every trajectory in a worker process that can be killed: trajectories in, verdicts out.

    trajectories --> Verifier --answers--> Pool --> worker processes
                        |  <--- grades ----'
                        '--> verdicts (a group's in one partition)

- Input pauses while the pool holds `QUEUE_PER_WORKER` answers per worker, and resumes as workers finish them.
- A slow answer blocks one worker, for `verifier.timeout_s` and a second at most; then the worker is killed.
- Nothing waits for the broker: a trajectory's offset is committed once its verdict is durable.

Invariant: every trajectory gets a verdict. One that is graded again after a crash gets two; readers count the first.
"""

import logging
import threading
import time
from collections.abc import Mapping

from stream.config import Config
from stream.messages import Trajectory, Verdict
from stream.run_topics import RunTopics
from stream.topics import CONSUMER_GROUPS, TRAJECTORIES, VERDICTS
from stream.worker import Delivery, IdleClock, run_loop
from verifier.grade import Grade
from verifier.graders import grading_version
from verifier.outcomes import Outcomes
from verifier.pool import Pool

log = logging.getLogger(__name__)

QUEUE_PER_WORKER = 256
"""Answers per worker that a verifier holds: what waits here cannot be graded by another verifier."""
RECORDS_AT_ONCE = 8
"""Records, of up to 32 answers, that it takes at once."""
MAX_TASKS_SHOWN = 20
"""Tasks with figures of their own in the heartbeat."""


class Verifier:
    """Feeds a pool of workers and publishes their grades as verdicts."""

    def __init__(self, config: Config, topics: RunTopics, pool: Pool) -> None:
        self._config = config
        self._topics = topics
        self._pool = pool
        self._deliveries: dict[str, Delivery] = {}
        self._num_handled = 0
        table = config.verifier
        self._outcomes = Outcomes(table.alarm_share, table.max_timeout_share, evaluates_echo=table.echo == "evaluate")
        self._idle = IdleClock()
        self._version = grading_version()

    # -- what the loop asks -------------------------------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """Whether the pool's queue is short."""
        return self._pool.num_pending < QUEUE_PER_WORKER * self._config.verifier.workers

    @property
    def finished(self) -> bool:
        """Never: verifiers run until they are stopped."""
        return False

    def handle(self, delivery: Delivery) -> None:
        """Queue a trajectory's answer."""
        trajectory: Trajectory = delivery.message
        self._num_handled += 1
        key = str(self._num_handled)
        self._deliveries[key] = delivery
        prompt = trajectory.job.prompt
        self._pool.submit(key, prompt.grader, prompt.answer, trajectory.text)

    def work(self) -> bool:
        """Publish what the pool has finished."""
        results = self._pool.results(0.0)
        for key, grade, elapsed_s in results:
            self._publish(self._deliveries.pop(key), grade, elapsed_s)
        return bool(results)

    def rest(self, seconds: float) -> None:
        """Wait until all is graded that was handed over; if nothing was, for the whole time."""
        is_idle = self._pool.num_pending == 0
        self._idle.note(idle=False)
        if is_idle:
            time.sleep(seconds)
        else:
            self._pool.wait_for_all(seconds)
        self._idle.note(idle=is_idle)

    def metrics(self) -> Mapping[str, float]:
        """Figures for the heartbeat."""
        outcomes, shown = self._outcomes, self._outcomes.tasks[:MAX_TASKS_SHOWN]
        return {
            "verifier/verdicts": outcomes.published.total(),
            "verifier/pending": self._pool.num_pending,
            "verifier/alarms": len(outcomes.alarms),
            "verifier/idle_share": self._idle.share(),
            **{f"verifier/outcome/{outcome}": count for outcome, count in outcomes.published.items()},
            **{f"verifier/correct_by/{found_by}": count for found_by, count in outcomes.correct_by.items()},
            **{f"verifier/rule/{rule}": count for rule, count in outcomes.rules.items()},
            **{f"verifier/task/{task}/ungraded_share": outcomes.ungraded_share(task) for task in shown},
            **{f"verifier/task/{task}/timeout_share": outcomes.timeout_share(task) for task in shown},
        }

    def close(self) -> None:
        """Stop the workers; the next verifier grades again what they had."""
        self._pool.close()

    # -- verdicts -----------------------------------------------------------------------------------------------------

    def _publish(self, delivery: Delivery, grade: Grade, elapsed_s: float) -> None:
        trajectory: Trajectory = delivery.message
        grade, alarms = self._outcomes.judge(trajectory.job.prompt.task or "all", grade)
        for line in alarms:
            log.error(line)
        verdict = Verdict(
            trajectory=trajectory,
            outcome=grade.outcome,
            reward=grade.reward,
            reason=grade.reason,
            grader=trajectory.job.prompt.grader,
            grader_version=self._version,
            elapsed_s=elapsed_s,
            found_by=grade.found_by,
            answer=grade.answer,
            rule=grade.rule,
            created_s=time.time(),
        )
        self._topics.send_of_group(VERDICTS, trajectory.job.group_id, verdict, delivery.done)


def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
    """Run the verifier until stopped."""
    pool = Pool(config.verifier.workers, timeout_s=config.verifier.timeout_s)
    reader = topics.reader(TRAJECTORIES, consumer_group=CONSUMER_GROUPS["verifier"])
    role = Verifier(config, topics, pool)
    run_loop(role, topics, reader, stop, commits=True, max_records=RECORDS_AT_ONCE, rest=role.rest)
