import pytest
import torch

from learner.loss import chosen_logprobs, combine, importance_ratio, tis_loss, token_statistics


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_loss_and_gradient_against_hand_computed_numbers() -> None:
    # ratios e^.5 = 1.6487, e^.8 = 2.2255 (capped at 2), e^-.3 = .7408
    current = tensor(-0.5, -1.2, -2.0).requires_grad_()
    behavior, advantage = tensor(-1.0, -2.0, -1.7), tensor(1.0, -0.5, 2.0)
    weights = tensor(0.5, 0.25, 0.25)
    loss = tis_loss(current, behavior, advantage, weights, cap=2.0)
    assert loss.item() == pytest.approx(-(0.5 * 1.6487212707 * -0.5 - 0.25 * 1.0 * -1.2 + 0.25 * 1.4816364414 * -2.0))
    loss.backward()
    assert current.grad is not None
    assert current.grad.tolist() == pytest.approx([-0.5 * 1.6487212707, 0.25, -0.25 * 1.4816364414])


def test_ratio_carries_no_gradient_and_is_one_on_policy() -> None:
    current = tensor(-0.3, -4.0).requires_grad_()
    ratio = importance_ratio(current, current.detach())
    assert not ratio.requires_grad
    assert ratio.tolist() == [1.0, 1.0]


def test_huge_log_ratios_stay_finite() -> None:
    assert torch.isfinite(importance_ratio(tensor(0.0), tensor(-1e6))).all()


def test_statistics_of_micro_batches_combine_to_those_of_the_whole() -> None:
    torch.manual_seed(0)
    current, behavior = torch.randn(50, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    whole = combine([token_statistics(current, behavior, 2.0)])
    parts = combine(
        [token_statistics(current[:7], behavior[:7], 2.0), token_statistics(current[7:], behavior[7:], 2.0)]
    )
    assert parts == pytest.approx(whole)
    ratio = (current - behavior).exp()
    assert whole["learner/ess"] == pytest.approx((ratio.sum() ** 2 / (50 * ratio.square().sum())).item())
    assert whole["learner/truncated_fraction"] == pytest.approx((ratio > 2).double().mean().item())
    assert whole["learner/importance_ratio/max"] == pytest.approx(ratio.max().item())


def test_chosen_logprobs_are_those_of_the_tempered_softmax() -> None:
    torch.manual_seed(0)
    logits, chosen, temperature = torch.randn(4, 9), torch.tensor([0, 3, 8, 5]), torch.tensor([1.0, 0.5, 2.0, 1.0])
    expected = torch.log_softmax(logits / temperature[:, None], dim=-1)[range(4), chosen]
    assert torch.allclose(chosen_logprobs(logits, chosen, temperature), expected, atol=1e-6)
