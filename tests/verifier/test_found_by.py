"""Every grader says where it found the answer, and what it found."""

import json

import pytest

from verifier.graders import grade

GYM = json.dumps({"question": "1 + 1", "answer": "2", "metadata": {"source_dataset": "chain_sum"}})


@pytest.mark.parametrize(
    ("grader", "gold", "answer", "found_by", "found"),
    [
        ("integer", "7", " 7 ", "whole", "7"),
        ("integer", "7", r"It is \boxed{8}.", "box", "8"),
        ("integer", "7", "The answer is 7.", "stated", "7"),
        ("integer", "7", "It takes 3 and 4.\n\nAnswer: 7", "line", "7"),
        ("math", "7", "It takes 3 and 4.\n\n**Answer: 7**", "line", "7"),
        ("math", "7", "It takes 3 and 4. So the answer: 7", "stated", "7"),
        ("integer", "7", "I do not know", "none", ""),
        ("choice", "B", r"\boxed{B}", "box", "B"),
        ("choice", "B", "<answer>(A) and (C)</answer>", "tag", "A, C"),
        ("choice", "B", "I would go with (B) here, as A fails.", "stated", "B"),
        ("choice", "B", "After some thought:\nB", "last", "B"),
        ("choice", "B", "None of these.", "none", ""),
        ("string", "red", " red\n", "whole", "red"),
        ("regex", "r.d", "rod", "whole", "rod"),
        ("reasoning_gym", GYM, r"So it is \boxed{2}", "box", "2"),
    ],
)
def test_a_grade_says_where_the_answer_was(grader: str, gold: str, answer: str, found_by: str, found: str) -> None:
    if grader == "reasoning_gym":
        pytest.importorskip("reasoning_gym")
    given = grade(grader, gold, answer)
    assert (given.found_by, given.answer) == (found_by, found)
