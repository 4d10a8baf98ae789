import itertools
from collections.abc import Sequence

import pytest
from factories import make_verdict
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from evaluator.scores import Sample, answer_of, majority, metrics_of, pass_at_k


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_one(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(itertools.combinations([i < c for i in range(n)], k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="want 1 <= k <= n and 0 <= c <= n"):
        pass_at_k(n, c, k)


def samples(*answers: str | None) -> list[Sample]:
    """`+x` is right, `x` is wrong, None was not graded."""
    return [Sample(float((a or "").startswith("+")), a) for a in answers]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["+1", "+1/1", "3", "3", "+1.0"], 1.0),  # different texts of the right answer vote together
        (["+1", "3", "3"], 0.0),
        (["+1", "3"], 0.5),
        (["+1", "3", "4"], 1 / 3),
        (["3", "3", "4"], 0.0),
        ([None, None, "+1"], 1.0),
        ([None, None], 0.0),
    ],
)
def test_majority(answers: Sequence[str | None], expected: float) -> None:
    assert majority(samples(*answers)) == pytest.approx(expected)


def test_metrics_of_two_prompts_with_three_samples() -> None:
    metrics = metrics_of([samples("+1", "2", "+1"), samples("3", "3", "+5")])
    assert metrics == pytest.approx(
        {"pass@1": 0.5, "pass@2": (1.0 + 2 / 3) / 2, "pass@3": 1.0, "avg@3": 0.5, "maj@3": 0.5}
    )
    assert metrics_of([samples("+1")]) == {"pass@1": 1.0, "avg@1": 1.0, "maj@1": 1.0}
    assert metrics_of([]) == {}


@pytest.mark.parametrize(
    ("text", "found", "answer"),
    [
        ("so \\boxed{A B}", "A B", "ab"),
        ("first\n Last line \n\n", "", "lastline"),
        ("", "", ""),
        ("x" * 500, "", "x" * 200),
    ],
)
def test_a_vote_is_for_what_the_grader_found_or_the_last_line(text: str, found: str, answer: str) -> None:
    assert answer_of(replace(make_verdict(text=text), answer=found)) == answer
