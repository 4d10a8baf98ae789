"""Computes log-probabilities of sampled tokens under a causal language model, in bounded memory.

Logits are float32 whatever the precision of the body, and are computed for completion tokens only, a chunk at a time: a
chunk's logits are dropped and computed again in the backward pass, so that no [tokens, V] tensor lives for long.
Legend: B sequences of a micro-batch, L positions, T completion tokens, flat; D width, V vocabulary.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stream.errors import UserError

# Settings of models that change the logits after the output embedding. The learner calls that embedding directly, so as
# never to hold logits of prompt and padding tokens, and would compute other probabilities than the engine.
_LOGIT_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")

LOGITS_PER_CHUNK = 1 << 24
"""Float32 logits computed at a time: 64 MiB."""


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


class Policy(nn.Module):
    """A causal language model as the objective sees it."""

    def __init__(self, model: Any, dtype: str = "float32") -> None:
        super().__init__()
        self.model = model
        self._dtype: torch.dtype = getattr(torch, dtype)

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
            return chosen_logprobs(hidden[rows, columns].float(), head, token_ids, temperature, with_entropy)

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext() if self._dtype == torch.float32 else torch.autocast(device.type, dtype=self._dtype)


def chosen_logprobs(
    hidden: Tensor, head: nn.Linear, token_ids: Tensor, temperature: Tensor, with_entropy: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Log softmax(head(hidden) / temperature) of the chosen tokens, and the entropy. [T, D], [T], [T] -> [T], [T]"""
    size = max(LOGITS_PER_CHUNK // head.out_features, 1)
    if len(token_ids) <= size:
        return _logprobs_and_entropy(hidden, head, token_ids, temperature, with_entropy)
    parts = [
        checkpoint(_logprobs_and_entropy, *chunk, with_entropy, use_reentrant=False)
        for chunk in zip(
            hidden.split(size), [head] * len(token_ids), token_ids.split(size), temperature.split(size), strict=False
        )
    ]
    logprobs = torch.cat([part[0] for part in parts])
    return logprobs, torch.cat([part[1] for part in parts]) if with_entropy else None


def _logprobs_and_entropy(
    hidden: Tensor, head: nn.Linear, token_ids: Tensor, temperature: Tensor, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    logits = head(hidden).float() / temperature.unsqueeze(-1)
    normaliser = torch.logsumexp(logits, dim=-1)
    chosen = logits.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1) - normaliser
    if not with_entropy:
        return chosen, None
    return chosen, normaliser - ((logits - normaliser.unsqueeze(-1)).exp() * logits).sum(-1)
