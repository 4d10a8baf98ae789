"""The model and its optimizer: trained groups in, better weights and the update's metrics out. No Kafka, no files."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from learner.batches import MicroBatch, collate, micro_batches, weigh
from learner.groups import Group
from learner.loss import TokenStatistics, chosen_logprobs, combine, tis_loss, token_statistics
from stream.config import LearnerTable
from stream.errors import UserError

# Models that change the logits after the output embedding: the learner takes that embedding by itself, to never hold
# logits of prompt and padding tokens, and would compute other probabilities than the engine.
_LOGIT_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")


def load_model(path: str, device: torch.device) -> Any:
    """A transformers causal language model in float32.

    Raises:
        UserError: it does not load, or its logits are changed behind the output embedding.

    """
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"run.model is {path!r}, which does not load ({first}); give a transformers model") from None
    changed = [name for name in _LOGIT_CHANGES if getattr(model.config, name, None)]
    if changed:
        raise UserError(
            f"run.model {path!r} sets {changed[0]}, which the learner does not support; choose another model"
        )
    return model.to(device).eval()  # no dropout: the ratio compares the same function with itself


class Trainer:
    """One policy being trained."""

    def __init__(self, model: Any, table: LearnerTable, pad_token_id: int) -> None:
        self.model = model
        self._table = table
        self._pad_token_id = pad_token_id
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=table.lr,
            betas=(table.beta1, table.beta2),
            weight_decay=table.weight_decay,
        )

    def update(self, groups: Sequence[Group], version: int, step: int) -> dict[str, float]:
        """One optimizer step on groups that have a gradient; `version` is that of the weights now, `step` counts from 0.

        Returns metrics. With no groups nothing changes.
        """
        started = time.monotonic()
        table = self._table
        rollouts = weigh(groups, table.advantage, table.advantage_clamp, table.weighting)
        if not rollouts:
            return {"learner/num_tokens": 0.0}
        loss, statistics, gaps = 0.0, [], []
        for part in micro_batches(rollouts, table.micro_batch_tokens):
            batch = collate(part, self._pad_token_id, self.device)
            part_loss, part_statistics, gap = self._backward(batch, version)
            loss += part_loss
            statistics.append(part_statistics)
            gaps.append(gap)
        grad_norm = self._step(step)
        return {
            "learner/loss": loss,
            "learner/grad_norm": grad_norm,
            "learner/lr": self.optimizer.param_groups[0]["lr"],
            "learner/update_s": time.monotonic() - started,
            **combine(statistics),
            **_logprob_gap(torch.cat(gaps)),
        }

    def current_logprobs(self, batch: MicroBatch) -> Tensor:
        """Log-probabilities of the completion tokens under the weights now. [T]"""
        with self._autocast():
            hidden = self.model.base_model(input_ids=batch.input_ids, use_cache=False).last_hidden_state
            logits = self.model.get_output_embeddings()(hidden[batch.rows, batch.columns])
        return chosen_logprobs(logits, batch.token_ids, batch.temperature)

    def _backward(self, batch: MicroBatch, version: int) -> tuple[float, TokenStatistics, Tensor]:
        current = self.current_logprobs(batch)
        loss = tis_loss(current, batch.behavior_logprobs, batch.advantages, batch.weights, self._table.tis_cap)
        loss.backward()  # type: ignore[no-untyped-call]
        same = batch.policy_versions == version
        gap = (current.detach()[same] - batch.behavior_logprobs[same]).abs()
        return loss.item(), token_statistics(current, batch.behavior_logprobs, self._table.tis_cap), gap

    def _step(self, step: int) -> float:
        warmup = min(1.0, (step + 1) / (self._table.warmup_updates + 1))
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self._table.lr * warmup
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._table.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm.item())

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._table.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self._table.dtype))


def _logprob_gap(gap: Tensor) -> dict[str, float]:
    """How far engine and learner are apart on tokens that the weights being trained have sampled themselves."""
    if gap.numel() == 0:
        return {}
    return {"learner/logprob_gap/mean": gap.mean().item(), "learner/logprob_gap/max": gap.max().item()}
