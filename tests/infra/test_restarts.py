from hypothesis import given
from hypothesis import strategies as st

from infra.restarts import Restarts


def test_the_wait_doubles_up_to_half_a_minute():
    restarts = Restarts(max_restarts=8, window_s=300, backoff_s=1)
    assert [restarts.delay_s(now) for now in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert restarts.delay_s(8) is None
    assert restarts.total == 8


def test_restarts_that_lie_behind_the_window_are_forgotten():
    restarts = Restarts(max_restarts=2, window_s=10, backoff_s=0.5)
    assert [restarts.delay_s(now) for now in (0, 1, 2)] == [0.5, 1.0, None]
    assert restarts.delay_s(11.5) == 2.0  # it may start again; it has not run for a minute since


def test_a_worker_that_ran_for_a_minute_is_back_at_once():
    restarts = Restarts(max_restarts=100, window_s=3600, backoff_s=1)
    assert [restarts.delay_s(now) for now in (0, 2, 5)] == [1, 2, 4]  # started again at 1, 4 and 9
    assert restarts.delay_s(68.9) == 8
    assert restarts.delay_s(76.9 + 60) == 1
    assert restarts.delay_s(138.0) == 2


@given(st.lists(st.floats(0, 50), max_size=60), st.integers(0, 5))
def test_never_more_than_the_limit_in_any_window(waits, limit):
    restarts, now, granted = Restarts(limit, window_s=100, backoff_s=1), 0.0, []
    for wait in waits:
        now += wait
        if restarts.delay_s(now) is not None:
            granted.append(now)
    for start in granted:
        assert sum(start <= at <= start + 100 for at in granted) <= limit


def test_how_long_a_worker_has_to_run_to_be_well_can_be_said():
    restarts = Restarts(max_restarts=100, window_s=3600, backoff_s=1, healthy_s=5)
    assert [restarts.delay_s(now) for now in (0, 5, 12)] == [
        1,
        2,
        1,
    ]  # started again at 1, 7: it ran for 4 s, then for 5
