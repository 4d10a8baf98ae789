from hypothesis import given
from hypothesis import strategies as st

from stream.watermark import Watermark

PLACE = ("run.jobs", 0)


def test_offset_waits_for_the_lowest_unfinished_record() -> None:
    watermark = Watermark()
    for offset in range(4):
        watermark.start(PLACE, offset)
    watermark.finish(PLACE, 1)
    watermark.finish(PLACE, 3)
    assert watermark.offsets() == {PLACE: 0}
    watermark.finish(PLACE, 0)
    assert watermark.offsets() == {PLACE: 2}
    watermark.finish(PLACE, 2)
    assert watermark.offsets() == {PLACE: 4}
    assert watermark.num_pending == 0


def test_what_is_not_committed_stays_worth_committing() -> None:
    watermark = Watermark()
    watermark.start(PLACE, 7)
    assert watermark.moved() == watermark.moved() == {PLACE: 7}
    watermark.note_committed({PLACE: 7})
    assert watermark.moved() == {}
    watermark.finish(PLACE, 7)
    assert watermark.moved() == {PLACE: 8}


def test_a_record_delivered_again_holds_the_offset_back() -> None:
    watermark = Watermark()
    watermark.start(PLACE, 5)
    watermark.finish(PLACE, 5)
    watermark.note_committed({PLACE: 6})
    assert watermark.moved() == {}
    watermark.start(PLACE, 5)
    assert watermark.moved() == {PLACE: 5}


def test_an_offset_is_passed_once_all_messages_of_its_record_are_finished() -> None:
    watermark = Watermark()
    for index in range(3):
        watermark.start(PLACE, 0, index)
    watermark.start(PLACE, 1)
    for index in (2, 0):
        watermark.finish(PLACE, 0, index)
    watermark.finish(PLACE, 1)
    assert watermark.offsets() == {PLACE: 0}
    watermark.finish(PLACE, 0, 1)
    assert watermark.offsets() == {PLACE: 2}


@given(st.permutations(range(8)), st.integers(0, 8))
def test_nothing_unfinished_is_ever_passed(order: list[int], num_finished: int) -> None:
    watermark = Watermark()
    for offset in range(8):
        watermark.start(PLACE, offset)
    for offset in order[:num_finished]:
        watermark.finish(PLACE, offset)
    unfinished = sorted(order[num_finished:])
    assert watermark.offsets() == {PLACE: unfinished[0] if unfinished else 8}
