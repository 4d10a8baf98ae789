import random

import pytest
from factories import make_job, make_verdict
from hypothesis import given
from hypothesis import strategies as st

from learner.groups import Assembler, Group, group_end
from stream.messages import Budgeting, Verdict
from stream.sequential import progress_of


def assemble(*verdicts: object) -> Assembler:
    assembler = Assembler()
    for verdict in verdicts:
        assembler.add(verdict)  # type: ignore[arg-type]
    return assembler


def group(*outcomes: tuple[str, float], versions: tuple[int, ...] = ()) -> Group:
    """A complete group with these outcomes and rewards."""
    size = len(outcomes)
    verdicts = {
        i: make_verdict("g", i, reward, size, outcome=outcome, version=versions[i] if versions else 0)
        for i, (outcome, reward) in enumerate(outcomes)
    }
    return Group("g", size, verdicts)


def test_groups_come_out_in_the_order_of_completion() -> None:
    assembler = assemble(
        make_verdict("a", 0, num_rollouts=2),
        make_verdict("b", 0, num_rollouts=1),
        make_verdict("a", 1, num_rollouts=2),
    )
    assert assembler.take(3) == []
    assert [g.group_id for g in assembler.take(2)] == ["b", "a"]


def test_first_verdict_counts_also_after_the_group_was_taken() -> None:
    assembler = assemble(
        make_verdict("a", 0, 1.0, 2),
        make_verdict("a", 0, 0.0, 2),
        make_verdict("a", 1, 0.0, 2),
        make_verdict("a", 1, 1.0, 2),
    )
    (taken,) = assembler.take(1)
    assert [v.reward for v in taken.graded] == [1.0, 0.0]
    assembler.add(make_verdict("a", 0, 0.0, 2))
    assert assembler.num_duplicates == 3
    assert assembler.open == {}


def test_contradicting_group_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="group a has 2 rollouts, this verdict says 3"):
        assemble(make_verdict("a", 0, num_rollouts=2), make_verdict("a", 1, num_rollouts=3))


@given(st.permutations([(g, r) for g in "abc" for r in range(3)]), st.integers(0, 9))
def test_pending_verdicts_restore_the_same_state(order: list[tuple[str, int]], cut: int) -> None:
    verdicts = [make_verdict(g, r, num_rollouts=3) for g, r in order]
    whole, before = assemble(*verdicts), assemble(*verdicts[:cut])
    restored = assemble(*before.pending_verdicts(), *verdicts[cut:])
    assert [g.group_id for g in restored.ready] == [g.group_id for g in whole.ready]
    assert restored.open == whole.open == {}


@pytest.mark.parametrize(
    ("outcomes", "ending", "graded"),
    [
        ([("correct", 1), ("wrong", 0)], "trained", 2),
        ([("correct", 1), ("correct", 1)], "zero_variance", 2),
        ([("correct", 1), ("timeout", 0)], "zero_variance", 1),
        ([("correct", 1), ("wrong", 0), ("timeout", 0)], "trained", 2),
        ([("correct", 1), ("unparsable", 0)], "trained", 2),
        ([("correct", 1), ("abandoned", 0)], "abandoned", 1),
        ([("correct", 1), ("wrong", 0), ("abandoned", 0)], "trained", 2),
        ([("error", 0), ("timeout", 0)], "zero_variance", 0),
    ],
)
def test_endings(outcomes: list[tuple[str, float]], ending: str, graded: int) -> None:
    end = group_end(group(*outcomes), version=0, stale_after=4)
    assert (end.ending, end.num_graded) == (ending, graded)


def test_staleness_counts_from_the_oldest_token_and_drops_only_beyond_the_limit() -> None:
    mixed = group(("correct", 1), ("wrong", 0), versions=(3, 5))
    assert group_end(mixed, version=7, stale_after=4).staleness == 4
    assert group_end(mixed, version=7, stale_after=4).ending == "trained"
    assert group_end(mixed, version=8, stale_after=4).ending == "stale"


