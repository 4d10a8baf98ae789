"""Labelled cases of each kind of fault that graders have, right answers and near misses (`kinds.jsonl`)."""

import json
from itertools import groupby
from pathlib import Path

import pytest

from verifier.graders import grade

CASES = [json.loads(line) for line in (Path(__file__).parent / "kinds.jsonl").read_text("utf-8").splitlines()]
KINDS = {kind: list(cases) for kind, cases in groupby(CASES, key=lambda case: case["kind"])}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_graded_as_labelled(kind: str) -> None:
    graded = [(case, grade(case.get("grader", "math"), case["gold"], case["answer"])) for case in KINDS[kind]]
    assert [
        f"{case['gold']} | {case['answer']} | {found.outcome}: {found.reason}"
        for case, found in graded
        if (found.outcome == "correct") != case["correct"]
    ] == []


def test_each_kind_has_right_answers_and_near_misses() -> None:
    assert len(KINDS) == len({case["kind"] for case in CASES})
    assert all({case["correct"] for case in cases} == {True, False} for cases in KINDS.values())
