"""What rollouts on a prompt are worth, given its success rate p (Li et al., arXiv 2509.25849).

V(N) = P(the group has both outcomes) x information gain = (1 - p^N - (1-p)^N) p (1-p)^2. Its increments are sums of
geometric sequences in N, strictly falling, so V is concave (algorithms.md A4).
"""

import numpy as np

from allocator.budget import Floats, Ints


def p_nonzero(p: Floats, num_rollouts: Ints) -> Floats:
    """Probability that N rollouts hold both a success and a failure. [M]"""
    return 1.0 - p**num_rollouts - (1.0 - p) ** num_rollouts


def paper_value(p: Floats, num_rollouts: Ints) -> Floats:
    """V(N) of the paper. [M]"""
    return p_nonzero(p, num_rollouts) * p * (1.0 - p) ** 2


def paper_marginal(p: Floats, num_rollouts: Ints) -> Floats:
    """V(N+1) - V(N) = (p^N q + q^N p) p q^2 with q = 1-p. [M]"""
    q = 1.0 - p
    return (p**num_rollouts * q + q**num_rollouts * p) * p * q**2


def rollouts_needed(p: Floats, confidence: float = 0.9) -> Floats:
    """Rollouts that Theorem 1 asks for: ln(1-confidence) / ln(max(p, q)); inf at p = 0 and 1. [M]

    A necessary bound, not a sufficient one: at p = .5 it gives 4, with which both outcomes show in 87.5 % (A5).
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(1.0 - confidence) / np.log(np.maximum(p, 1.0 - p)))
