"""The time that leases are counted in: only that in which rollouts could have come."""

import logging

import pytest

from allocator.stream_clock import ALIVE_S, LONGEST_STEP_S, NEEDED, StreamClock


def run(clock: StreamClock, first_s: int, last_s: int, *roles: str) -> float:
    """Seconds first to last, ten looks a second, these roles at work; the stream's time after."""
    for tenth in range(10 * first_s, 10 * last_s + 1):
        for role in roles if tenth % 10 == 0 else ():
            clock.note(role, tenth / 10)
        clock.advance(tenth / 10)
    return clock.now_s


def test_it_runs_while_producer_and_verifier_are_at_work() -> None:
    assert run(StreamClock(), 0, 100, *NEEDED) == pytest.approx(100)
    assert run(StreamClock(), 0, 100) == 0
    assert run(StreamClock(), 0, 100, "producer", "learner") == 0


def test_a_verifier_that_is_away_for_an_hour_uses_up_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    clock = StreamClock()
    with caplog.at_level(logging.WARNING):
        run(clock, 0, 60, *NEEDED)
        run(clock, 60, 3660, "producer")
        assert clock.now_s == pytest.approx(60 + ALIVE_S, abs=0.2)
        run(clock, 3660, 3760, *NEEDED)
    assert clock.now_s == pytest.approx(160 + ALIVE_S, abs=0.3)
    said = [record.getMessage() for record in caplog.records if record.name == "allocator.stream_clock"]
    assert said == ["no verifier is at work: rollouts wait", "rollouts go on"]


def test_a_process_that_was_stopped_for_an_hour_counts_one_step() -> None:
    clock = StreamClock()
    run(clock, 0, 60, *NEEDED)
    for role in NEEDED:
        clock.note(role, 3660)  # what it finds when it goes on
    clock.advance(3660)
    assert clock.now_s == pytest.approx(60 + LONGEST_STEP_S)
