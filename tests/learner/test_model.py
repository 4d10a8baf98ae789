from pathlib import Path

import pytest
import torch

from learner.model import Policy, decoder_layers, load_model, save_activations

CPU = torch.device("cpu")


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


@pytest.mark.parametrize("head_dtype", ["auto", "float32", "bfloat16"])
def test_bfloat16_bodies_give_float32_logprobs_close_to_float32(tiny_model: Path, head_dtype: str) -> None:
    model = load_model(str(tiny_model), CPU)
    exact, rough = forward(Policy(model)), forward(Policy(model, "bfloat16", head_dtype))
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.02


def test_gradients_in_bfloat16_point_where_the_exact_ones_do(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), CPU)
    gradients = []
    for dtype in ("float32", "bfloat16"):
        model.zero_grad()
        forward(Policy(model, dtype)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999
    assert (gradients[1].norm() / gradients[0].norm() - 1).abs() < 0.02
