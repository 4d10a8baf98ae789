import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.extract import Found, find_answer
from verifier.graders import BUILT_IN, grade


@pytest.mark.parametrize(
    ("message", "text", "by"),
    [
        (r"\boxed{41} no: \boxed{\frac{1}{2}}", r"\frac{1}{2}", "box"),
        (r"\boxed{1} and \boxed{2}", "1, 2", "box"),
        (r"\boxed{1}. Later I found \boxed{2}", "2", "box"),
        (r"\boxed{2} and then \boxed{3", "2", "box"),
        (r"\boxed{a_{\{1\}}}", r"a_{\{1\}}", "box"),
        (r"<think>\boxed{1}</think> It is \boxed{2}.", "2", "box"),
        ("<think>so 5", "", "none"),
        ("<answer>5</answer>", "5", "tag"),
        ("<answer></answer> 5", "", "none"),
        ("<answer>1</answer> no: <answer> <answer>2</answer></answer>", "2", "tag"),
        ("Some steps\n#### 5", "5", "hashes"),
        ("The answer is $x^2$.", "x^2", "stated"),
        ("The answer is 5. Wait, the answer is 6.", "6", "stated"),
        ("x^2", "x^2", "whole"),
        ("So it holds that $a$ gives $x^2$ in the end.", "x^2", "last"),
        ("The points are $(0,0)$ and $(1,1)$.", "(0,0), (1,1)", "last"),
        ("I do not know", "", "none"),
        ("", "", "none"),
    ],
)
def test_where_the_answer_is(message: str, text: str, by: str) -> None:
    assert find_answer(message) == Found(text, by)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("There are 5 apples and 7 pears, 12 fruits in all", "12 fruits"),
        ("Calculate 6 + 10.", "6 + 10"),
        (r"The probability is \frac{2}{3}.", r"\frac{2}{3}"),
        ("A path such as /tmp/run-42/file", ""),
        ("See version v42 of it all", ""),
    ],
)
def test_the_last_number_of_prose(message: str, text: str) -> None:
    assert find_answer(message, numeric=True).text == text


ALPHABET = st.sampled_from(
    ["\\boxed{", "{", "}", "(", ")", "[", "]", "$", "\\(", "\\)", "\\frac", "1", "2", "x", " ", "=", ",", "and", "or",
     "\\text{", "\\{", "\\}", "^", "_", "\\pm", "<", "\\le", "\\cup", "\\begin{pmatrix}", "\\end{pmatrix}", "&", "\\\\",
     "answer is", "####", "<answer>", "</answer>", "<think>", "</think>", "%", "\n", "\x00", "\ud800", "½", "-", "/"]
)  # fmt: skip
MESSAGES = st.lists(ALPHABET, max_size=25).map("".join)


@given(st.sampled_from(["42", "x", r"\{1, 2\}", "(1, 2)", r"x < 3", r"\text{red}"]), MESSAGES)
def test_no_message_breaks_a_grader(gold: str, message: str) -> None:
    found = grade("math", gold, message)
    assert found.outcome in ("correct", "wrong", "unparsable")
    assert found.reward == float(found.outcome == "correct")
    assert grade("integer", "42", message).outcome in ("correct", "wrong", "unparsable")
    assert grade("choice", "B", message).outcome in ("correct", "wrong", "unparsable")


@given(MESSAGES)
def test_no_gold_breaks_a_grader(gold: str) -> None:
    for name in sorted(set(BUILT_IN) - {"reasoning_gym"}):
        assert grade(name, gold, r"\boxed{42}").outcome in ("correct", "wrong", "unparsable", "error")


@pytest.mark.parametrize(
    "piece",
    ["(", ")", "{", "\\", "$", "\\[ a", "\\( \\boxed{ a", "1 ", "the answer is ", "=", ",", "\\pm ", "and ", "<answer>",
     "\\boxed{1} ", "\n", "a", "9", "\\frac", "<think>"],
)  # fmt: skip
def test_time_is_bounded_for_long_repetitions(piece: str) -> None:
    message = (piece * 100_000)[:200_000]
    started = time.process_time()
    for gold in ("42", "x^2", "1, 2"):
        grade("math", gold, message)
    assert time.process_time() - started < 20.0  # CPU, of the tenths of a second that it takes; quadratic took minutes
