"""A rollout that never ends holds up its round for its leases, and nothing else; also right after a resume."""

import math
from collections import Counter

import pytest
from factories import make_prompt
from pains_line import Line, make_config

from stream.messages import Job

POOL = [make_prompt(f"p{number:02d}") for number in range(60)]
LEASE_S, ATTEMPTS = 60.0, 3
STUCK_FROM = 6
"""Round whose first rollout never ends."""


def line_with_a_stuck_rollout() -> Line:
    stuck: set[str] = set()

    def seconds(job: Job, rollout: int) -> float:
        if job.round == STUCK_FROM and not stuck:
            stuck.add(job.group_id)
        return math.inf if job.group_id in stuck else 1.0

    config = make_config(run={"num_updates": 15}, allocator={"lease_s": LEASE_S, "max_attempts": ATTEMPTS})
    return Line(config, POOL, seconds)


@pytest.mark.parametrize("resume_after", [None, STUCK_FROM - 1, STUCK_FROM], ids=["in the middle", "before", "after"])
def test_its_round_completes_within_its_leases_and_the_rest_is_trained(resume_after: int | None) -> None:
    line = line_with_a_stuck_rollout()
    if resume_after is not None:
        line.run(resume_after)
        line.resume()
    line.run()
    assert len(line.updates) == 15
    assert Counter(end.ending for end in line.ends) == {"trained": 15 * 16 - 1, "abandoned": 1}
    assert {end.group_id for end in line.ends} == {job.group_id for job in line.jobs}
    assert max(Counter(end.group_id for end in line.ends).values()) == 1
    (late,) = [number for number, (_, ends) in enumerate(line.updates) if any(e.ending == "abandoned" for e in ends)]
    assert late - STUCK_FROM in (0, 1)  # max_staleness 2: it may be overtaken by one update
    # A second for each round, and as long as the allocator gives a rollout; a lease is looked at a second late.
    assert line.now_s <= 15 + ATTEMPTS * (LEASE_S + 2)