@pytest.mark.parametrize(
    ("outcomes", "ending"),
    [
        ([("correct", 1)], "trained"),
        ([("correct", 1), ("correct", 1)], "trained"),
        ([("correct", 1), ("abandoned", 0)], "trained"),
        ([("abandoned", 0)], "abandoned"),
        ([("timeout", 0)], "zero_variance"),
    ],
)
def test_with_a_belief_as_the_baseline_every_graded_rollout_is_trained_on(
    outcomes: list[tuple[str, float]], ending: str
) -> None:
    assert group_end(group(*outcomes), version=0, stale_after=4, group_mean=False).ending == ending


def test_groups_are_taken_by_their_rollouts() -> None:
    assembler = Assembler()
    for name, size in (("a", 1), ("b", 3), ("c", 2)):
        for rollout in range(size):
            assembler.add(make_verdict(name, rollout, 1.0, size))
    assert assembler.take_rollouts(7) == []
    assert [g.group_id for g in assembler.take_rollouts(2)] == ["a", "b"]
    assert [g.group_id for g in assembler.take_rollouts(2)] == ["c"]
    assert assembler.take_rollouts(1) == []


def test_a_group_that_grows_is_complete_when_it_is_mixed_or_not_worth_more() -> None:
    reason = Budgeting(mode="sequential", success_rate=0.5, num_observed=0, value=0.0, price=0.0, a=1.0, b=1.0)

    def verdict(name: str, rollout: int, reward: float) -> Verdict:
        start = 0 if rollout < 2 else rollout
        job = make_job(name, 5, start=start, stop=max(2, rollout + 1), budgeting=reason)
        return make_verdict(rollout_index=rollout, reward=reward, job=job)

    assembler = Assembler()
    for name, rewards in (("a", (0, 1)), ("b", (0, 0, 0, 1)), ("c", (1, 1, 1, 1, 1)), ("d", (0, 0, 0))):
        for rollout, reward in enumerate(rewards):
            assembler.add(verdict(name, rollout, float(reward)))
    assert [(g.group_id, g.num_rollouts) for g in assembler.ready] == [("a", 2), ("b", 4), ("c", 5)]
    assert list(assembler.open) == ["d"]
    assembler.add(verdict("b", 4, 1.0))  # sampled for nothing: the group was over
    assert assembler.num_duplicates == 1
    taken = assembler.take_rollouts(5)
    assert [group_end(g, version=0, stale_after=4).num_rollouts for g in taken] == [2, 4]
    again = Assembler()
    for pending in reversed(assembler.pending_verdicts()):
        again.add(pending)
    assert [(g.group_id, g.num_rollouts) for g in again.ready] == [("c", 5)]


@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, None]), min_size=16, max_size=16), st.floats(0, 0.02), st.randoms()
)
def test_a_group_that_grows_ends_alike_in_any_order_with_timeouts_and_duplicates(
    rewards: list[float | None], price: float, chance: random.Random
) -> None:
    reason = Budgeting(mode="sequential", success_rate=0.5, num_observed=0, value=0.0, price=price, a=1.0, b=1.0)
    known: dict[int, float | None] = {}
    while not progress_of(reason, 16, known)[1]:
        known = dict(enumerate(rewards[: progress_of(reason, 16, known)[0]]))
    verdicts = [
        make_verdict(
            rollout_index=rollout,
            reward=reward or 0.0,
            outcome="timeout" if reward is None else "correct",
            job=make_job("a", 16, start=rollout, stop=rollout + 1, budgeting=reason),
        )
        for rollout, reward in known.items()
    ]
    chance.shuffle(verdicts)
    assembler = Assembler()
    for verdict in verdicts:
        assert assembler.ready == []
        assembler.add(verdict)
        assembler.add(verdict)
    (group,) = assembler.ready
    assert group.num_rollouts == len(known)
    assert len(group.graded) == sum(reward is not None for reward in known.values())
    assert assembler.num_duplicates == len(known)
    ending = group_end(group, version=0, stale_after=4).ending
    assert ending == ("trained" if len({r for r in known.values() if r is not None}) > 1 else "zero_variance")
