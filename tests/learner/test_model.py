from pathlib import Path

import pytest
import torch
from torch import nn

from learner import model as network
from learner.model import Policy, chosen_logprobs, decoder_layers, load_model, save_activations

CPU = torch.device("cpu")


def inputs() -> tuple[torch.Tensor, nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(7, 4), nn.Linear(4, 9, bias=False), torch.tensor([0, 3, 8, 5, 1, 1, 7]), torch.rand(7) + 0.5


def test_logprobs_and_entropy_are_those_of_the_tempered_softmax() -> None:
    hidden, head, chosen, temperature = inputs()
    logprobs, entropy = chosen_logprobs(hidden, head, chosen, temperature, with_entropy=True)
    expected = torch.log_softmax(head(hidden) / temperature[:, None], dim=-1)
    assert torch.allclose(logprobs, expected[range(7), chosen], atol=1e-6)
    assert entropy is not None
    assert torch.allclose(entropy, -(expected.exp() * expected).sum(-1), atol=1e-6)
    assert chosen_logprobs(hidden, head, chosen, temperature)[1] is None


@pytest.mark.parametrize("with_entropy", [False, True])
def test_chunks_change_neither_values_nor_gradients(monkeypatch: pytest.MonkeyPatch, with_entropy: bool) -> None:
    def run(chunk: int) -> list[torch.Tensor]:
        monkeypatch.setattr(network, "LOGITS_PER_CHUNK", chunk * 9)
        hidden, head, chosen, temperature = inputs()
        hidden.requires_grad_()
        logprobs, entropy = chosen_logprobs(hidden, head, chosen, temperature, with_entropy)
        total = (logprobs * torch.arange(7)).sum() + (0 if entropy is None else entropy.sum())
        return [logprobs, *torch.autograd.grad(total, [hidden, head.weight])]

    for whole, chunked in zip(run(7), run(2), strict=True):
        assert torch.allclose(whole, chunked, atol=1e-6)


def test_no_tensor_of_all_logits_is_kept_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "LOGITS_PER_CHUNK", 2 * 9)
    hidden, head, chosen, temperature = inputs()
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        chosen_logprobs(hidden.requires_grad_(), head, chosen, temperature)
    assert max(kept) < 2 * 9


def forward(policy: Policy) -> torch.Tensor:
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]])
    rows, columns = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 1])
    return policy(ids, rows, columns, torch.tensor([3, 4, 7]), torch.ones(3))[0]


def test_recomputed_activations_give_the_same_gradient(tiny_model: Path) -> None:
    plain, saving = (load_model(str(tiny_model), CPU) for _ in range(2))
    save_activations(saving)
    assert len(decoder_layers(saving)) == 2
    gradients = []
    for model in (plain, saving):
        calls = []
        decoder_layers(model)[0].self_attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        forward(Policy(model)).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
        assert len(calls) == (2 if model is saving else 1)  # once more in the backward pass
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-7)
    assert not decoder_layers(saving)[0].self_attn.training


def test_bfloat16_bodies_give_float32_logits_close_to_float32(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), CPU)
    exact, rough = forward(Policy(model)), forward(Policy(model, "bfloat16"))
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.02
