"""Computes log-probabilities of sampled tokens under a causal language model, in bounded memory.

The body computes hidden states of all positions; logits are computed for completion tokens only (`learner.head`).
Legend: B sequences of a micro-batch, L positions, T completion tokens, flat.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from learner.head import chosen_logprobs, weight_of
from learner.products import use_fast_products
from stream.errors import UserError

# Settings of models that change the logits after the output embedding. The learner calls that embedding directly, so as
# never to hold logits of prompt and padding tokens, and would compute other probabilities than the engine.
_LOGIT_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")


def load_model(path: str, device: torch.device) -> Any:
    """A transformers causal language model in float32.

    Raises:
        UserError: it does not load, or its logits are changed behind the output embedding.

    """
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"run.model is {path!r}, which does not load ({first}); give a transformers model") from None
    changed = [name for name in _LOGIT_CHANGES if getattr(model.config, name, None)]
    if changed:
        raise UserError(
            f"run.model {path!r} sets {changed[0]}, which the learner does not support; choose another model"
        )
    return model.to(device).eval()  # no dropout: the ratio compares the same function with itself


def decoder_layers(model: Any) -> list[nn.Module]:
    """The model's blocks, in order: the units of activation checkpointing and of sharding."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def save_activations(model: Any) -> None:
    """Keep only each block's input for the backward pass, and compute the rest again there."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in decoder_layers(model):
        layer.training = True  # of the block alone: transformers checkpoints in training only; its parts stay in eval


def compile_layers(model: Any, backend: str = "inductor") -> None:
    """Let torch.compile fuse what is between the products of each block, for any number of sequences and positions."""
    for layer in decoder_layers(model):
        layer.compile(dynamic=True, backend=backend)


class Policy(nn.Module):
    """A causal language model as the objective sees it."""

    def __init__(self, model: Any, dtype: str = "float32", head_dtype: str = "auto") -> None:
        """Wrap a model.

        Args:
            model: a transformers causal language model.
            dtype: precision of the body's products, `float32` or `bfloat16`.
            head_dtype: the same of the output layer; `auto` is that of the body.

        """
        super().__init__()
        self.model = model
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._head_dtype: torch.dtype = self._dtype if head_dtype == "auto" else getattr(torch, head_dtype)
        if self._dtype == torch.float32 and next(model.parameters()).is_cpu:
            use_fast_products(model)

    def forward(
        self,
        input_ids: Tensor,
        rows: Tensor,
        columns: Tensor,
        token_ids: Tensor,
        temperature: Tensor,
        with_entropy: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of the tokens, and the entropy where each was chosen, float32.

        Args:
            input_ids: [B, L], padded on the right
            rows: sequence of each token. [T]
            columns: position whose logits predict it. [T]
            token_ids: [T]
            temperature: [T]
            with_entropy: return the entropy, [T], instead of None

        """
        with self._autocast(input_ids.device):
            hidden = self.model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        head = self.model.get_output_embeddings()
        with torch.autocast(input_ids.device.type, enabled=False):
            chosen = hidden[rows, columns].to(self._head_dtype)
            return chosen_logprobs(chosen, weight_of(head), head.bias, token_ids, temperature, with_entropy)

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext() if self._dtype == torch.float32 else torch.autocast(device.type, dtype=self._dtype)
