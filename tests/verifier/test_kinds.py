"""Kinds of wrong answers that were once accepted, a table each, with right answers that must stay right beside them."""

import pytest

from verifier.graders import grade

KINDS: dict[str, list[tuple[str, str, bool]]] = {
    "a function without parentheses ends at a sign of multiplication": [
        (r"\ln(7x)", r"\boxed{\ln 7 \cdot x}", False),
        (r"x\ln 7", r"\boxed{\ln 7 \cdot x}", True),
        (r"\sin(2x)", r"\boxed{\sin x \times 2}", False),
        (r"\cos(x)\sin(x)", r"\boxed{\sin x \cdot \cos x}", True),
        (r"3^x\ln 3", r"\boxed{\ln 3 \cdot 3^x}", True),
        (r"\frac{\sqrt{3}}{2}", r"\boxed{\sin 60^\circ}", True),
    ],
    "primes are part of the name": [
        ("f''(2)", r"\boxed{f'(2)}", False),
        ("f'(2)", r"\boxed{f'(2)}", True),
        ("y''+y=0", r"\boxed{y'+y=0}", False),
        ("y''+y=0", r"\boxed{y''+y=0}", True),
        ("2x", r"\boxed{f'(x) = 2x}", True),
    ],
    "partial derivatives are by their variable": [
        (r"\frac{\partial u}{\partial x}", r"\boxed{\frac{\partial u}{\partial y}}", False),
        (r"\frac{\partial u}{\partial x}", r"\boxed{\frac{\partial u}{\partial x}}", True),
    ],
    "or is not and": [
        (r"p \lor q", r"\boxed{p \land q}", False),
        (r"p \lor q", r"\boxed{p \vee q}", True),
    ],
    "an inverse function is no reciprocal, an order of derivation no power": [
        ("h^{-1}(x)", r"\boxed{\frac{1}{h(x)}}", False),
        ("f^{(3)}(x)", r"\boxed{f^3(x)}", False),
        (r"\arcsin x", r"\boxed{\sin^{-1} x}", True),
        (r"f^{-1}(x) = \frac{x-1}{2}", r"\boxed{\frac{x-1}{2}}", True),
    ],
    "a transpose, and divergence against curl": [
        ("A^T", r"\boxed{A}", False),
        ("A^T", r"\boxed{A^{T}}", True),
        (r"\nabla\cdot F", r"\boxed{\nabla\times F}", False),
    ],
    "large constants are equal in all their digits": [
        (r"(2+\sqrt{3})^{40}", r"\boxed{(2+\sqrt3)^{40}+(2-\sqrt3)^{40}}", False),
        (r"\sqrt{10^{50}+1}", r"\boxed{10^{25}}", False),
        (r"e^{\pi\sqrt{163}}", r"\boxed{262537412640768744}", False),
        (r"7^{10^{6}}", r"\boxed{7^{10^{6}}+1}", False),
        (r"(2+\sqrt{3})^{40}", r"\boxed{(7+4\sqrt3)^{20}}", True),
        (r"10^{30}\pi", r"\boxed{\pi \cdot 10^{30}}", True),
    ],
    "a list of two integers is no fraction": [
        ("2,5", r"\boxed{\frac{5}{2}}", False),
        ("0,5", r"\boxed{50\%}", False),
        ("2,5", r"\boxed{5,2}", True),
        ("2,5", r"\boxed{2, 5}", True),
        ("1,450", r"\boxed{1450}", True),
    ],
    "circled digits are separate": [("③④", r"\boxed{34}", False), ("③④", r"\boxed{③④}", True)],
    "a box that is taken back": [
        ("12", r"\boxed{12} is wrong, it should be 11.", False),
        ("12", r"First \boxed{12}, corrected: \boxed{11", False),
        ("12", r"So the answer is \boxed{12}. This is not hard.", True),
    ],
    "reasoning is no answer": [
        ("12", r"<reasoning>\boxed{12}</reasoning><answer>11</answer>", False),
        ("11", r"<reasoning>\boxed{12}</reasoning><answer>11</answer>", True),
        ("12", r"<thinking>maybe \boxed{12}", False),
        ("12", r"<|channel|>analysis<|message|>\boxed{12}", False),
        ("11", r"<|channel|>analysis<|message|>\boxed{12}<|end|><|channel|>final<|message|>\boxed{11}", True),
        ("12", r"I think \boxed{12}. <answer>11</answer>", False),
    ],
    "the number that is counted, not one of the circumstances": [
        ("4", "The answer is 80 dollars for 4 shirts.", False),
        ("80", "The answer is 80 dollars for 4 shirts.", True),
        ("60", "**Answer:** 25 miles at 60 mph", False),
        ("10", "The answer is 10 feet 3 inches.", False),
        ("7", "The answer is 3 + 4 = 7.", True),
    ],
    "what binds a letter, binds any": [
        (r"\sum_{i=1}^n a_i", r"\boxed{\sum_{k=1}^n a_k}", True),
        (r"\sum_{i=1}^n i b_i", r"\boxed{\sum_{k=1}^n b_k}", False),
        (r"\sum_{k=1}^n k + n", r"\boxed{\frac{n^2+3n}{2}}", True),
        (r"\sum_{k=1}^n k^2", r"\boxed{\sum_{k=1}^k k^2}", False),
        (r"\sum_{k=1}^n f(k)", r"\boxed{n f(k)}", False),
        (r"\int_0^1 f(t)\,dt", r"\boxed{\int_0^1 f(x) dx}", True),
        (r"\int_0^1 f(t)\,dt", r"\boxed{\frac12\int_0^2 f(t)\,dt}", False),
        (r"\ln 3", r"\boxed{\int_1^3 \frac{du}{u}}", True),
        (r"e^2", r"\boxed{\lim_{n \to \infty} (1 + \frac{2}{n})^n}", True),
        (r"e^2", r"\boxed{\lim_{n \to \infty} (1 + \frac{1}{n})^n}", False),
    ],
    "a determinant, and a number times a matrix": [
        (r"\sqrt{2}-3", r"\boxed{\begin{vmatrix}\sqrt2 & 1\\3 & 1\end{vmatrix}}", True),
        (r"\begin{pmatrix}2\\x\end{pmatrix}", r"\boxed{\frac12\begin{pmatrix}4\\2x\end{pmatrix}}", True),
        (r"\begin{pmatrix}2\\x\end{pmatrix}", r"\boxed{2\begin{pmatrix}4\\2x\end{pmatrix}}", False),
    ],
    "Python is no answer": [("9", "solve() or 9", False), ("9", "4 if False else 9", False), ("9", "9", True)],
}


