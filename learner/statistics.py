"""Measures the tokens of an update: sums and maxima that combine over micro-batches and ranks, and metrics from them.

Legend: B rollouts of a micro-batch, C tokens of its longest completion. w = pi / mu: a token's probability under the
weights being trained over that under the weights that sampled it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from learner.batches import MicroBatch
from learner.objectives import MAX_LOG_RATIO, Loss

STALENESS_EDGES = (0, 1, 2, 4, 8, 16)
"""Versions behind from which a bin of the histogram starts; the last one is open."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Sums and maxima over tokens; a minimum is stored negated, as a maximum."""

    sums: dict[str, float]
    maxima: dict[str, float]


def token_statistics(current: Tensor, batch: MicroBatch, version: int, loss: Loss) -> Statistics:
    """Statistics of one micro-batch. `current` [B, C]: its logprobs under the weights being trained, which are `version`."""
    mask, versions = batch.mask, batch.policy_versions
    current, behavior = current.detach(), batch.behavior_logprobs
    now, then = current[mask].double(), behavior[mask].double()
    log_ratio = (now - then).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    # Tokens behind a weight swap were sampled on keys and values of older weights, so only whole rollouts are compared.
    fresh = ((versions == version) | ~mask).all(-1, keepdim=True).expand_as(mask)[mask]
    gap = (now - then).abs()[fresh]
    num_tokens = mask.sum(-1)
    drift = torch.where(mask, (behavior - current).double(), 0.0).sum(-1)[num_tokens > 0]
    drift = (drift / num_tokens[num_tokens > 0]).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    bins = torch.bucketize(
        (version - versions[mask]).clamp(min=0), torch.tensor(STALENESS_EDGES[1:], device=mask.device), right=True
    )
    sums = {
        "num_tokens": mask.sum(),
        "num_rollouts": (num_tokens > 0).sum(),
        "ratio": ratio.sum(),
        "ratio_squared": ratio.square().sum(),
        "k3": (ratio - log_ratio - 1).sum(),
        "num_clipped": loss.clipped.sum(),
        "num_rejected": loss.rejected.sum(),
        "logprob": now.sum(),
        "ppl_ratio": drift.exp().sum(),
        "gap": gap.sum(),
        "distance": (now - then).abs().sum(),
        "num_fresh": fresh.sum(),
        "num_used": torch.tensor(batch.num_tokens),
        "num_positions": torch.tensor(batch.input_ids.numel()),
        "loss": loss.value.detach(),
        "kl": loss.kl,
    }
    for start, count in zip(STALENESS_EDGES, torch.bincount(bins, minlength=len(STALENESS_EDGES)), strict=True):
        sums[f"staleness_{start}"] = count
    maxima = {
        "ratio": ratio.max() if ratio.numel() else -torch.inf,
        "minus_ratio": (-ratio).max() if ratio.numel() else -torch.inf,
        "gap": gap.max() if gap.numel() else -torch.inf,
    }
    return Statistics({k: float(v) for k, v in sums.items()}, {k: float(v) for k, v in maxima.items()})


def combine(statistics: Iterable[Statistics]) -> Statistics:
    """Statistics of all their tokens together."""
    first, *others = statistics
    sums, maxima = dict(first.sums), dict(first.maxima)
    for other in others:
        sums = {key: value + other.sums[key] for key, value in sums.items()}
        maxima = {key: max(value, other.maxima[key]) for key, value in maxima.items()}
    return Statistics(sums, maxima)


def metrics_of(statistics: Statistics) -> dict[str, float]:
    """Metrics of an update, under their public names (docs/metrics.md)."""
    s, maxima = statistics.sums, statistics.maxima
    num_tokens = max(s["num_tokens"], 1.0)
    metrics = {
        "learner/loss": s["loss"],
        "learner/num_tokens": s["num_tokens"],
        "learner/padding_share": 1 - s["num_used"] / max(s["num_positions"], 1.0),
        "learner/importance_ratio/mean": s["ratio"] / num_tokens,
        "learner/importance_ratio/min": -maxima["minus_ratio"],
        "learner/importance_ratio/max": maxima["ratio"],
        "learner/ess": s["ratio"] ** 2 / (num_tokens * max(s["ratio_squared"], 1e-300)),
        "learner/truncated_fraction": s["num_clipped"] / num_tokens,
        "learner/rejected_fraction": s["num_rejected"] / num_tokens,
        "learner/mismatch_k3": s["k3"] / num_tokens,
        "learner/logprob_distance": s["distance"] / num_tokens,
        "learner/perplexity_ratio": s["ppl_ratio"] / max(s["num_rollouts"], 1.0),
        "learner/entropy_estimate": -s["logprob"] / num_tokens,
        "learner/kl": s["kl"],
    }
    for start in STALENESS_EDGES:
        metrics[f"learner/staleness/share_from_{start}"] = s[f"staleness_{start}"] / num_tokens
    if s["num_fresh"]:
        metrics["learner/logprob_gap/mean"] = s["gap"] / s["num_fresh"]
        metrics["learner/logprob_gap/max"] = maxima["gap"]
    return metrics
