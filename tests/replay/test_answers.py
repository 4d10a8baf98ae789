"""Where a run's correct answers were found, what hangs on a rule and what timed out, read back from its topics."""

import pytest
from factories import make_job, make_prompt, make_verdict
from msgspec.structs import replace

from replay.answers import TaskTimeouts, answers_of, figures_of, tables_of
from replay.load import RunData, read_run
from replay.report import render
from replay.summary import figures, summarize
from stream.memory import MemoryBroker
from stream.messages import FoundBy, Outcome, Rule
from stream.run_topics import RunTopics
from stream.topics import TOPICS, VERDICTS


class Run:
    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.broker.create_topics("r", TOPICS, 2)
        self.topics = RunTopics(self.broker, "r", "verifier-0")
        self.number = 0

    def put(
        self,
        times: int,
        outcome: Outcome,
        found_by: FoundBy = "",
        rule: Rule = "",
        task: str = "sum",
        purpose: str = "train",
    ) -> None:
        for _ in range(times):
            self.number += 1
            group_id = f"p{self.number}.0000"
            job = make_job(group_id, prompt=make_prompt(f"p{self.number}", task=task), purpose=purpose)
            verdict = make_verdict(job=job, reward=float(outcome == "correct"), outcome=outcome)
            self.topics.send_of_group(VERDICTS, group_id, replace(verdict, found_by=found_by, rule=rule))

    def read(self) -> RunData:
        return read_run(self.broker, "r")


@pytest.fixture
def run() -> Run:
    return Run()


def test_correct_answers_are_told_by_where_they_were_found(run: Run) -> None:
    run.put(7, "correct", "box")
    run.put(2, "correct", "stated")
    run.put(1, "correct", "last")
    run.put(5, "wrong", "stated")
    run.put(3, "correct", "stated", purpose="eval:heldout")
    answers = answers_of(run.read())
    assert list(answers.correct_by.items()) == [("box", 7), ("stated", 2), ("last", 1)]
    assert answers.prose_share == pytest.approx(0.3)
    shown = dict(figures(summarize(run.read())))
    assert shown["correct answers found by"] == "box 70.0%, stated 20.0%, last 10.0%"
    assert shown["WARNING"].startswith("30.0% of the correct answers were found in prose alone (more than 10%)")
    page = render([run.read()])
    assert "<b>Answers in prose</b>: 30.0% of the correct answers" in page


def test_a_tenth_in_prose_is_no_reason_to_warn(run: Run) -> None:
    run.put(9, "correct", "whole")
    run.put(1, "correct", "last")
    assert "WARNING" not in dict(figures_of(answers_of(run.read())))
    assert "Answers in prose" not in render([run.read()])


def test_verdicts_that_hang_on_a_rule_are_counted(run: Run) -> None:
    run.put(2, "wrong", "box", "echo")
    run.put(3, "wrong", rule="timeout")
    run.put(1, "correct", "box")
    assert dict(figures_of(answers_of(run.read())))["verdicts that hang on a rule"] == "3 timeout, 2 echo"


def test_timeouts_are_told_by_task_whether_or_not_they_count_as_wrong(run: Run) -> None:
    run.put(8, "correct", "box", task="sum")
    run.put(2, "timeout", task="sum")
    run.put(1, "timeout", task="product")
    run.put(1, "wrong", rule="timeout", task="product")
    run.put(4, "correct", task="")
    answers = answers_of(run.read())
    assert dict(answers.tasks) == {
        "product": TaskTimeouts(2, 2, 1),
        "sum": TaskTimeouts(10, 2, 0),
        "all": TaskTimeouts(4, 0, 0),
    }
    assert dict(figures_of(answers))["timeouts by task"] == "product 100.0%, sum 20.0%"
    assert "<td>product</td><td>2</td><td>2</td><td>100.00%</td><td>1</td>" in tables_of(answers)


def test_a_run_without_verdicts_has_nothing_to_say(run: Run) -> None:
    answers = answers_of(run.read())
    assert (figures_of(answers), answers.prose_share, dict(answers.tasks)) == ([], 0.0, {})
