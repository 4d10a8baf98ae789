import pytest
import torch

from learner.batches import MicroBatch
from learner.objectives import Objective, policy_loss
from learner.statistics import Statistics, combine, metrics_of, token_statistics


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    current = -torch.rand(6, 5, dtype=torch.float64)
    return {
        "current": current,
        "behavior": current + 0.8 * torch.randn(6, 5, dtype=torch.float64),
        "mask": torch.rand(6, 5) < 0.7,
        "versions": torch.randint(0, 31, (6, 5)).index_fill(0, torch.tensor([1, 4]), 30),
    }


def statistics_of(rows: slice, values: dict[str, torch.Tensor]) -> Statistics:
    part = {name: value[rows] for name, value in values.items()}
    objective = Objective(trust_region="icepop", mask_high=1.5)
    loss = policy_loss(
        objective, part["current"], part["behavior"], torch.ones(len(part["mask"])), part["mask"],
        token_weights=torch.full((len(part["mask"]),), 0.1),
    )  # fmt: skip
    flat = torch.zeros(0, dtype=torch.int64)
    micro_batch = MicroBatch(
        input_ids=torch.zeros(len(part["mask"]), 8), num_tokens=len(part["mask"]) * 6, rows=flat, columns=flat,
        token_ids=flat, temperature=flat, mask=part["mask"], behavior_logprobs=part["behavior"],
        policy_versions=part["versions"], advantages=flat, token_weights=flat,
    )  # fmt: skip
    return token_statistics(part["current"], micro_batch, 30, loss)


def test_statistics_of_micro_batches_combine_to_those_of_the_whole() -> None:
    values = batch()
    whole = metrics_of(statistics_of(slice(0, 6), values))
    parts = metrics_of(combine([statistics_of(slice(0, 2), values), statistics_of(slice(2, 6), values)]))
    assert parts == pytest.approx(whole)


def test_metrics_against_their_definitions() -> None:
    values = batch(1)
    mask = values["mask"]
    current, behavior, versions = (values[name][mask] for name in ("current", "behavior", "versions"))
    metrics = metrics_of(statistics_of(slice(0, 6), values))
    ratio = (current - behavior).exp()
    n = len(ratio)
    fresh = torch.tensor([bool((values["versions"][i][mask[i]] == 30).all()) for i in range(6)])
    gaps = (values["current"] - values["behavior"]).abs()[fresh[:, None] & mask]
    assert {1, 4} <= set(fresh.nonzero().flatten().tolist()) < set(range(6))
    perplexity = [
        ((values["behavior"] - values["current"])[i][mask[i]].mean().exp().item()) for i in range(6) if mask[i].any()
    ]
    expected = {
        "num_tokens": n,
        "importance_ratio/mean": ratio.mean().item(),
        "importance_ratio/min": ratio.min().item(),
        "importance_ratio/max": ratio.max().item(),
        "ess": (ratio.sum() ** 2 / (n * ratio.square().sum())).item(),
        "rejected_fraction": ((ratio < 0.5) | (ratio > 1.5)).double().mean().item(),
        "truncated_fraction": 0.0,
        "padding_share": 0.25,
        "mismatch_k3": (ratio - ratio.log() - 1).mean().item(),
        "perplexity_ratio": sum(perplexity) / len(perplexity),
        "entropy_estimate": -current.mean().item(),
        "staleness/share_from_0": (versions == 30).double().mean().item(),
        "staleness/share_from_2": ((versions <= 28) & (versions > 26)).double().mean().item(),
        "staleness/share_from_16": (versions <= 14).double().mean().item(),
        "logprob_gap/max": gaps.max().item(),
        "logprob_gap/mean": gaps.mean().item(),
        "logprob_distance": (current - behavior).abs().mean().item(),
    }
    for name, value in expected.items():
        assert metrics[f"learner/{name}"] == pytest.approx(value), name


def test_no_tokens_give_no_gap_and_finite_fractions() -> None:
    values = batch() | {"mask": torch.zeros(6, 5, dtype=torch.bool)}
    metrics = metrics_of(statistics_of(slice(0, 6), values))
    assert metrics["learner/num_tokens"] == metrics["learner/ess"] == metrics["learner/rejected_fraction"] == 0.0
    assert "learner/logprob_gap/mean" not in metrics
