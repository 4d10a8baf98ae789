import json
import time
from pathlib import Path

import pytest

from verifier.grade import BadGold
from verifier.graders import BUILT_IN, choice, grade, integer, reasoning_gym, regex, string
from verifier.gym import REFUSED


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [("058", "correct"), (" 058\n", "correct"), ("58", "wrong"), ("0 5 8", "wrong"), (" ", "unparsable")],
)
def test_string_is_the_whole_message(answer: str, outcome: str) -> None:
    assert string("058", answer).outcome == outcome


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("16", "correct"),
        ("\\boxed{16}", "correct"),
        ("x = 16", "correct"),
        ("The answer is 16.", "correct"),
        ("6 + 10 makes 16", "correct"),
        ("+16", "correct"),
        ("6 + 10", "wrong"),
        ("16.0", "wrong"),
        ("\\boxed{6+10}", "wrong"),
        ("\\boxed{15, 16}", "wrong"),
        ("\\boxed{17 = 16}", "wrong"),
        ("-16", "wrong"),
        ("sixteen", "unparsable"),
        ("", "unparsable"),
        ("\\boxed{}", "unparsable"),
    ],
)
def test_integer_wants_a_literal(answer: str, outcome: str) -> None:
    assert integer("16", answer).outcome == outcome


def test_integers_may_be_long_and_have_separators() -> None:
    assert integer("1,000,000", "1000000").outcome == "correct"
    assert integer("9" * 3000, "9" * 3000).outcome == "correct"
    assert integer("9" * 3000, "9" * 2999 + "8").outcome == "wrong"
    with pytest.raises(BadGold, match=r"'1\.5' is not an integer"):
        integer("1.5", "1.5")


@pytest.mark.parametrize(
    ("gold", "answer", "outcome"),
    [
        ("B", "B", "correct"),
        ("B", "(b)", "correct"),
        ("(B)", "The answer is **B**.", "correct"),
        ("B", "\\boxed{\\text{(B)}}", "correct"),
        ("B", "\\boxed{\\text{(B) } 12}", "correct"),
        ("B", "I would choose (B) as A is wrong", "correct"),
        ("B", "A seems right at first.\nB", "correct"),
        ("A, C", "A and C", "correct"),
        ("AC", "C, A", "correct"),
        ("B", "C", "wrong"),
        ("B", "A, B", "wrong"),
        ("B", "ABCD", "wrong"),
        ("B", "The answer is B. No, the answer is C.", "wrong"),
        ("A, C", "A", "wrong"),
        ("B", "Because I say so", "unparsable"),
        ("B", "", "unparsable"),
    ],
)
def test_choice(gold: str, answer: str, outcome: str) -> None:
    assert choice(gold, answer).outcome == outcome


def test_choice_and_regex_refuse_golds_that_make_no_sense() -> None:
    for gold in ("12", "", "because", "A-1"):
        with pytest.raises(BadGold):
            choice(gold, "A")
    for gold in ("(", ""):
        with pytest.raises(BadGold):
            regex(gold, "A")


def test_regex_matches_the_whole_message() -> None:
    assert regex(r"\d{3}", " 123\n").outcome == "correct"
    assert regex(r"\d{3}", "1234").outcome == "wrong"
    assert regex(r"yes.*", "yes\nindeed").outcome == "correct"
    assert regex(r"\d{3}", "").outcome == "unparsable"


def entry(task: str, answer: str) -> str:
    return json.dumps({"question": "", "answer": answer, "metadata": {"source_dataset": task}})


def test_reasoning_gym_counts_a_score_of_one_alone() -> None:
    pytest.importorskip("reasoning_gym")
    assert reasoning_gym(entry("chain_sum", "-4"), "-4").outcome == "correct"
    assert reasoning_gym(entry("chain_sum", "-4"), "The answer is -4.").outcome == "correct"
    assert reasoning_gym(entry("chain_sum", "-4"), "1 2 3 -4 5")[:3] == ("wrong", 0.0, "score 0.2; only 1.0 counts")
    assert reasoning_gym(entry("chain_sum", "-4"), "").outcome == "unparsable"
    assert reasoning_gym(entry("chain_sum", "-4"), "<think>5</think>\n-4")[:3] == ("correct", 1.0, "score 1.0")
    assert reasoning_gym(entry("chain_sum", "-4"), "<think>-4</think>\n5").outcome == "wrong"
    assert reasoning_gym(entry("chain_sum", "-4"), "<think>\n-4").outcome == "wrong"


@pytest.mark.parametrize("task", sorted(REFUSED))
def test_reasoning_gym_tasks_that_evaluate_answers_are_refused(task: str) -> None:
    with pytest.raises(BadGold, match=f"scorer of {task} evaluates what it is given as code"):
        reasoning_gym(entry(task, "1"), "__import__('os')")


def test_reasoning_gym_golds_are_checked() -> None:
    pytest.importorskip("reasoning_gym")
    for gold, why in (
        ("{}", "no"),
        ("4", "no"),
        ("nope", "no"),
        (entry("no_such_task", "1"), "no task 'no_such_task'"),
    ):
        with pytest.raises(BadGold, match=why):
            reasoning_gym(gold, "1")


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_grader_checks_its_gold_before_it_looks_at_the_answer(name: str) -> None:
    for answer in ("", "1"):
        assert grade(name, "", answer).outcome == "error"


CHOICES = [json.loads(line) for line in (Path(__file__).parent / "choices.jsonl").read_text("utf-8").splitlines()]


def test_choices_are_graded_as_labelled() -> None:
    graded = [(case, grade("choice", case["gold"], case["answer"])) for case in CHOICES]
    assert [
        f"{case['gold']} | {case['answer']} | {found.outcome}: {found.reason}"
        for case, found in graded
        if (found.outcome == "correct") != case["correct"]
    ] == []
    assert {case["correct"] for case in CHOICES} == {True, False}


@pytest.mark.parametrize(
    "text", ["A, " * 700, "not " * 500 + "B", "answer " * 280 + "B", "(A) or " * 300, "so " * 660 + "A"]
)
def test_long_texts_are_searched_for_letters_in_linear_time(text: str) -> None:
    start = time.process_time()
    grade("choice", "B", text)
    assert time.process_time() - start < 1.0
