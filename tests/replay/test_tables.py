"""First records, lineage and the law, for whatever order and repetition a log may show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.tables import FirstRecords, check_law, interpolate, lineage_of, rollouts_by_version
from stream.messages import GroupEnd, Update


def _end(group_id, ending="trained", num_rollouts=4):
    return GroupEnd(
        group_id=group_id, ending=ending, num_rollouts=num_rollouts, num_graded=4, reward_sum=2.0, staleness=0
    )


def _update(version, parent, step=None, groups=(), final=False):
    return Update(
        step=version if step is None else step, version=version, parent_version=parent, groups=groups, final=final
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5))))
def test_first_records_keep_exactly_one_of_each_rollout(log):
    first = FirstRecords()
    kept = [place for place in log if first.is_first(*place)]
    assert kept == list(dict.fromkeys(log))
    assert first.num_duplicates == len(log) - len(kept)


def test_first_records_do_not_grow_with_the_rollout_index():
    first = FirstRecords()
    assert first.is_first("g", 2**62) and not first.is_first("g", 2**62)


@st.composite
def crashing_runs(draw):
    """Updates of a learner that now and then resumes from an older version of its own lineage, and that lineage."""
    log, lineage, version = [], [0], 0
    for _ in range(draw(st.integers(0, 30))):
        if draw(st.integers(0, 4)) == 0:
            lineage = lineage[: draw(st.integers(1, len(lineage)))]
        version += 1
        log.append(_update(version, lineage[-1]))
        lineage.append(version)
    return log, lineage


@given(crashing_runs(), st.randoms(use_true_random=False))
def test_lineage_is_what_the_last_update_rests_on(run, random):
    log, lineage = run
    repeated = [again for update in log for again in [update] * random.choice((1, 1, 2))]
    found = lineage_of(repeated)
    assert [update.version for update in found.surviving] == lineage[1:]
    assert {update.version for update in found.rolled_back} == {u.version for u in log} - set(lineage)
    assert found.num_duplicates == len(repeated) - len(log)
    assert found.complete


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8))))
def test_lineage_ends_for_any_records_however_broken(pairs):
    found = lineage_of([_update(version, parent) for version, parent in pairs])
    versions = [update.version for update in found.surviving]
    assert versions == sorted(set(versions))
    assert len(found.surviving) + len(found.rolled_back) == len({version for version, _ in pairs})


def test_lineage_that_lost_its_beginning_says_so():
    assert not lineage_of([_update(5, 4), _update(6, 5)]).complete


def test_a_resumed_learner_makes_no_step():
    log = [_update(1, 0), _update(2, 1), _update(3, 1, step=1), _update(4, 3, step=2, final=True)]
    found = lineage_of(log)
    assert [update.version for update in found.surviving] == [1, 3, 4]
    assert [update.version for update in found.steps] == [1, 4]
    assert (found.num_resumes, found.finished) == (1, True)


def test_a_learner_resumed_before_its_first_update_makes_no_step():
    assert lineage_of([_update(1, 0, step=0)]).steps == ()


@given(st.sets(st.integers(0, 20)), st.lists(st.integers(0, 20)), st.booleans())
def test_law_accounts_for_every_group(admitted, ended, finished):
    law = check_law({str(group) for group in admitted}, [_end(str(group)) for group in ended], finished=finished)
    assert law.num_admitted == len(admitted)
    assert len(law.open) + law.num_ended - len(law.unknown) == len(admitted)
    assert sum(law.endings.values()) == len(ended)
    exact = sorted(ended) == sorted(admitted)
    assert law.holds == (exact if finished else len(set(ended)) == len(ended) and set(ended) <= admitted)


def test_open_groups_of_a_finished_run_are_lost():
    law = check_law({"a", "b"}, [_end("a")], finished=True)
    assert (law.num_lost, law.open, law.holds) == (1, ("b",), False)
    assert check_law({"a", "b"}, [_end("a")], finished=False).num_lost == 0


def test_rollouts_add_up_along_the_lineage():
    log = [_update(1, 0, groups=(_end("a", num_rollouts=8),)), _update(2, 1), _update(5, 2, groups=(_end("b"),))]
    assert rollouts_by_version(log) == {0: 0, 1: 8, 2: 8, 5: 12}


@pytest.mark.parametrize(("at", "value"), [(0, 1.0), (5, 2.0), (10, 3.0), (15, 3.0), (21, None), (-1, None)])
def test_interpolation_stays_inside_its_points(at, value):
    assert interpolate([(0, 1.0), (10, 3.0), (20, 3.0)], at) == value
