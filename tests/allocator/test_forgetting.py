"""Counts that fade, and the rule of forgetting that forecasts best."""

import numpy as np
import pytest
from factories import make_prompt
from hypothesis import given
from hypothesis import strategies as st

from allocator.beliefs import admit, end, observe
from allocator.evidence import Evidence
from allocator.forgetting import MEMORY, PER_VERSION, Scores, faded, with_group
from stream.messages import Belief, Budgeting, OpenGroup

NO_REASON = Budgeting(mode="", success_rate=-1.0, num_observed=0, value=0.0, price=0.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 4)), max_size=8))
def test_counts_are_sums_of_groups_discounted_by_the_versions_since(groups: list[tuple[int, int, int]]) -> None:
    counts: tuple[float, ...] = ()
    trials, correct, version = np.zeros(5), np.zeros(5), 0
    expected = np.zeros((2, 5))
    seen = []
    for versions, right, wrong in groups:
        counts = with_group(counts, versions, right + wrong, right)
        version += versions
        seen.append((version, right, right + wrong))
    for at, right, graded in seen:
        factor = np.array(PER_VERSION) ** (version - at)
        expected += np.array([graded * factor, right * factor])
    if groups:
        assert counts == pytest.approx((*expected[0], *expected[1]))
        assert faded(counts, 3) == pytest.approx(
            (*(expected[0] * np.array(PER_VERSION) ** 3), *(expected[1] * np.array(PER_VERSION) ** 3))
        )
    assert trials.sum() == correct.sum() == 0


def test_the_rule_with_the_least_loss_of_late_is_believed() -> None:
    scores = Scores(2)
    assert scores.best == 0
    scores.note(np.array([0.1, 0.9]), 1, 1, version=0)
    assert scores.best == 1
    scores.note(np.array([0.9, 0.5]), 9, 9, version=30)  # so much later that the first hardly counts
    assert scores.best == 0
    assert scores.losses[1] == pytest.approx(-np.log(0.9) * MEMORY**30 + 9 * np.log(2))
    again = Scores(2)
    again.restore(tuple(scores.losses), 30)
    assert again.losses.tolist() == scores.losses.tolist()
    again.restore((1.0,), 30)  # of other rules: of no use
    assert again.losses.tolist() == scores.losses.tolist()


def learned(moves: bool, per_version: tuple[float, ...]) -> Evidence:
    """Evidence of 200 prompts of one level, 8 rollouts each in 12 versions; if it moves, rates are drawn anew each time."""
    rng = np.random.default_rng(0)
    rates = rng.random(200)
    evidence = Evidence([make_prompt(f"p{number}") for number in range(200)], per_version=per_version)
    beliefs = {prompt_id: Belief(prompt_id=prompt_id) for prompt_id in evidence.prompt_ids}
    for version in range(12):
        rates = rng.random(200) if moves else rates
        evidence.advance(version)
        forecasts = evidence.forecasts(np.arange(200))
        for number, prompt_id in enumerate(evidence.prompt_ids):
            correct = float(rng.binomial(8, rates[number]))
            evidence.scores.note(forecasts[:, number], correct, 8, version)
            group = OpenGroup(group_id="g", num_rollouts=8, round=version, budgeting=NO_REASON)
            beliefs[prompt_id] = end(observe(admit(beliefs[prompt_id], group), correct, 8, version=version))
        evidence.note_all(beliefs.values())
    return evidence


def test_what_moves_is_forgotten_and_what_stands_is_remembered() -> None:
    moving, resting = learned(True, PER_VERSION).scores.losses, learned(False, PER_VERSION).scores.losses
    assert np.argmin(moving) == 1 + PER_VERSION.index(0.5)
    assert np.argmin(resting) == 1 + PER_VERSION.index(1.0)
    assert resting.min() < moving.min()


def test_a_prompt_that_is_not_visited_falls_back_to_its_level() -> None:
    evidence = Evidence([make_prompt("a"), make_prompt("b")], fixed_prior=(1.0, 1.0), per_version=PER_VERSION)
    group = OpenGroup(group_id="g", num_rollouts=8, round=0, budgeting=NO_REASON)
    belief = end(observe(admit(Belief(prompt_id="a"), group), 8.0, 8))
    evidence.note(belief)
    now = evidence.forecasts(np.array([0]))[:, 0]
    assert now == pytest.approx([9 / 10] * 6)
    evidence.advance(2)
    later = evidence.forecasts(np.array([0]))[:, 0]
    assert later == pytest.approx([9 / 10, *((1 + 8 * f**2) / (2 + 8 * f**2) for f in PER_VERSION)])


def test_beliefs_go_on_after_many_equal_visits() -> None:
    """Counts that a half per visit discounts reach 2 exactly; those per version go on changing."""
    evidence = Evidence([make_prompt("a")], fixed_prior=(1.0, 1.0), per_version=PER_VERSION)
    belief = Belief(prompt_id="a")
    for version in range(80):
        evidence.advance(version)
        group = OpenGroup(group_id="g", num_rollouts=1, round=version, budgeting=NO_REASON)
        belief = end(observe(admit(belief, group), 1.0, 1, version=version))
        evidence.note(belief)
    fresh = Evidence([make_prompt("a")], fixed_prior=(1.0, 1.0), per_version=PER_VERSION)
    fresh.advance(79)
    fresh.note(belief)
    assert evidence.forecasts(np.array([0]))[:, 0].tolist() == fresh.forecasts(np.array([0]))[:, 0].tolist()
    assert evidence.forecasts(np.array([0]))[1:, 0].min() > 0.7
