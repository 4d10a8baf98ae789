"""Grades with reasoning-gym's own scorers, except those that run what they are given.

Their scores are not binary ("The answer is -4" gets 0.125 for -4): only 1.0 counts.
"""

import json
from functools import lru_cache
from typing import Any

from verifier.extract import Found, find_answer
from verifier.grade import BadGold, Grade, correct, unparsable, wrong
from verifier.marks import after_thinking

REFUSED = frozenset(
    """simple_integration intermediate_integration polynomial_multiplication puzzle24 countdown spiral_matrix
    string_insertion binary_matrix n_queens propositional_logic number_sorting bitwise_arithmetic codeio""".split()
)
"""Tasks of reasoning-gym 0.1.25 whose scorers pass the model's answer, or the problem, to eval, exec or parse_expr."""


def grade_gym(gold: str, answer: str) -> Grade:
    """See `verifier.graders.reasoning_gym`.

    Args:
        gold: an entry of a reasoning-gym data set as JSON: `question`, `answer` and `metadata` with `source_dataset`.

    """
    task, entry = _entry(gold)
    score_answer = _scorer(task)
    if not answer.strip():
        return unparsable("the answer is empty")
    found = find_answer(answer, numeric=True)
    candidates = [
        Found(after_thinking(answer).strip(), "whole"),
        *([found] if found.by in ("box", "tag", "line", "stated") else []),
    ]
    scores = [float(score_answer(candidate.text, entry)) for candidate in candidates]
    best = candidates[scores.index(max(scores))]
    grade = correct("score 1.0") if max(scores) == 1.0 else wrong(f"score {max(scores):g}; only 1.0 counts")
    return grade.at(best.by, best.text)


def _entry(gold: str) -> tuple[str, dict[str, Any]]:
    try:
        entry = json.loads(gold)
        task = entry["metadata"]["source_dataset"]
        if not isinstance(entry["answer"], str) or not isinstance(task, str):
            raise TypeError
    except (ValueError, TypeError, KeyError):
        raise BadGold("not a reasoning-gym entry as JSON, with answer and metadata.source_dataset") from None
    if task in REFUSED:
        raise BadGold(f"reasoning-gym's scorer of {task} evaluates what it is given as code; use grader math or string")
    return task, entry


@lru_cache(maxsize=256)
def _scorer(task: str) -> Any:
    try:
        import reasoning_gym
    except ImportError:
        raise BadGold("grader reasoning_gym needs the package reasoning-gym; run `make smollm2`") from None
    try:
        return reasoning_gym.get_score_answer_fn(task)
    except ValueError:
        raise BadGold(f"reasoning-gym has no task {task!r}") from None
