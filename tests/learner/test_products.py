"""Products by oneDNN beside torch's own, and the linear layers made of them beside autograd's."""

import pytest
import torch
from torch import nn

from learner.products import Linear, product, use_fast_products


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (3, 5, 7), (129, 64, 33), (0, 4, 3)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_that_of_torch(m: int, k: int, n: int, transposed: bool) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(m, k), torch.randn(n, k).T if transposed else torch.randn(k, n)
    torch.testing.assert_close(product(left, right), left @ right)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_left_to_torch(dtype: torch.dtype) -> None:
    left, right = torch.randn(3, 4).to(dtype), torch.randn(4, 2).to(dtype)
    assert product(left, right).equal(left @ right)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 5, 6)])
def test_values_and_gradients_of_a_layer_are_autograds(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4, bias=bias))
    values = torch.randn(shape, requires_grad=True)
    inputs = [values, *model.parameters()]
    expected = model(values)
    by_inputs = torch.autograd.grad(expected.sin().sum(), inputs)
    use_fast_products(model)
    result = model(values)
    torch.testing.assert_close(result, expected)
    for one, other in zip(torch.autograd.grad(result.sin().sum(), inputs), by_inputs, strict=True):
        torch.testing.assert_close(one, other)


def test_nothing_is_computed_for_frozen_weights() -> None:
    layer = Linear(3, 2, bias=False).requires_grad_(False)
    values = torch.randn(4, 3, requires_grad=True)
    layer(values).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(values.grad, layer.weight.sum(0).expand(4, 3))


def test_only_plain_linear_layers_are_changed() -> None:
    class Other(nn.Linear):
        pass

    model = nn.ModuleList([nn.Linear(2, 2), Other(2, 2), nn.Embedding(2, 2)])
    names = set(model.state_dict())
    use_fast_products(model)
    assert [type(module) for module in model] == [Linear, Other, nn.Embedding]
    assert set(model.state_dict()) == names
