"""No token that is trained is older than run.max_staleness says, whatever the rollouts take, and none is dropped for it."""

from typing import Any

import numpy as np
import pytest
from factories import make_prompt
from hypothesis import given, settings
from hypothesis import strategies as st
from pains_line import Line, make_config

POOL = [make_prompt(f"p{number:02d}", level=f"l{number % 3}") for number in range(60)]

SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "single rollouts": {"run": {"rollouts_per_update": 12}},
    "several of a prompt": {"run": {"rollouts_per_update": 50}},
    "rounds of groups": {
        "run": {"prompts_per_update": 5, "rollouts_per_prompt": 4, "rollouts_per_update": 0},
        "learner": {"objective": "tis"},
    },
    "a stream of groups": {
        "run": {"prompts_per_update": 5, "rollouts_per_prompt": 4, "rollouts_per_update": 0},
        "learner": {"objective": "tis"},
        "allocator": {"pacing": "stream", "mode": "bayes"},
    },
}


def line_of(shape: str, staleness: int, seed: int, spread: float, *, slots: int = 10**9, waits: bool = True) -> Line:
    """Rollouts take a lognormal time with this sigma."""
    tables = SHAPES[shape]
    run = {"run": tables["run"] | {"num_updates": 8, "max_staleness": staleness}}
    config = make_config(**tables | run | {"allocator": tables.get("allocator", {}) | {"lease_s": 1e8}})
    rng = np.random.default_rng(seed)
    return Line(config, POOL, lambda job, rollout: float(rng.lognormal(0.0, spread)), slots=slots, waits=waits)


@settings(max_examples=8)
@given(
    st.sampled_from(sorted(SHAPES)),
    st.integers(0, 6),
    st.integers(0, 2**32),
    st.floats(0.0, 3.0),
    st.sampled_from([1, 3, 10, 40, 10**9]),
)
def test_staleness_stays_within_its_bound_and_every_rollout_is_trained(
    shape: str, staleness: int, seed: int, spread: float, slots: int
) -> None:
    line = line_of(shape, staleness, seed, spread, slots=slots)
    line.run()
    assert max(end.staleness for end in line.ends) <= staleness
    assert {end.ending for end in line.ends} <= {"trained", "zero_variance"}
    assert sorted(end.group_id for end in line.ends) == sorted({job.group_id for job in line.jobs})


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_a_learner_that_takes_what_comes_first_passes_the_bound(shape: str) -> None:
    line = line_of(shape, 2, 0, 1.0, waits=False)
    line.run()
    assert max(end.staleness for end in line.ends) > 2
