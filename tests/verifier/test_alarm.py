from verifier.alarm import JUDGED_AFTER, WINDOW, OutcomeAlarm


def feed(alarm: OutcomeAlarm, outcome: str, times: int, task: str = "sum") -> list[str]:
    lines = [alarm.note(task, outcome) for _ in range(times)]
    return [line for line in lines if line is not None]


def test_alarm_begins_above_the_threshold_and_is_said_once() -> None:
    alarm = OutcomeAlarm(0.05)
    assert feed(alarm, "correct", JUDGED_AFTER - 10) == []
    assert feed(alarm, "timeout", 10) == []  # 10 of 200 is the threshold, not above it
    (line,) = feed(alarm, "error", 1)
    assert line.startswith("ALARM task=sum ungraded_share=0.055 threshold=0.05")
    assert line.endswith("correct 190, error 1, timeout 10")
    assert feed(alarm, "unparsable", 20) == []
    assert alarm.alarms == {"sum"}


def test_alarm_waits_for_enough_verdicts() -> None:
    alarm = OutcomeAlarm(0.05)
    assert feed(alarm, "timeout", JUDGED_AFTER - 1) == []
    assert len(feed(alarm, "timeout", 1)) == 1


def test_alarm_ends_when_the_newest_verdicts_are_fine() -> None:
    alarm = OutcomeAlarm(0.5)
    feed(alarm, "unparsable", 300)
    assert alarm.alarms == {"sum"}
    (line,) = feed(alarm, "wrong", WINDOW)
    assert line.startswith("alarm over task=sum ungraded_share=0.500")
    assert alarm.alarms == set()


def test_tasks_are_counted_apart() -> None:
    alarm = OutcomeAlarm(0.05)
    feed(alarm, "error", 200, "bad")
    feed(alarm, "wrong", 200, "good")
    assert alarm.alarms == {"bad"}
    assert (alarm.share("bad"), alarm.share("good")) == (1.0, 0.0)
    assert alarm.totals() == {"error": 200, "wrong": 200}
