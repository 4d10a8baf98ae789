"""Sums up how a run goes: tiles, workers, alarms, and how far the index is. What the page asks for every two seconds.

An index and its follower's `Following` enter, plain dicts for JSON leave.
"""

import json
import time
from typing import Any

from replay.accuracy import HELDOUT
from replay.alarms import Alarm, Signs, alarms_of, newest_figure
from replay.watch.follow import Following
from replay.watch.index import Index
from replay.watch.views import Steps, accuracy_points, steps_of

RECENT_VERDICTS = 2000
AT_REST = ("done", "stopped", "closing", "saving")
"""States in which a worker owes no sign of life."""


def state_of(index: Index, following: Following) -> dict[str, Any]:
    """How a run goes."""
    steps = steps_of(index)
    return {
        "run": index.run,
        "finished": steps.finished,
        "num_rolled_back": steps.num_rolled_back,
        "tiles": _tiles(index, steps),
        "workers": workers_of(index),
        "letters": index.rows("SELECT count(*) FROM letters")[0][0],
        "alarms": [
            {"kind": alarm.kind, "text": alarm.text, "remedy": alarm.remedy}
            for alarm in alarms_of_run(index, following, steps)
        ],
    }


def progress_of(following: Following) -> dict[str, Any]:
    """How far the index is, and whether the broker answers."""
    return {
        "state": following.state,
        "error": following.error,
        "passed": following.passed,
        "total": following.total,
        "silent_s": round(time.monotonic() - following.answered_s, 1) if following.answered_s else None,
        "lag": following.lag[-1][1] if following.lag else {},
    }


def _tiles(index: Index, steps: Steps) -> dict[str, Any]:
    """The key figures; those that are not known are None."""
    ((num, training, tokens),) = index.rows(
        "SELECT count(*), coalesce(sum(train), 0), coalesce(sum(num_tokens * train), 0) FROM rollouts"
    )
    ((admitted,),) = index.rows("SELECT count(*) FROM groups WHERE train")
    heldout = [accuracy for _, accuracy in accuracy_points(index, steps, HELDOUT)]
    row = steps.steps[-1].row if steps.steps else {}
    return {
        "accuracy": heldout[-1] if heldout else None,
        "accuracy_before": heldout[0] if len(heldout) > 1 else None,
        "reward": row.get("reward"),
        "step": row.get("step", 0),
        "version": row.get("version", 0),
        "ratio_samples": _share(steps, "num_effective_samples", "num_graded"),
        "ratio_prompts": _share(steps, "num_effective_prompts", "num_graded_prompts"),
        "staleness_mean": row.get("staleness_mean"),
        "staleness_max": row.get("staleness_max"),
        "num_rollouts": training,
        "num_evaluation_rollouts": num - training,
        "num_tokens": tokens,
        "num_groups": admitted,
        "num_ended": sum(int(str(step.row["num_groups"])) for step in steps.steps),
    }


def _share(steps: Steps, part: str, whole: str) -> float | None:
    total = sum(int(str(step.row[whole])) for step in steps.steps)
    return sum(int(str(step.row[part])) for step in steps.steps) / total if total else None


def workers_of(index: Index) -> list[dict[str, Any]]:
    """The newest heartbeat of each worker."""
    rows = index.dicts(
        "SELECT worker, created_s, pid, host, state, metrics FROM heartbeats h "
        "WHERE stretch = (SELECT max(stretch) FROM heartbeats WHERE worker = h.worker) ORDER BY worker"
    )
    return [row | {"metrics": json.loads(row["metrics"])} for row in rows]


def alarms_of_run(index: Index, following: Following, steps: Steps) -> list[Alarm]:
    """What is wrong with a run; a run that is over, or is still being read, has no alarms about its workers."""
    outcomes = index.rows(
        "SELECT outcome, count(*) FROM (SELECT outcome FROM rollouts WHERE train ORDER BY no DESC LIMIT ?) GROUP BY outcome",
        (RECENT_VERDICTS,),
    )
    recent = [json.loads(str(step.row["metrics"])) for step in steps.steps[-20:]]
    workers = workers_of(index)
    is_on = following.state == "live" and not steps.finished
    newest_s = time.monotonic()
    return alarms_of(
        Signs(
            outcomes=dict(outcomes),
            alarmed_tasks=int(max((w["metrics"].get("verifier/alarms", 0) for w in workers), default=0))
            if is_on
            else 0,
            rewards=[float(str(step.row["reward"])) for step in steps.steps if step.row["reward"] is not None],
            logprob_gap=newest_figure(recent, "learner/logprob_gap/mean"),
            logprob_distance=newest_figure(recent, "learner/logprob_distance"),
            silent_s={
                worker["worker"]: newest_s - following.heard_s.get(worker["worker"], following.live_s)
                for worker in workers
                if is_on and worker["state"] not in AT_REST
            },
            lag=following.lag if is_on else (),
        )
    )
