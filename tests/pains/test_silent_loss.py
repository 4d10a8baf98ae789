"""One in 500 trajectories and one in 500 verdicts vanish without a word: the run ends, and every rollout is trained."""

from collections import Counter

import numpy as np
from factories import make_prompt
from pains_line import Line, make_config


def test_a_run_that_loses_one_trajectory_and_one_verdict_in_500_ends_and_trains_all() -> None:
    pool = [make_prompt(f"p{number:03d}") for number in range(400)]
    rng = np.random.default_rng(3)
    run = {"num_updates": 30, "rollouts_per_update": 80}
    config = make_config(run=run, allocator={"lease_s": 60})
    line = Line(config, pool, lambda *_: float(rng.uniform(1, 5)), loses=lambda: bool(rng.random() < 2 / 500))
    line.run()
    assert line.num_lost >= 5
    assert sum(job.stop - job.start for job in line.jobs if job.attempt) == line.num_lost
    assert Counter(end.ending for end in line.ends).keys() == {"trained"}
    assert sum(end.num_rollouts for end in line.ends) == 30 * 80
    assert sorted(end.group_id for end in line.ends) == sorted({job.group_id for job in line.jobs})
