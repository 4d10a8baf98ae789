"""Says in plain words what is wrong with a run, and what to do: one rule for the screen, the page and the report. Pure.

`Signs` enter, figures that any of them can have; `Alarm`s leave. A sign that is not known raises no alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stream.logprob_gap import REMEDY, gap_fault
from stream.messages import UNGRADED

UNGRADED_SHARE = 0.05
"""Timeouts, errors or unparsable answers above this share of the verdicts."""
ZERO_UPDATES = 5
"""Updates in a row without any reward."""
SILENT_S = 120.0
"""A worker sends a heartbeat about every second, but a learner none during an update."""
LAG_OVER_S = 120.0
"""Consumer lag grows if it never is as low in the second half of this time as it was high in the first."""
LAG_LEAST = 200
"""Records; fewer are a moment's work."""
WORKERS_OF = {"jobs": "producers", "trajectories": "verifiers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What can be seen of a run."""

    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Verdicts by outcome."""
    alarmed_tasks: int = 0
    """Tasks for which a verifier has raised its own alarm (`verifier.alarm_share`, `verifier.max_timeout_share`)."""
    rewards: Sequence[float] = ()
    """Mean reward of each update, oldest first."""
    logprob_gap: float | None = None
    """`learner/logprob_gap/mean` of the newest update that has it."""
    logprob_distance: float | None = None
    """`learner/logprob_distance` of the newest update, where none has a gap."""
    silent_s: Mapping[str, float] = field(default_factory=dict)
    """By worker that should be at work: seconds since its newest heartbeat came."""
    lag: Sequence[tuple[float, Mapping[str, int]]] = ()
    """(seconds on any one clock, records by topic that its consumer group has not finished), oldest first."""


def newest_figure(metrics: Sequence[Mapping[str, float]], name: str) -> float | None:
    """A figure of the newest update that has it; of updates oldest first."""
    return next((update[name] for update in reversed(metrics) if name in update), None)


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong."""

    kind: str
    """`ungraded`, `zeros`, `logprob_gap`, `silent`, `down`, `lag`."""
    text: str
    remedy: str


def alarms_of(signs: Signs) -> list[Alarm]:
    """Everything that is wrong, what spoils the training first."""
    return [
        *_ungraded(signs),
        *_zeros(signs.rewards),
        *_logprob_gap(signs),
        *_silent(signs.silent_s),
        *_lag(signs.lag),
    ]


def _ungraded(signs: Signs) -> list[Alarm]:
    total = sum(signs.outcomes.values())
    counts = {name: signs.outcomes.get(name, 0) for name in UNGRADED}
    loud = any(count > UNGRADED_SHARE * total for count in counts.values())
    if not loud and not signs.alarmed_tasks:
        return []
    named = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none by now"
    text = f"{sum(counts.values()):,} of {total:,} answers got no grade ({named})"
    if signs.alarmed_tasks:
        text += f", most in {signs.alarmed_tasks} task{'s' * (signs.alarmed_tasks > 1)}"
    remedy = (
        "Their rewards say little, or are missing. Read some of them, and the verifiers' logs: unparsable answers want a "
        "clearer format in the prompt, timeouts a larger verifier.timeout_s, errors a look at the grader."
    )
    return [Alarm("ungraded", text, remedy)]


def _zeros(rewards: Sequence[float]) -> list[Alarm]:
    newest = rewards[-ZERO_UPDATES:]
    if len(newest) < ZERO_UPDATES or any(newest):
        return []
    remedy = (
        "Read some answers. If right ones are called wrong, the grader or the reference answers are at fault "
        "(`rucksack prompts check`); if none is right, the prompts are too hard for this model, or it is not told the format."
    )
    return [Alarm("zeros", f"every reward of the last {ZERO_UPDATES} updates is 0", remedy)]


def _logprob_gap(signs: Signs) -> list[Alarm]:
    fault = gap_fault(signs.logprob_gap, signs.logprob_distance)
    return [Alarm("logprob_gap", fault, REMEDY)] if fault else []


def _silent(silent_s: Mapping[str, float]) -> list[Alarm]:
    silent = {worker: seconds for worker, seconds in sorted(silent_s.items()) if seconds > SILENT_S}
    if silent and len(silent) == len(silent_s):
        text = f"no worker has sent a sign of life for {min(silent.values()):,.0f} s"
        return [Alarm("down", text, "The run is not up: `rucksack up` with the same recipe resumes it.")]
    remedy = (
        "`rucksack up` restarts a worker that hangs (up.hang_s); one that was started by itself must be started again. Its log "
        "says what it did last."
    )
    return [
        Alarm("silent", f"{worker} has sent no sign of life for {seconds:,.0f} s", remedy)
        for worker, seconds in silent.items()
    ]


def _lag(lag: Sequence[tuple[float, Mapping[str, int]]]) -> list[Alarm]:
    if not lag or lag[-1][0] - lag[0][0] < LAG_OVER_S:
        return []
    now_s, now = lag[-1]
    half_s = now_s - LAG_OVER_S / 2
    early = [counts for at_s, counts in lag if now_s - LAG_OVER_S - 5.0 <= at_s < half_s]
    late = [counts for at_s, counts in lag if at_s >= half_s]
    alarms = []
    for topic, count in now.items():
        # Work comes in rounds, so the lag goes up and down with each of them.
        highest = max((counts.get(topic, 0) for counts in early), default=0)
        lowest = min(counts.get(topic, 0) for counts in late)
        if lowest >= LAG_LEAST and lowest > highest:
            workers = WORKERS_OF.get(topic, "workers")
            text = (
                f"{workers} fall behind: {count:,} records of {topic} wait, at most {highest:,} did a minute or two ago"
            )
            remedy = f"Start more of them (`rucksack scale {workers}=N`), up to the topic's partitions, or look why they are slow."
            alarms.append(Alarm("lag", text, remedy))
    return alarms
