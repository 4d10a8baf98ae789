"""Turns a run's messages into the figures that people look at while it goes on. No clock, no terminal, no Kafka.

The figures come from `updates`, `evaluations` and `heartbeats` alone, so they are those of the run, not of this process:
a resumed run shows where it is.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from replay.alarms import Alarm, Signs, alarms_of
from stream.messages import UNGRADED, Evaluation, Heartbeat, Update
from stream.metrics import MAY_BE_SILENT

RATE_WINDOW_S = 15.0
CLOCKS_AGREE_S = 5.0
"""A heartbeat further than this from the others' comes from a clock that is set differently, or has jumped."""
COUNTERS = ("producer/rollouts", "producer/tokens")


@dataclass(frozen=True, slots=True)
class Share:
    """Answers without a real grade, among all verdicts."""

    num_ungraded: int
    num_verdicts: int


@dataclass(slots=True)
class Board:
    """The state of a run as the screen shows it."""

    run: str
    num_updates: int
    step: int = 0
    update: Update | None = None
    """The newest one that ended groups."""
    rewards: list[float] = field(default_factory=list)
    """Mean reward of each update."""
    heldout: list[tuple[int, float]] = field(default_factory=list)
    """(policy version, accuracy) of each evaluation of the held-out set."""
    pool: list[tuple[int, float]] = field(default_factory=list)
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    """By worker."""
    lag: dict[str, int] = field(default_factory=dict)
    """Topic to records that its consumer group has not finished."""
    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0.0))
    """Rollouts and tokens since this board began."""
    _now_s: float = 0.0
    """Time of the run: it advances with the heartbeats, not with a machine's clock."""
    _shifts: dict[str, float] = field(default_factory=dict)
    """By worker, what to add to its machine's clock to get the run's time."""
    _heard_s: dict[str, float] = field(default_factory=dict)
    """By worker, when its newest heartbeat came."""
    _samples: deque[tuple[float, dict[str, float]]] = field(default_factory=deque)
    _steps: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=40))

    def note(self, message: object) -> None:
        """Take a message of the run."""
        if isinstance(message, Heartbeat):
            self._note_heartbeat(message)
        elif isinstance(message, Update):
            self._note_update(message)
        elif isinstance(message, Evaluation) and message.name in ("heldout", "pool"):
            series = self.heldout if message.name == "heldout" else self.pool
            series.append((message.policy_version, message.accuracy))

    def _note_heartbeat(self, heartbeat: Heartbeat) -> None:
        before = self.heartbeats.get(heartbeat.worker)
        self.heartbeats[heartbeat.worker] = heartbeat
        same = before is not None and before.pid == heartbeat.pid
        for key in COUNTERS:
            was = before.metrics.get(key, 0.0) if before is not None and same else 0.0
            # A restarted worker counts from 0, and one seen for the first time may have counted for long.
            if before is not None:
                self.totals[key] += max(0.0, heartbeat.metrics.get(key, 0.0) - was)
        self._heard_s[heartbeat.worker] = self._now_s = max(self._now_s, self._time_of(heartbeat))
        self._samples.append((self._now_s, dict(self.totals)))
        while self._now_s - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()

    def _time_of(self, heartbeat: Heartbeat) -> float:
        """When it was sent, in the run's time."""
        at = heartbeat.created_s + self._shifts.get(heartbeat.worker, 0.0)
        if abs(at - self._now_s) <= CLOCKS_AGREE_S:
            return at
        self._shifts[heartbeat.worker] = self._now_s - heartbeat.created_s
        return self._now_s

    def _note_update(self, update: Update) -> None:
        self.step = update.step
        if not update.groups:  # a learner that resumed says so by an update without groups
            return
        self.update = update
        self.rewards.append(update.metrics.get("learner/reward/mean", 0.0))
        self._steps.append((update.created_s, update.step))

    # -- figures ------------------------------------------------------------------------------------------------------

    def rate(self, key: str) -> float:
        """A counter's growth per second over the last 15 s."""
        if len(self._samples) < 2 or self._samples[-1][0] <= self._samples[0][0]:
            return 0.0
        (start_s, start), (end_s, end) = self._samples[0], self._samples[-1]
        return (end[key] - start[key]) / (end_s - start_s)

    def figure(self, key: str) -> float | None:
        """A figure of the newest update."""
        return None if self.update is None else self.update.metrics.get(key)

    def time_left_s(self) -> float | None:
        """Seconds until the last update at the pace of the last 40 updates; None as long as there is no pace."""
        if len(self._steps) < 2:
            return None
        (start_s, start), (end_s, end) = self._steps[0], self._steps[-1]
        if end <= start:
            return None
        return (self.num_updates - end) * (end_s - start_s) / (end - start)

    def silent_s(self, worker: str, pid: int) -> float:
        """How far this process of a worker is behind the newest heartbeat of all; 0 as long as it has sent none.

        Measured against the other workers, so that none is taken for dead when the broker is away, the machine has
        slept, or a clock was set.
        """
        heartbeat = self.heartbeats.get(worker)
        if heartbeat is None or heartbeat.pid != pid or heartbeat.state in MAY_BE_SILENT:
            return 0.0
        return self._now_s - self._heard_s[worker]

    def outcomes(self) -> dict[str, int]:
        """Verdicts by outcome, over all verifiers."""
        counts: dict[str, int] = {}
        for heartbeat in self.heartbeats.values():
            for key, value in heartbeat.metrics.items():
                if key.startswith("verifier/outcome/"):
                    outcome = key.removeprefix("verifier/outcome/")
                    counts[outcome] = counts.get(outcome, 0) + int(value)
        return counts

    def ungraded(self) -> Share:
        """Answers without a grade, over all verifiers."""
        counts = self.outcomes()
        return Share(sum(counts.get(name, 0) for name in UNGRADED), sum(counts.values()))

    def alarms(self) -> list[Alarm]:
        """What is wrong with the run. Workers that hang are no alarm: the supervisor restarts them."""
        return alarms_of(
            Signs(
                outcomes=self.outcomes(),
                alarmed_tasks=self.alarmed_tasks,
                rewards=self.rewards,
                logprob_gap=self.figure("learner/logprob_gap/mean"),
                logprob_distance=self.figure("learner/logprob_distance"),
            )
        )

    @property
    def alarmed_tasks(self) -> int:
        """Tasks for which a verifier has raised an alarm."""
        return int(max((h.metrics.get("verifier/alarms", 0.0) for h in self.heartbeats.values()), default=0.0))

    def status(self) -> Mapping[str, object]:
        """The figures for `rucksack status`, ready for JSON."""
        return {
            "run": self.run,
            "step": self.step,
            "num_updates": self.num_updates,
            "heldout_accuracy": self.heldout[-1][1] if self.heldout else None,
            "heldout_accuracy_base": self.heldout[0][1] if self.heldout else None,
            "reward": self.figure("learner/reward/mean"),
            "effective_gradient_ratio_samples": self.figure("learner/effective_gradient_ratio/samples"),
            "effective_gradient_ratio_prompts": self.figure("learner/effective_gradient_ratio/prompts"),
            "staleness_mean": self.figure("learner/staleness/mean"),
            "staleness_max": self.figure("learner/staleness/max"),
            "rollouts_per_s": self.rate("producer/rollouts"),
            "tokens_per_s": self.rate("producer/tokens"),
            "lag": dict(self.lag),
            "time_left_s": self.time_left_s(),
            "alarms": [alarm.text for alarm in self.alarms()],
        }
