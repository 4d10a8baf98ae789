"""The policy and its optimizer: trained groups in, better weights and the update's metrics out. No Kafka, no files."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.batches import MicroBatch, collate, micro_batches, weigh
from learner.groups import Group
from learner.model import Policy, save_activations
from learner.objectives import policy_loss
from learner.overlong import Overlong
from learner.presets import objective_of
from learner.statistics import Statistics, combine, metrics_of, token_statistics
from stream.config import LearnerTable


class Trainer:
    """One policy being trained."""

    def __init__(self, model: Any, table: LearnerTable, pad_token_id: int, reference: Any = None) -> None:
        """Take the model over.

        Args:
            model: a transformers causal language model; parameters that need no gradient are not trained.
            table: what is maximised, and how.
            pad_token_id: fills the ends of shorter sequences; any token will do.
            reference: a second model, never trained; needed if the objective has a KL to it.

        Raises:
            UserError: parts of the objective do not go together.

        """
        self.model = model
        self.objective = objective_of(table)
        self.overlong = Overlong(mode=table.overlong, buffer=table.overlong_buffer, factor=table.overlong_factor)
        self.policy = Policy(model, table.dtype)
        self._reference = None if reference is None else Policy(reference, table.dtype)
        self._table = table
        self._pad_token_id = pad_token_id
        self.device = next(model.parameters()).device
        if table.gradient_checkpointing:
            save_activations(model)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=table.lr, betas=(table.beta1, table.beta2), weight_decay=table.weight_decay
        )

    def update(self, groups: Sequence[Group], version: int, step: int) -> dict[str, float]:
        """One update on groups that have a gradient; `version` is that of the weights now, `step` counts from 0.

        Each of `minibatches` shares of the groups makes one optimizer step. Returns metrics. With no groups nothing
        changes.
        """
        started = time.monotonic()
        shares = [share for share in self._shares(groups) if share]
        if not shares:
            return {"learner/num_tokens": 0.0}
        proximal = self._proximal(shares)
        statistics: list[Statistics] = []
        norms: list[float] = []
        for share in shares:
            statistics += [self.backward(batch, version, next(proximal)) for batch in share]
            norms.append(self._step(step))
        return {
            "learner/grad_norm": max(norms),
            "learner/lr": self.optimizer.param_groups[0]["lr"],
            "learner/update_s": time.monotonic() - started,
            "learner/padding_share": _padding_share(shares),
            **metrics_of(combine(statistics)),
        }

    def current_logprobs(self, batch: MicroBatch, with_entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of the completion tokens under the weights now, and entropies. [B, C]"""
        return _forward(self.policy, batch, with_entropy)

    def backward(self, batch: MicroBatch, version: int, proximal: Tensor | None = None) -> Statistics:
        """Add the gradient of one micro-batch. `proximal` [B, C] is None where the weights are still those it is of."""
        objective = self.objective
        current, entropy = self.current_logprobs(batch, bool(objective.entropy_coef))
        reference = None
        if objective.kl_coef:
            assert self._reference is not None, "a KL needs a reference model"
            with torch.no_grad():
                reference, _ = _forward(self._reference, batch, False)
        loss = policy_loss(
            objective,
            current,
            batch.behavior_logprobs,
            batch.advantages,
            batch.mask,
            weights=batch.weights,
            proximal=current.detach() if proximal is None else proximal,
            reference=reference,
            entropy=entropy,
        )
        loss.value.backward()
        return token_statistics(current, batch.behavior_logprobs, batch.mask, batch.policy_versions, version, loss)

    def _shares(self, groups: Sequence[Group]) -> Iterator[list[MicroBatch]]:
        """Micro-batches of each optimizer step."""
        for share in np.array_split(np.arange(len(groups)), self._table.minibatches):
            rollouts = weigh([groups[i] for i in share], self.objective, self.overlong)
            parts = micro_batches(rollouts, self._table.micro_batch_tokens)
            yield [collate(part, self._pad_token_id, self.device) for part in parts]

    def _proximal(self, shares: list[list[MicroBatch]]) -> Iterator[Tensor | None]:
        """Log-probabilities at the start of the update, in the order of the micro-batches."""
        batches = [batch for share in shares for batch in share]
        if self.objective.ratio != "proximal" or len(shares) == 1:
            return iter([None] * len(batches))
        with torch.no_grad():
            return iter([self.current_logprobs(batch)[0] for batch in batches])

    def _step(self, step: int) -> float:
        warmup = min(1.0, (step + 1) / (self._table.warmup_updates + 1))
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self._table.lr * warmup
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self._table.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm.item())


def _forward(
    policy: Callable[..., tuple[Tensor, Tensor | None]], batch: MicroBatch, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    logprobs, entropy = policy(
        batch.input_ids, batch.rows, batch.columns, batch.token_ids, batch.temperature, with_entropy
    )
    return batch.padded(logprobs), None if entropy is None else batch.padded(entropy)


def _padding_share(shares: list[list[MicroBatch]]) -> float:
    """Share of the positions computed that were padding."""
    batches = [batch for share in shares for batch in share]
    return 1 - sum(batch.num_tokens for batch in batches) / sum(batch.input_ids.numel() for batch in batches)
