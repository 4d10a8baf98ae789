from verifier.watch import JUDGED_AFTER, WINDOW, Watch


def feed(watch: Watch, outcome: str, times: int, task: str = "sum") -> list[str]:
    lines = [watch.note(task, outcome) for _ in range(times)]
    return [line for line in lines if line is not None]


def test_alarm_begins_above_the_threshold_and_is_said_once() -> None:
    watch = Watch(0.05)
    assert feed(watch, "correct", JUDGED_AFTER - 10) == []
    assert feed(watch, "timeout", 10) == []  # 10 of 200 is the threshold, not above it
    (line,) = feed(watch, "error", 1)
    assert line.startswith("ALARM task=sum ungraded_share=0.055 threshold=0.05")
    assert line.endswith("correct 190, error 1, timeout 10")
    assert feed(watch, "unparsable", 20) == []
    assert watch.alarms == {"sum"}


def test_alarm_waits_for_enough_verdicts() -> None:
    watch = Watch(0.05)
    assert feed(watch, "timeout", JUDGED_AFTER - 1) == []
    assert len(feed(watch, "timeout", 1)) == 1


def test_alarm_ends_when_the_newest_verdicts_are_fine() -> None:
    watch = Watch(0.5)
    feed(watch, "unparsable", 300)
    assert watch.alarms == {"sum"}
    (line,) = feed(watch, "wrong", WINDOW)
    assert line.startswith("alarm over task=sum ungraded_share=0.500")
    assert watch.alarms == set()


def test_tasks_are_counted_apart() -> None:
    watch = Watch(0.05)
    feed(watch, "error", 200, "bad")
    feed(watch, "wrong", 200, "good")
    assert watch.alarms == {"bad"}
    assert (watch.share("bad"), watch.share("good")) == (1.0, 0.0)
    assert watch.totals() == {"error": 200, "wrong": 200}
