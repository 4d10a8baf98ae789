from hypothesis import given
from hypothesis import strategies as st

from learner.group_ids import GroupIds, id_of, parts

IDS = st.one_of(
    st.builds(id_of, st.sampled_from(["p", "q.0001", ""]), st.integers(0, 12)),
    st.sampled_from(["p", "p.", "p.1", "p.00001", "p.-001", "p.\u0661\u0661\u0661\u0661", "." + "9" * 5000]),
)


@given(st.lists(IDS), IDS)
def test_it_is_a_set(group_ids: list[str], other: str) -> None:
    made = GroupIds.of(group_ids)
    assert len(made) == len(set(group_ids))
    assert all(group_id in made for group_id in group_ids)
    assert (other in made) == (other in group_ids)


@given(st.lists(IDS), st.lists(IDS), st.lists(IDS))
def test_ids_can_be_taken_out_and_put_back(group_ids: list[str], out: list[str], back: list[str]) -> None:
    made, before = GroupIds.of(group_ids), GroupIds.of(group_ids)
    left = made.without(out)
    assert made == before
    for group_id in back:
        left.add(group_id)
    wanted = set(group_ids) - set(out) | set(back)
    assert len(left) == len(wanted)
    assert all(group_id in left for group_id in wanted)
    assert not any(group_id in left for group_id in set(out) - wanted)


def test_a_number_a_prompt_is_all_that_is_kept_in_whatever_order_they_came() -> None:
    made = GroupIds.of([id_of("p", number) for number in reversed(range(10_000))] + [id_of("q", 0)])
    assert (made.counts, made.apart) == ({"p": 10_000, "q": 1}, set())


def test_ids_that_the_allocator_does_not_make_have_no_number() -> None:
    assert parts("p.0012") == ("p", 12)
    assert parts("p.12345") == ("p", 12345)
    assert parts("p.012") == ("p.012", -1)
    assert parts("p") == ("p", -1)
