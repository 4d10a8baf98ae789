"""Tasks with 30 times longer answers keep their share of training: they are late, and never left out."""

from collections import Counter

import numpy as np
import pytest
from factories import make_prompt
from pains_line import Line, make_config

NUM_UPDATES, PER_UPDATE = 60, 30


def line_of(staleness: int, slots: int, *, waits: bool = True) -> Line:
    """A tenth of the pool has a task with long answers; every prompt has the same turns."""
    pool = [make_prompt(f"p{n:03d}", task="long" if n % 10 == 0 else "short") for n in range(480)]
    run = {"num_updates": NUM_UPDATES, "rollouts_per_update": PER_UPDATE, "max_staleness": staleness}
    config = make_config(run=run, allocator={"mode": "uniform", "lease_s": 1e6})
    rng = np.random.default_rng(0)
    longer = {"long": 30, "short": 1}
    return Line(
        config, pool, lambda job, _: longer[job.prompt.task] * float(rng.uniform(70, 130)), slots=slots, waits=waits
    )


def rounds_of_long(line: Line) -> tuple[Counter[int], Counter[int]]:
    """Rollouts of the long task by the round that they were admitted in, and by the update that trained them."""
    admitted = Counter(dict.fromkeys(range(NUM_UPDATES), 0))
    for job in line.jobs:
        admitted[job.round] += (job.stop - job.start) * (job.prompt.task == "long" and job.attempt == 0)
    trained = Counter(dict.fromkeys(range(NUM_UPDATES), 0))
    for number, (groups, ends) in enumerate(line.updates):
        for group, end in zip(groups, ends, strict=True):
            task = next(iter(group.verdicts.values())).trajectory.job.prompt.task
            trained[number] += end.num_rollouts * (task == "long" and end.ending == "trained")
    return admitted, trained


@pytest.mark.parametrize(("staleness", "slots"), [(1, PER_UPDATE), (2, 10**9), (8, 2 * PER_UPDATE)])
def test_a_task_with_30_times_longer_answers_keeps_its_share_of_every_few_updates(staleness: int, slots: int) -> None:
    line = line_of(staleness, slots)
    line.run()
    admitted, trained = rounds_of_long(line)
    assert trained.total() == admitted.total() == pytest.approx(NUM_UPDATES * PER_UPDATE / 10, rel=0.05)
    lag, slack = 0, staleness - -(-staleness // 2)
    for number in range(NUM_UPDATES):
        lag += admitted[number] - trained[number]
        # What is behind is of the last rounds: with what was admitted before them training is even.
        assert lag <= sum(admitted[number - i] for i in range(slack))
    assert {end.ending for end in line.ends} == {"trained"}


def test_it_would_lose_most_of_its_share_if_the_learner_took_what_comes_first() -> None:
    line = line_of(8, 10**9, waits=False)
    line.run()
    admitted, trained = rounds_of_long(line)
    assert trained.total() < 0.6 * admitted.total()
    assert Counter(end.ending for end in line.ends)["stale"] > 0.4 * admitted.total()
