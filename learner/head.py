"""Computes log-probabilities of chosen tokens from hidden states and the output layer, in bounded memory.

    hidden [T, D], weight [V, D] --a chunk of tokens at a time--> logits --softmax in float32--> logprobs, entropies [T]

What autograd would keep are several [T, V] tensors. Here the gradient is written down, one chunk of logits is alive at a
time, and only the newest is kept for the backward pass; the others are computed again there. Products are of the dtype of
`hidden`; sums over D, the softmax, and sums of gradients over chunks are float32. (On a CPU a bfloat16 product is rounded to
bfloat16 once it is summed.)

    z = (h W' + b) / temperature,  p = softmax(z),  logprob = z_c - log sum e^z,  entropy H = -sum p log p
    d logprob / dz = 1_c - p,      dH / dz = -p (log p + H)

Legend: T tokens, D width, V vocabulary, c the chosen token.
"""

from typing import Any

import torch
from torch import Tensor

from learner.products import product

LOGITS_PER_CHUNK = 1 << 24
"""Float32 logits computed at a time on a CPU: 64 MiB."""
LOGITS_PER_CUDA_CHUNK = 1 << 27
"""The same on a GPU: 512 MiB. Each chunk reads the weight once and the sum of its gradients twice, so a chunk must have hundreds
of tokens, or memory traffic takes longer than the products."""


def weight_of(layer: Any) -> Tensor:
    """What a linear layer multiplies by, the change by its low-rank adapter (peft) included; differentiable. [out, in]"""
    weight: Tensor = layer.weight
    if hasattr(layer, "get_delta_weight") and not layer.disable_adapters:
        for name in layer.active_adapters:
            weight = weight + layer.get_delta_weight(name)
    return weight


def chosen_logprobs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    token_ids: Tensor,
    temperature: Tensor,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Log softmax((hidden weight' + bias) / temperature) of the chosen tokens, and the entropy, float32.

    Differentiable in hidden, weight and bias.

    Args:
        hidden: float32 or bfloat16, which the products are computed in. [T, D]
        weight: [V, D]
        bias: [V], or None
        token_ids: [T]
        temperature: [T]
        with_entropy: return the entropy, [T], instead of None

    """
    logprobs, entropy = _ChosenLogprobs.apply(hidden, weight, bias, token_ids, temperature, with_entropy)
    return logprobs, entropy if with_entropy else None


class _ChosenLogprobs(torch.autograd.Function):
    """`chosen_logprobs` with its gradient; the entropy is undefined where none is asked for."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        token_ids: Tensor,
        temperature: Tensor,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        size = max((LOGITS_PER_CUDA_CHUNK if hidden.is_cuda else LOGITS_PER_CHUNK) // weight.shape[0], 1)
        product_weight = weight.to(hidden.dtype)
        logprobs, normaliser, entropy = (hidden.new_empty(len(token_ids), dtype=torch.float32) for _ in range(3))
        logits = None
        for start in range(0, len(token_ids), size):
            part = slice(start, start + size)
            logits = _logits(hidden[part], product_weight, bias, temperature[part])
            normaliser[part] = torch.logsumexp(logits, dim=-1)
            logprobs[part] = logits.gather(-1, token_ids[part, None]).squeeze(-1) - normaliser[part]
            if with_entropy:
                entropy[part] = _entropy(logits, normaliser[part])
        ctx.save_for_backward(hidden, weight, bias, token_ids, temperature, normaliser, entropy)
        ctx.size, ctx.with_entropy, ctx.last_logits = size, with_entropy, logits
        if not with_entropy:
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        by_logprob, by_entropy = outer
        hidden, weight, bias, token_ids, temperature, normaliser, entropy = ctx.saved_tensors
        product_weight = weight.to(hidden.dtype)
        of_hidden = torch.empty_like(hidden)
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None else None
        last = ctx.size * ((len(token_ids) - 1) // ctx.size) if len(token_ids) else 0
        for start in range(0, len(token_ids), ctx.size):
            part = slice(start, start + ctx.size)
            logits = ctx.last_logits if start == last else None
            if logits is None:
                logits = _logits(hidden[part], product_weight, bias, temperature[part])
            by_logits = _by_logits(
                logits, normaliser[part], token_ids[part], by_logprob[part],
                (entropy[part], by_entropy[part]) if ctx.with_entropy else None,
            )  # fmt: skip
            by_logits /= temperature[part, None]
            if of_bias is not None:
                of_bias += by_logits.sum(0)
            by_logits = by_logits.to(hidden.dtype)
            of_hidden[part] = product(by_logits, product_weight)
            if of_weight is not None:
                _add_product(of_weight, by_logits.T, hidden[part])
        ctx.last_logits = None
        grads = (of_weight, of_bias)
        of_weight, of_bias = (None if g is None else g.to(p.dtype) for g, p in zip(grads, (weight, bias), strict=True))
        return of_hidden, of_weight, of_bias, None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: Tensor) -> Tensor:
    """Logits at a temperature, float32. [T, V]"""
    if hidden.is_cuda and hidden.dtype != torch.float32:
        logits = torch.mm(hidden, weight.T, out_dtype=torch.float32)
    else:
        logits = product(hidden, weight.T).float()
    if bias is not None:
        logits += bias
    return logits.div_(temperature.unsqueeze(-1))


def _entropy(logits: Tensor, normaliser: Tensor) -> Tensor:
    """Entropy of softmax(logits). [T, V], [T] -> [T]"""
    return normaliser - ((logits - normaliser.unsqueeze(-1)).exp_().mul_(logits)).sum(-1)


def _by_logits(
    logits: Tensor,
    normaliser: Tensor,
    token_ids: Tensor,
    by_logprob: Tensor,
    entropy: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Gradient with respect to the logits, which it may overwrite. `entropy`: entropies, and the gradient by them. [T, V]"""
    logits -= normaliser.unsqueeze(-1)
    if entropy is None:
        result = logits.exp_()
        result *= -by_logprob.unsqueeze(-1)
    else:
        value, by_entropy = (part.unsqueeze(-1) for part in entropy)
        slope = -by_logprob.unsqueeze(-1) - by_entropy * (logits + value)
        result = logits.exp_().mul_(slope)
    result.scatter_add_(-1, token_ids.unsqueeze(-1), by_logprob.unsqueeze(-1))
    return result


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to a float32 total."""
    if not left.is_cuda:
        total += product(left, right)
    elif left.dtype == torch.float32:
        total.addmm_(left, right)
    else:
        torch.addmm(total, left, right, out_dtype=torch.float32, out=total)
