"""Computes pass@k, avg@k and maj@k from the rewards and answers of prompts' samples. Pure.

Legend: n samples of one prompt, c of them right (reward 1).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from stream.messages import Verdict

RIGHT = "\0right"
"""Votes for any answer that the verifier took for the reference answer, however it was written."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One graded sample, or one that is missing or not graded (reward 0, answer None)."""

    reward: float
    answer: str | None

    @property
    def right(self) -> bool:
        """Full reward."""
        return self.reward >= 1.0


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that k of the n samples, drawn without replacement, hold a right one: 1 - C(n-c, k) / C(n, k).

    Unbiased for the probability that k fresh samples do (Chen et al., arXiv 2107.03374, equation 1).

    Raises:
        ValueError: not 1 <= k <= n or not 0 <= c <= n.

    """
    if not (1 <= k <= n and 0 <= c <= n):
        raise ValueError(f"pass_at_k got n = {n}, c = {c}, k = {k}; want 1 <= k <= n and 0 <= c <= n")
    return 1.0 - comb(n - c, k) / comb(n, k)


def majority(samples: Sequence[Sample]) -> float:
    """1 if the answer that most samples gave is right, 0 if not; where several are most frequent, their mean.

    Samples without an answer do not vote. With no votes at all it is 0.
    """
    votes = Counter(RIGHT if s.right else s.answer for s in samples if s.answer is not None or s.right)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [answer for answer, count in votes.items() if count == most]
    return (RIGHT in winners) / len(winners)


def metrics_of(prompts: Sequence[Sequence[Sample]]) -> dict[str, float]:
    """pass@1, pass@2, pass@4, ... up to the number of samples k, avg@k (mean reward) and maj@k, over all prompts.

    Every prompt has the same number of samples; {} if there are none.
    """
    if not prompts or not prompts[0]:
        return {}
    n = len(prompts[0])
    right = [sum(sample.right for sample in samples) for samples in prompts]
    sizes = sorted({n, *(2**i for i in range(n.bit_length()) if 2**i <= n)})
    metrics = {f"pass@{k}": sum(pass_at_k(n, c, k) for c in right) / len(prompts) for k in sizes}
    metrics[f"avg@{n}"] = sum(s.reward for samples in prompts for s in samples) / (n * len(prompts))
    metrics[f"maj@{n}"] = sum(map(majority, prompts)) / len(prompts)
    return metrics


def answer_of(verdict: Verdict) -> str:
    """What a completion answers, to tell wrong answers apart in a vote: what its grader found, or its last line."""
    lines = [line for line in verdict.trajectory.text.splitlines() if line.strip()]
    text = verdict.answer or (lines[-1] if lines else "")
    return re.sub(r"\s+", "", text).casefold()[:200]
