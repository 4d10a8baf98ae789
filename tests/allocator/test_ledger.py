from factories import make_verdict
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from allocator.ledger import Ledger
from stream.messages import Budgeting, OpenGroup

BUDGETING = Budgeting(mode="uniform", success_rate=0.5, num_observed=0, value=0.0, price=0.0)


def group_of(prompt_id: str, num_rollouts: int) -> OpenGroup:
    return OpenGroup(group_id=f"{prompt_id}.0000", num_rollouts=num_rollouts, round=0, budgeting=BUDGETING)


def test_slices_go_to_the_partition_with_the_fewest_outstanding_rollouts() -> None:
    ledger = Ledger(slice_rollouts=8, num_partitions=3)
    first = ledger.open("a", group_of("a", 20), now_s=0.0)
    assert [(s.start, s.stop, s.partition) for s in first.slices] == [(0, 8, 0), (8, 16, 1), (16, 20, 2)]
    second = ledger.open("b", group_of("b", 8), now_s=0.0)
    assert second.slices[0].partition == 2
    for rollout in range(8):
        ledger.record(make_verdict("a.0000", rollout, num_rollouts=20))
    assert ledger.open("c", group_of("c", 4), now_s=0.0).slices[0].partition == 0


def test_first_verdict_of_a_rollout_counts_and_the_last_one_completes() -> None:
    ledger = Ledger(slice_rollouts=8, num_partitions=1)
    ledger.open("a", group_of("a", 2), now_s=0.0)
    assert ledger.record(make_verdict("a.0000", 0, reward=1.0, num_rollouts=2)) is None
    assert ledger.record(make_verdict("a.0000", 0, reward=0.0, num_rollouts=2)) is None
    entry = ledger.record(make_verdict("a.0000", 1, reward=0.0, outcome="timeout", num_rollouts=2))
    assert entry is not None
    assert entry.rewards == {0: 1.0, 1: None}
    assert ledger.record(make_verdict("unknown.0000", 0)) is None


def test_only_missing_rollouts_of_an_old_slice_are_overdue() -> None:
    ledger = Ledger(slice_rollouts=2, num_partitions=1)
    entry = ledger.open("a", group_of("a", 4), now_s=0.0)
    ledger.record(make_verdict("a.0000", 0))
    ledger.record(make_verdict("a.0000", 1))
    ledger.record(make_verdict("a.0000", 3))
    assert ledger.overdue(now_s=10.0, lease_s=10.0) == []
    ((late, piece),) = ledger.overdue(now_s=10.1, lease_s=10.0)
    assert late is entry
    assert entry.missing(piece) == [2]


def test_closing_frees_what_was_outstanding() -> None:
    ledger = Ledger(slice_rollouts=8, num_partitions=2)
    ledger.open("a", group_of("a", 8), now_s=0.0)
    assert ledger.num_open_rollouts == 8
    ledger.close("a.0000")
    assert ledger.num_open_rollouts == 0
    assert ledger.open("b", group_of("b", 2), now_s=0.0).slices[0].partition == 0


def test_a_group_that_grows_is_asked_for_slices_and_is_restored_with_all_of_them() -> None:
    ledger = Ledger(slice_rollouts=2, num_partitions=1)
    reason = Budgeting(mode="sequential", success_rate=0.5, num_observed=0, value=0.0, price=0.0, a=1.0, b=1.0)
    group = OpenGroup(group_id="a.0000", num_rollouts=16, round=0, budgeting=reason)
    entry = ledger.open("a", group, now_s=0.0)
    asked = [(piece.start, piece.stop) for piece in entry.slices]
    for rollout in range(6):
        assert not entry.complete
        if ledger.record(make_verdict("a.0000", rollout, reward=0.0, num_rollouts=16)) is not None:
            asked += [(piece.start, piece.stop) for piece in ledger.grow(entry, now_s=1.0)]
    assert asked == [(0, 2), (2, 3), (3, 4), (4, 6), (6, 8), (8, 9)]
    assert (ledger.num_open_rollouts, ledger.num_reserved, ledger.num_expected(12.0)) == (9, 7, 12.0)
    ledger.record(make_verdict("a.0000", 8, reward=1.0, num_rollouts=16))
    ledger.record(make_verdict("a.0000", 7, reward=0.0, num_rollouts=16))
    assert ledger.record(make_verdict("a.0000", 6, reward=0.0, num_rollouts=16)) is entry
    assert ledger.grow(entry, now_s=2.0) == []
    assert entry.complete
    again = Ledger(slice_rollouts=2, num_partitions=1)
    again.open("a", replace(group, num_rollouts=9, observed=True), now_s=3.0)
    assert (again.num_open_rollouts, again.num_reserved, again.overdue(1e9, 1.0)) == (9, 0, [])


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["open", "observe", "end", "close"])), max_size=40))
def test_the_count_of_open_rollouts_is_their_sum(steps: list[tuple[int, str]]) -> None:
    ledger = Ledger(slice_rollouts=2, num_partitions=1)
    for number, step in steps:
        group = group_of(f"{number}", number + 1)
        entry = ledger.entries.get(group.group_id)
        if entry is None:
            was_observed, was_ended = step == "observe", step == "end"
            ledger.open(f"{number}", replace(group, observed=was_observed, ended=was_ended), now_s=0.0)
        elif step == "close":
            ledger.close(group.group_id)
        else:
            change = {"observed": True} if step == "observe" else {"ended": True}
            ledger.change(replace(entry.group, **change))
        open_entries = [entry for entry in ledger.entries.values() if not entry.group.ended]
        assert ledger.num_open_rollouts == sum(entry.num_asked for entry in open_entries)
