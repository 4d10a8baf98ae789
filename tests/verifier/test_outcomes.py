from stream.messages import Outcome
from verifier.grade import Grade
from verifier.outcomes import JUDGED_AFTER, WINDOW, Outcomes


def feed(outcomes: Outcomes, outcome: Outcome, times: int, task: str = "sum") -> list[str]:
    """Grade that many answers; returns the lines to log."""
    return [line for _ in range(times) for line in outcomes.judge(task, Grade(outcome, 0.0, "because"))[1]]


def time_out(outcomes: Outcomes, times: int = 1) -> list[Grade]:
    return [outcomes.judge("sum", Grade("timeout", 0.0, "no verdict within 2 s"))[0] for _ in range(times)]


def test_alarm_begins_above_the_threshold_and_is_said_once() -> None:
    outcomes = Outcomes(0.05)
    assert feed(outcomes, "correct", JUDGED_AFTER - 10) == []
    assert feed(outcomes, "timeout", 10) == []  # 10 of 200 is the threshold, not above it
    (line,) = feed(outcomes, "error", 1)
    assert line.startswith("ALARM task=sum ungraded_share=0.055 threshold=0.05")
    assert line.endswith("correct 190, error 1, timeout 10")
    assert feed(outcomes, "unparsable", 20) == []
    assert outcomes.alarms == {"sum"}


def test_alarm_waits_for_enough_verdicts() -> None:
    outcomes = Outcomes(0.05)
    assert feed(outcomes, "timeout", JUDGED_AFTER - 1) == []
    assert len(feed(outcomes, "timeout", 1)) == 1


def test_alarm_ends_when_the_newest_verdicts_are_fine() -> None:
    outcomes = Outcomes(0.5)
    feed(outcomes, "unparsable", 300)
    assert outcomes.alarms == {"sum"}
    (line,) = feed(outcomes, "wrong", WINDOW)
    assert line.startswith("alarm over task=sum ungraded_share=0.500")
    assert outcomes.alarms == set()


def test_tasks_are_counted_apart() -> None:
    outcomes = Outcomes(0.05)
    feed(outcomes, "error", 200, "bad")
    feed(outcomes, "wrong", 200, "good")
    assert outcomes.alarms == {"bad"}
    assert (outcomes.ungraded_share("bad"), outcomes.ungraded_share("good")) == (1.0, 0.0)
    assert outcomes.published == {"error": 200, "wrong": 200}


def test_timeouts_beyond_the_share_count_as_wrong_and_say_so() -> None:
    outcomes = Outcomes(0.5, max_timeout_share=0.1)
    feed(outcomes, "correct", 180)
    assert {grade.outcome for grade in time_out(outcomes, 20)} == {"timeout"}  # 20 of 200 is the share, not above it
    (grade,) = time_out(outcomes)
    assert (grade.outcome, grade.reward, grade.rule) == ("wrong", 0.0, "timeout")
    assert grade.reason == (
        "no verdict within 2 s; counted as wrong: 10.4% of the task's newest answers time out, "
        "more than verifier.max_timeout_share = 0.1"
    )
    assert outcomes.published == {"correct": 180, "timeout": 20, "wrong": 1}
    assert outcomes.rules == {"timeout": 1}
    assert outcomes.timeout_share("sum") == 21 / 201
    assert outcomes.alarms == {"sum"}


def test_a_task_that_answers_in_time_again_gets_its_timeouts_back() -> None:
    outcomes = Outcomes(0.5, max_timeout_share=0.1)
    feed(outcomes, "correct", 150)
    time_out(outcomes, 100)
    (line,) = feed(outcomes, "correct", WINDOW - 50)
    assert line.startswith("alarm over task=sum timeout_share=0.100 threshold=0.1")
    assert outcomes.alarms == set()
    assert time_out(outcomes)[0].outcome == "timeout"


def test_few_timeouts_and_other_tasks_are_left_alone() -> None:
    outcomes = Outcomes(1.0, max_timeout_share=0.1)
    assert {grade.outcome for grade in time_out(outcomes, JUDGED_AFTER - 1)} == {"timeout"}
    assert time_out(outcomes)[0].outcome == "wrong"
    other, _ = outcomes.judge("other", Grade("timeout", 0.0, "late"))
    assert other == Grade("timeout", 0.0, "late")


def test_without_the_option_a_timeout_is_never_wrong() -> None:
    outcomes = Outcomes(0.05)
    assert {grade.outcome for grade in time_out(outcomes, 2 * WINDOW)} == {"timeout"}
    assert outcomes.rules == {}


def test_correct_verdicts_are_counted_by_where_the_answer_was_found() -> None:
    outcomes = Outcomes(0.05)
    for found_by, outcome in (("box", "correct"), ("box", "wrong"), ("stated", "correct"), ("", "correct")):
        outcomes.judge("sum", Grade(outcome, 1.0, "", found_by))
    assert outcomes.correct_by == {"box": 1, "stated": 1}


def test_an_echo_is_wrong_or_correct_as_the_option_says_and_is_marked_either_way() -> None:
    echo = Grade("wrong", 0.0, "the gold answer is a number, this is none: '6 + 10'", "box", "6 + 10", "echo")
    refusing, evaluating = Outcomes(0.05), Outcomes(0.05, evaluates_echo=True)
    assert refusing.judge("sum", echo)[0] == echo
    grade, _ = evaluating.judge("sum", echo)
    assert (grade.outcome, grade.reward, grade.answer, grade.rule) == ("correct", 1.0, "6 + 10", "echo")
    assert grade.reason == "an expression of the gold number's value, which verifier.echo = evaluate counts"
    assert (refusing.rules, evaluating.rules) == ({"echo": 1}, {"echo": 1})
    assert evaluating.published == {"correct": 1}
