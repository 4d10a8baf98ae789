import json
from pathlib import Path

from verifier_helpers import collect

from verifier.graders import grade
from verifier.pool import Pool

CASES = [json.loads(line) for line in (Path(__file__).parent / "math_cases.jsonl").read_text("utf-8").splitlines()]


def test_the_labelled_cases_are_graded_as_labelled() -> None:
    wrong = [
        f"{case['gold']} | {case['answer']} | {case['reason']}"
        for case in CASES
        if (grade("math", case["gold"], case["answer"]).outcome == "correct") != case["correct"]
    ]
    assert wrong == []


def test_the_labelled_cases_are_many_and_of_both_kinds() -> None:
    assert len(CASES) >= 400
    assert sum(not case["correct"] for case in CASES) >= 127
    assert all(case["reason"] for case in CASES)
    assert len({(case["gold"], case["answer"]) for case in CASES}) == len(CASES)


def test_workers_grade_as_this_process_does() -> None:
    pool = Pool(2, timeout_s=60)
    for number, case in enumerate(CASES):
        pool.submit(str(number), "math", case["gold"], case["answer"])
    outcomes = {int(key): grade.outcome for key, grade in collect(pool).items()}
    pool.close()
    wrong = [case for number, case in enumerate(CASES) if (outcomes[number] == "correct") != case["correct"]]
    assert wrong == []
