import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.modes import MODES, paper, uniform

NAN = float("nan")
rates = st.lists(st.one_of(st.just(NAN), st.just(0.0), st.just(1.0), st.floats(0, 1)), min_size=1, max_size=40)


@pytest.mark.parametrize("mode", sorted(MODES))
@given(rates, st.integers(2, 5), st.integers(0, 60), st.floats(0, 1))
def test_budget_is_met_exactly_within_the_bounds(mode: str, p: list[float], low: int, extra: int, share: float) -> None:
    budget = low * len(p) + int(share * extra * len(p))
    rollouts = MODES[mode](np.array(p), budget, low, low + extra).num_rollouts
    assert rollouts.sum() == budget
    assert ((low <= rollouts) & (rollouts <= low + extra)).all()


def test_uniform_gives_the_remainder_to_the_first() -> None:
    assert uniform(np.array([0.1, NAN, 1.0]), 26, 2, 128).num_rollouts.tolist() == [9, 9, 8]


def test_paper_gives_unseen_the_mean_and_solved_the_least() -> None:
    allocation = paper(np.array([NAN, NAN, 1.0, 1.0, 0.1, 0.2]), 48, 2, 128)
    assert allocation.num_rollouts[:4].tolist() == [8, 8, 2, 2]
    assert allocation.num_rollouts[4:].sum() == 28


def test_fallback_gives_the_surplus_to_prompts_never_solved_not_to_unseen_ones() -> None:
    # Defects 4 and 5 of the published code (algorithms.md A2): unseen got 12 of 8, a hard one 386 of at most 128.
    rollouts = paper(np.array([NAN] * 2 + [0.0, 0.0] + [1.0, 1.0]), 48, 2, 128).num_rollouts
    assert rollouts.tolist() == [8, 8, 14, 14, 2, 2]
    rollouts = paper(np.array([0.0] + [1.0] * 63), 512, 2, 128).num_rollouts
    assert rollouts[0] == 128
    assert rollouts.sum() == 512


def test_all_effective_with_a_surplus_does_not_crash() -> None:
    # Defect 3: an assertion in the published code.
    assert paper(np.full(4, 0.5), 32, 2, 128).num_rollouts.tolist() == [8, 8, 8, 8]


def test_hard_prompts_get_more_than_medium_ones() -> None:
    rollouts = paper(np.array([1 / 16, 0.5] + [1.0] * 14), 128, 2, 128).num_rollouts
    assert rollouts[0] > 30
    assert rollouts[0] > rollouts[1]


@pytest.mark.parametrize("bad", [-0.1, 1.5])
def test_impossible_success_rates_are_named(bad: float) -> None:
    with pytest.raises(ValueError, match=f"success rate {bad} is outside"):
        paper(np.array([0.5, bad]), 16, 2, 128)
