"""Several allocators that share one budget, as roles: exact and optimal together, whichever of them dies."""

import random
from typing import Any

import pytest
from allocator_mortal import MortalBroker
from allocator_shards import Shards
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def tables(draw: st.DrawFn, *, staleness: int = 3) -> dict[str, dict[str, Any]]:
    """Recipes of several shards: few prompts or many in a round, even parts or not, tight bounds or wide ones."""
    shards = draw(st.integers(2, 4))
    size = draw(st.integers(shards, 6 if shards < 4 else 4))
    most = 12 // (-(-size // shards) * shards) - 1
    low = draw(st.integers(2, 4))
    return {
        "run": {
            "name": "r",
            "num_updates": 4,
            "prompts_per_update": size,
            "rollouts_per_prompt": draw(st.sampled_from([4.0, 5.5, 8.0])),
            "max_staleness": draw(st.integers(0, min(staleness, max(most, 0)))),
        },
        "allocator": {
            "shards": shards,
            "mode": draw(st.sampled_from(["bayes", "p_nonzero", "variance"])),
            "min_rollouts": low,
            "max_rollouts": draw(st.sampled_from([8, 12, 128])),
            "slice_rollouts": 4,
        },
    }


@settings(max_examples=60)
@given(tables(), st.integers(0, 2**32))
def test_rounds_are_exact_and_worth_the_joint_optimum(recipe: dict[str, dict[str, Any]], seed: int) -> None:
    shards = Shards(MortalBroker(), seed, **recipe)
    shards.live([])
    shards.check()
    values = shards.values()
    assert set(values) == set(range(4))
    for found, best in values.values():
        assert found == pytest.approx(best, rel=1e-9)


@settings(max_examples=60)
@given(tables(), st.integers(0, 2**32), st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_killed_at_any_points_budgets_stay_exact(
    recipe: dict[str, dict[str, Any]], seed: int, deaths: list[int]
) -> None:
    shards = Shards(MortalBroker(), seed, **recipe)
    shards.live(deaths)
    shards.check()
    for number, (found, best) in shards.values().items():
        print("RATIO", number in shards.disturbed, found / best)
        if number not in shards.disturbed:
            assert found == pytest.approx(best, rel=1e-9)


@settings(max_examples=40)
@given(tables(), st.integers(0, 2**32), st.lists(st.integers(8, 60), min_size=1, max_size=8))
def test_torn_transactions_of_shards_neither_lose_a_group_nor_issue_one_twice(
    recipe: dict[str, dict[str, Any]], seed: int, deaths: list[int]
) -> None:
    shards = Shards(MortalBroker(torn=random.Random(seed)), seed, **recipe)
    shards.live(deaths)
    shards.check()
