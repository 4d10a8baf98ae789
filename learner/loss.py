"""The objective: behavior-anchored policy gradient with truncated importance sampling.

    loss = - sum_t  w_t  sg(min(pi_t / mu_t, C))  A_t  log pi_t

pi are the weights being trained, mu the weights that sampled the token (exact engine logprobs), sg stops the gradient
(algorithms.md B1: bypass mode of verl, PipelineRL; IMPALA's truncation). Legend: T tokens of a micro-batch, flat.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this before exp (verl)."""


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """What the ratios of a micro-batch looked like; sums, so that micro-batches combine. No gradient."""

    num_tokens: int
    ratio_sum: float
    ratio_squared_sum: float
    ratio_min: float
    ratio_max: float
    num_truncated: int
    k3_sum: float
    """Sum of r - log r - 1, an estimate of KL(mu || pi)."""


def importance_ratio(current_logprobs: Tensor, behavior_logprobs: Tensor) -> Tensor:
    """Pi / mu, without gradient. [T]"""
    log_ratio = (current_logprobs.detach() - behavior_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return log_ratio.exp()


def tis_loss(
    current_logprobs: Tensor, behavior_logprobs: Tensor, advantages: Tensor, weights: Tensor, cap: float
) -> Tensor:
    """Scalar loss; all inputs [T]. `weights` sum to 1 over the update, so micro-batches add up to it."""
    ratio = importance_ratio(current_logprobs, behavior_logprobs)
    return -(weights * ratio.clamp(max=cap) * advantages * current_logprobs).sum()


def token_statistics(current_logprobs: Tensor, behavior_logprobs: Tensor, cap: float) -> TokenStatistics:
    """Importance-ratio statistics of a micro-batch; inputs [T], T >= 1."""
    ratio = importance_ratio(current_logprobs, behavior_logprobs).double()
    return TokenStatistics(
        num_tokens=ratio.numel(),
        ratio_sum=ratio.sum().item(),
        ratio_squared_sum=ratio.square().sum().item(),
        ratio_min=ratio.min().item(),
        ratio_max=ratio.max().item(),
        num_truncated=int((ratio > cap).sum().item()),
        k3_sum=(ratio - ratio.log() - 1).sum().item(),
    )


def combine(statistics: list[TokenStatistics]) -> dict[str, float]:
    """Metrics of an update from its micro-batches' statistics."""
    num_tokens = sum(s.num_tokens for s in statistics)
    ratio_sum = sum(s.ratio_sum for s in statistics)
    return {
        "learner/importance_ratio/mean": ratio_sum / num_tokens,
        "learner/importance_ratio/min": min(s.ratio_min for s in statistics),
        "learner/importance_ratio/max": max(s.ratio_max for s in statistics),
        "learner/ess": ratio_sum**2 / (num_tokens * sum(s.ratio_squared_sum for s in statistics)),
        "learner/truncated_fraction": sum(s.num_truncated for s in statistics) / num_tokens,
        "learner/mismatch_k3": sum(s.k3_sum for s in statistics) / num_tokens,
        "learner/num_tokens": float(num_tokens),
    }


def chosen_logprobs(logits: Tensor, token_ids: Tensor, temperature: Tensor) -> Tensor:
    """Log softmax(logits / temperature) of the chosen tokens, in float32. [T, V], [T], [T] -> [T]"""
    scaled = logits.float() / temperature.unsqueeze(-1)
    return torch.gather(scaled, -1, token_ids.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(scaled, dim=-1)
