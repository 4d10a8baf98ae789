"""The output layer's logprobs and entropies, and their gradients, beside autograd's."""

import pytest
import torch
from torch import Tensor

from learner import head
from learner.head import chosen_logprobs

T, D, V = 7, 4, 9


class Inputs:
    """Hidden states, an output layer, chosen tokens and temperatures."""

    def __init__(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.hidden = torch.randn(T, D).to(dtype).requires_grad_()
        self.weight = torch.randn(V, D).to(dtype).float().requires_grad_()
        self.bias = torch.randn(V).requires_grad_()
        self.token_ids = torch.tensor([0, 3, 8, 5, 1, 1, 7])
        self.temperature = torch.rand(T) + 0.5
        self.by_logprob, self.by_entropy = torch.randn(T), torch.randn(T)

    def to(self, device: str) -> None:
        """Move everything there."""
        for name, tensor in vars(self).items():
            setattr(self, name, tensor.detach().to(device).requires_grad_(tensor.requires_grad))

    def ours(self, *, with_entropy: bool, biased: bool = True) -> list[Tensor]:
        bias = self.bias if biased else None
        logprobs, entropy = chosen_logprobs(
            self.hidden, self.weight, bias, self.token_ids, self.temperature, with_entropy
        )
        return self._gradients(logprobs, entropy, biased)

    def autograd(self, *, with_entropy: bool, biased: bool = True) -> list[Tensor]:
        logits = self.hidden.float() @ self.weight.T + (self.bias if biased else 0)
        all_logprobs = torch.log_softmax(logits / self.temperature[:, None], dim=-1)
        entropy = -(all_logprobs.exp() * all_logprobs).sum(-1) if with_entropy else None
        return self._gradients(all_logprobs[range(T), self.token_ids], entropy, biased)

    def _gradients(self, logprobs: Tensor, entropy: Tensor | None, biased: bool) -> list[Tensor]:
        total = (logprobs * self.by_logprob).sum()
        if entropy is not None:
            total = total + (entropy * self.by_entropy).sum()
        inputs = [self.hidden, self.weight, *([self.bias] if biased else [])]
        values = [logprobs.detach(), *([] if entropy is None else [entropy.detach()])]
        return [*values, *torch.autograd.grad(total, inputs)]


@pytest.mark.parametrize("chunk", [1, 2, 3, T, 100])
@pytest.mark.parametrize("with_entropy", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_values_and_gradients_are_autograds(
    monkeypatch: pytest.MonkeyPatch, chunk: int, with_entropy: bool, biased: bool
) -> None:
    monkeypatch.setattr(head, "LOGITS_PER_CHUNK", chunk * V)
    inputs = Inputs()
    for one, other in zip(
        inputs.ours(with_entropy=with_entropy, biased=biased),
        inputs.autograd(with_entropy=with_entropy, biased=biased),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=2e-6)


def test_no_entropy_is_computed_where_none_is_asked_for() -> None:
    inputs = Inputs()
    assert chosen_logprobs(inputs.hidden, inputs.weight, None, inputs.token_ids, inputs.temperature)[1] is None


def test_a_second_backward_pass_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "LOGITS_PER_CHUNK", 3 * V)
    inputs = Inputs()
    logprobs, _ = chosen_logprobs(inputs.hidden, inputs.weight, None, inputs.token_ids, inputs.temperature)
    first = torch.autograd.grad(logprobs.sum(), [inputs.hidden, inputs.weight], retain_graph=True)
    second = torch.autograd.grad(logprobs.sum(), [inputs.hidden, inputs.weight])
    for one, other in zip(first, second, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_batch_without_tokens_has_gradients_of_zero() -> None:
    hidden, weight = torch.zeros(0, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    logprobs, _ = chosen_logprobs(hidden, weight, None, torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    logprobs.sum().backward()
    assert hidden.grad is not None and hidden.grad.shape == (0, D)
    assert weight.grad is not None and not weight.grad.any()


def test_no_tensor_of_all_logits_is_kept_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "LOGITS_PER_CHUNK", 2 * V)
    inputs = Inputs()
    sizes: list[int] = []
    product = head._logits

    def noted(*arguments: Tensor) -> Tensor:
        sizes.append(product(*arguments).numel())
        return product(*arguments)

    monkeypatch.setattr(head, "_logits", noted)
    logprobs, _ = chosen_logprobs(inputs.hidden, inputs.weight, None, inputs.token_ids, inputs.temperature)
    assert sizes == [2 * V, 2 * V, 2 * V, V]
    logprobs.sum().backward()
    assert sizes[4:] == [2 * V, 2 * V, 2 * V]  # the last chunk's are still there


def test_bfloat16_products_stay_close_to_the_exact_path() -> None:
    """Rounding of inputs is the same on both sides; products are rounded to 8 bits, the softmax is not."""
    inputs = Inputs(torch.bfloat16)
    rough, exact = inputs.ours(with_entropy=True), inputs.autograd(with_entropy=True)
    assert rough[0].dtype == rough[1].dtype == rough[3].dtype == torch.float32
    assert rough[2].dtype == torch.bfloat16
    for one, other in zip(rough, exact, strict=True):
        assert (one.float() - other.float()).abs().max() <= 2**-6 * max(1.0, other.float().abs().max().item())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("chunk", [3, 1000])
@pytest.mark.parametrize("with_entropy", [False, True])
def test_on_a_gpu_bfloat16_products_give_autograds_values_and_gradients(
    monkeypatch: pytest.MonkeyPatch, chunk: int, with_entropy: bool
) -> None:
    """Logits are float32 sums of bfloat16 products, so values are exact; the gradient by logits is rounded to bfloat16."""
    monkeypatch.setattr(head, "LOGITS_PER_CUDA_CHUNK", chunk * V)
    inputs = Inputs(torch.bfloat16)
    expected = inputs.autograd(with_entropy=with_entropy)
    inputs.to("cuda")
    found = [tensor.cpu().float() for tensor in inputs.ours(with_entropy=with_entropy)]
    num_values = 2 if with_entropy else 1
    for one, other in zip(found[:num_values], expected[:num_values], strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    for one, other in zip(found[num_values:], expected[num_values:], strict=True):
        assert (one - other.float()).norm() < 2**-6 * other.float().norm()
