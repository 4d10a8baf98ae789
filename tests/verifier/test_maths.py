import json
from collections.abc import Callable
from pathlib import Path

from verifier_helpers import collect

from verifier.pool import Pool

CASES = [json.loads(line) for line in (Path(__file__).parent / "math_cases.jsonl").read_text("utf-8").splitlines()]


def test_the_labelled_cases_are_graded_as_labelled(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(2, timeout_s=60)
    for number, case in enumerate(CASES):
        pool.submit(str(number), "math", case["gold"], case["answer"])
    grades = collect(pool, 600)
    wrong = [
        f"{case['gold']} | {case['answer']} | {case['reason']} | {grades[str(number)]}"
        for number, case in enumerate(CASES)
        if (grades[str(number)].outcome == "correct") != case["correct"]
    ]
    assert wrong == []
    assert all(grade.outcome in ("correct", "wrong", "unparsable") for grade in grades.values())


def test_the_labelled_cases_are_many_and_of_both_kinds() -> None:
    assert len(CASES) >= 400
    assert sum(not case["correct"] for case in CASES) >= 127
    assert all(case["reason"] for case in CASES)
    assert len({(case["gold"], case["answer"]) for case in CASES}) == len(CASES)
