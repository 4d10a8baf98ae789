"""Multiplies matrices: on a CPU by oneDNN, which on some processors is more than twice as fast as the MKL of torch's `@`.

MKL uses AVX-512 on Intel's processors only: on an AMD EPYC of the newest kind (Zen 5) a core makes 105 GFLOP/s by MKL and 235
by oneDNN, float32 both (products of 1,000 x 128 x 344 to 600 x 576 x 1,536). The sums differ in their last bits.
"""

from typing import Any

import torch
from torch import Tensor, nn


def product(left: Tensor, right: Tensor) -> Tensor:
    """The product of two matrices, not differentiable. [M, K], [K, N] -> [M, N]"""
    if left.is_cpu and left.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
        return result
    return left @ right


class Linear(nn.Linear):
    """A linear layer with its products by `product`, where they are not cast to another precision."""

    def forward(self, values: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        if torch.is_autocast_enabled(values.device.type):
            return super().forward(values)
        result: Tensor = _Product.apply(values, self.weight)
        return result if self.bias is None else result + self.bias


def use_fast_products(model: nn.Module) -> None:
    """Let a model's linear layers multiply by `product`."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


class _Product(torch.autograd.Function):
    """values @ weight.T"""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(values, weight)
        return product(values.reshape(-1, weight.shape[1]), weight.T).view(*values.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, by_result: Tensor) -> tuple[Tensor | None, Tensor | None]:
        values, weight = ctx.saved_tensors
        flat = by_result.reshape(-1, weight.shape[0])
        by_values = product(flat, weight).view_as(values) if ctx.needs_input_grad[0] else None
        by_weight = product(flat.T, values.reshape(-1, weight.shape[1])) if ctx.needs_input_grad[1] else None
        return by_values, by_weight