@pytest.mark.parametrize(
    ("gold", "answer", "is_right"),
    [pytest.param(*case, id=f"{kind}: {case[1]}") for kind, cases in KINDS.items() for case in cases],
)
def test_kinds_of_wrong_answers_are_refused_and_right_ones_stay(gold: str, answer: str, is_right: bool) -> None:
    assert (grade("math", gold, answer).outcome == "correct") == is_right


@pytest.mark.parametrize(
    ("answer", "is_right", "found_by"),
    [
        (r"so \boxed{16}", True, "box"),
        ("work <answer>16</answer>", True, "tag"),
        ("work\n#### 16", True, "hashes"),
        ("work\nAnswer: 16", True, "line"),
        ("work\n**Answer:** 16", True, "line"),
        ("work\n**Answer: 16**", True, "line"),
        ("work\nFinal Answer: $16$.", True, "line"),
        ("work\n**Final Answer**: 16", True, "line"),
        ("work\n### Final Answer: 16", True, "line"),
        ("work\n- Answer\uff1a16", True, "line"),
        ("work\n- The answer: 16", True, "line"),
        ("work\nAnswer: 16 or 17", False, "line"),
        ("The answer is 16.", False, "none"),
        ("16", False, "none"),
        ("It must be 16", False, "none"),
        (r"\boxed{15} no, Answer: 16", False, "box"),
    ],
)
def test_strict_counts_only_what_is_marked(answer: str, is_right: bool, found_by: str) -> None:
    strict = grade("math_strict", "16", answer)
    assert (strict.outcome == "correct", strict.found_by) == (is_right, found_by)


def test_a_grade_says_where_its_answer_was_and_whether_it_hangs_on_the_echo_rule() -> None:
    assert grade("math", "16", r"so \boxed{16}")[3:] == ("box", "16", "")
    assert grade("math", "16", "The answer is 16.")[3:] == ("stated", "16", "")
    assert grade("math", "16", r"\boxed{6 + 10}")[3:] == ("box", "6 + 10", "echo")
    assert grade("math", "120", r"\boxed{5!}").rule == "echo"
    assert grade("math", "16", r"\boxed{6 + 11}").rule == ""
    assert len(grade("math", "16", r"\boxed{" + "1+" * 150 + "1}").answer) == 200
