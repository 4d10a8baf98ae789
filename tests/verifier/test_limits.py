"""Answers that are slow to grade are refused by a stated limit, long before the time runs out."""

import time

import pytest

from verifier.graders import grade

MAX_CPU_S = 1.5
"""Generous: each takes less than 0.5 s on a quiet machine, and took 12 s or more without its limit."""


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\sin(x)", r"\sin " + "x " * 280),
        ("x", "x " * 280),
        ("x", r"\int " + "x " * 280),
        ("x", r"\sum_{i=1}^n \sin " + "x " * 200),
        ("x", r"\lim_{x\to 0} " + r"\ln x y z " * 40),
        ("x", r"\frac{1}{x}" * 50),
        ("x", "x!" * 250),
        ("x", "y''" * 100),
        ("x", r"\frac{dy}{dx}" * 40),
        ("x", r"\frac{d" + "x" * 300 + "}{dx}"),
        ("x", "x^" * 250 + "x"),
        (r"\pi", "e^{e^{e^{e^e}}}"),
        (r"\pi", "e^{e^{e^{20}}}"),
        ("x", r"\binom{10^9}{x}"),
        ("x", "(" + r"\pm 1," * 100 + "1)"),
        ("x", "5 km " * 100),
        ("x", r"\gcd(x,y)" * 40),
        ("x", "x_" * 250 + "x"),
        (r"\sum_{k=1}^n k x^k", r"\sum_{k=1}^n k x^{k+1}"),
    ],
    ids=lambda text: text[:24],
)
def test_a_slow_answer_is_refused_fast(gold: str, answer: str) -> None:
    start = time.process_time()
    outcome = grade("math", gold, rf"\boxed{{{answer}}}").outcome
    assert outcome in ("wrong", "unparsable")
    assert time.process_time() - start < MAX_CPU_S


@pytest.mark.parametrize(
    "answer",
    [
        "#### " + "x" * 10_000 + " " * 9_000 + "y",
        "Answer:" + " " * 19_000 + "5",
        "The answer is" + " " * 19_000 + "6",
        r"\boxed{6}" + " " * 15_000 + "is wrong",
        r"\boxed{6}" + "but " * 4_000,
        "a, " * 6_000 + "6",
        "The answer is 6 apples for " * 700,
        "1 hour " * 2_500,
        "4 cars in the first 20 minutes " * 600,
        "f(x) or " * 2_500,
        "<think>" * 2_800,
    ],
    ids=lambda text: text[:24],
)
def test_a_long_message_is_searched_in_linear_time(answer: str) -> None:
    start = time.process_time()
    grade("math", "5", answer)
    assert time.process_time() - start < MAX_CPU_S


def test_a_limit_is_named_in_the_reason() -> None:
    assert "vertical lines" in grade("math", "x", r"\boxed{" + "|x|" * 20 + "}").reason
    assert "exponent" in grade("math", "x", r"\boxed{x^x^x^x^x^x^x}").reason
    assert "too large" in grade("math", r"\pi", r"\boxed{e^{e^{e^{20}}}}").reason
