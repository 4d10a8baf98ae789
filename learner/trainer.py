"""Trains the policy: groups with a gradient in, new weights and the update's metrics out. No Kafka, no files.

With several ranks the methods marked "on all ranks" are called on each of them: rank 0 announces the call to the others.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from learner import ranks
from learner.batches import MicroBatch, Sample, collate, empty, micro_batches, minibatches_of
from learner.groups import Group
from learner.lora import add_adapters, base_policy, each_adapter, each_merged, merged_weights
from learner.model import Policy, compile_layers, save_activations
from learner.objectives import policy_loss
from learner.overlong import Overlong
from learner.presets import objective_of
from learner.statistics import Statistics, combine, metrics_of, token_statistics
from stream.config import LearnerTable


class Trainer:
    """One policy being trained."""

    def __init__(self, model: Any, table: LearnerTable, reference: Any = None) -> None:
        """Prepare the model, which the caller no longer changes.

        Args:
            model: a transformers causal language model; with lora_rank > 0 adapters are put in and it is frozen.
            table: what is maximised, and how.
            reference: a second model, never trained; needed if the objective has a KL to it, unless there are adapters.

        Raises:
            UserError: parts of the objective do not go together, or the adapters' targets are not in the model.

        """
        self.model = model
        self.objective = objective_of(table)
        self.overlong = Overlong(mode=table.overlong, buffer=table.overlong_buffer, factor=table.overlong_factor)
        self._table = table
        self.device = next(model.parameters()).device
        if table.lora_rank:
            add_adapters(model, table)
        if table.gradient_checkpointing:
            save_activations(model)
        if table.compile:
            compile_layers(model)
        self.policy = Policy(model, table.dtype, table.head_dtype)
        self._reference = None if reference is None else Policy(reference, table.dtype, table.head_dtype)
        if ranks.world_size() > 1:
            ranks.shard(self.policy)
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self._trained.values(),
            lr=table.lr,
            betas=(table.beta1, table.beta2),
            weight_decay=table.weight_decay,
            fused=True,  # one pass over weights and moments instead of a dozen
        )

    # -- updates ------------------------------------------------------------------------------------------------------

    def update(self, groups: Sequence[Group], version: int, step: int) -> dict[str, float]:
        """Train on groups that have a gradient, on all ranks; returns metrics. With no groups nothing changes.

        Each of `minibatches` shares of the groups makes one optimizer step.

        Args:
            groups: those of the update whose ending is `trained`.
            version: of the weights before the update.
            step: number of the update, from 0.

        """
        if ranks.rank() == 0:
            ranks.announce("update", groups=ranks.pack_groups(groups), version=version, step=step)
        started = time.monotonic()
        minibatches = minibatches_of(groups, self.objective, self.overlong, self._table.minibatches)
        shares = [share for share in map(self._collate, minibatches) if share]
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
            **metrics_of(ranks.combine_over_ranks(combine(statistics))),
        }

    def current_logprobs(self, batch: MicroBatch, with_entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of the completion tokens under the weights now, and entropies. [B, C]"""
        return _forward(self.policy, batch, with_entropy)

    def backward(self, batch: MicroBatch, version: int, proximal: Tensor | None = None) -> Statistics:
        """Add the gradient of one micro-batch. `proximal` [B, C] may be None while the weights are still the proximal ones."""
        objective = self.objective
        current, entropy = self.current_logprobs(batch, bool(objective.entropy_coef))
        loss = policy_loss(
            objective,
            current,
            batch.behavior_logprobs,
            batch.advantages,
            batch.mask,
            token_weights=batch.token_weights,
            proximal=current.detach() if proximal is None else proximal,
            reference=self._reference_logprobs(batch) if objective.kl_coef else None,
            entropy=entropy,
        )
        loss.value.backward()
        return token_statistics(current, batch, version, loss)

    def _collate(self, samples: list[Sample]) -> list[MicroBatch]:
        """Micro-batches of this rank; all ranks have equally many, as they run in step."""
        parts = list(micro_batches(samples, self._table.micro_batch_tokens))
        batches = [collate(part, self.device) for part in parts[ranks.rank() :: ranks.world_size()]]
        if len(batches) * ranks.world_size() < len(parts):
            batches.append(empty(collate(parts[0], self.device)))
        return batches

    def _proximal(self, shares: list[list[MicroBatch]]) -> Iterator[Tensor | None]:
        """Log-probabilities at the start of the update, in the order of the micro-batches."""
        batches = [batch for share in shares for batch in share]
        if self.objective.ratio != "proximal" or len(shares) == 1:
            return iter([None] * len(batches))
        with torch.no_grad():
            return iter([self.current_logprobs(batch)[0] for batch in batches])

    @torch.no_grad()
    def _reference_logprobs(self, batch: MicroBatch) -> Tensor:
        if self._table.lora_rank:
            with base_policy(self.model):
                return _forward(self.policy, batch, False)[0]
        if self._reference is None:
            raise ValueError("reference is None, but the objective has a KL to it; give the Trainer one")
        return _forward(self._reference, batch, False)[0]

    def _step(self, step: int) -> float:
        warmup = min(1.0, (step + 1) / (self._table.warmup_updates + 1))
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self._table.lr * warmup
        norm = torch.nn.utils.clip_grad_norm_(self._trained.values(), self._table.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return ranks.whole(norm).item()

    # -- state --------------------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """The whole model's weights under transformers' names, adapters merged, for publishing; on all ranks."""
        if ranks.rank() == 0:
            ranks.announce("weights")
        return merged_weights(self.model)

    def each_weight(self) -> Iterator[tuple[str, Tensor]]:
        """What producers get, tensor by tensor, on the trainer's device: the same, or, with `lora_publish` adapter, the adapters.

        Not to be left half read: it is on all ranks.
        """
        if ranks.rank() == 0:
            ranks.announce("gather")
        return self._each_published()

    def gather(self) -> None:
        """The other ranks' part of `each_weight`."""
        for _ in self._each_published():
            pass

    def _each_published(self) -> Iterator[tuple[str, Tensor]]:
        return each_adapter(self.model) if self._table.lora_publish == "adapter" else each_merged(self.model)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What training has changed: parameters, and the optimizer's state, both by parameter; on all ranks."""
        if ranks.rank() == 0:
            ranks.announce("state")
        parameters = {name: ranks.whole(parameter) for name, parameter in self._trained.items()}
        optimizer = {
            f"{name}:{key}": ranks.whole(value)
            for name, parameter in self._trained.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        return parameters, optimizer

    def load_state(self, parameters: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Restore what `state` returned, also on another number of ranks; called on each of them, not announced.

        Raises:
            ValueError: the state is of another model.

        """
        if set(parameters) != set(self._trained):
            raise ValueError(
                f"checkpoint has parameters {sorted(set(parameters) ^ set(self._trained))[:3]} more or fewer than the "
                "model; start a new run, or go back to the model and lora_rank it was started with"
            )
        for name, parameter in self._trained.items():
            ranks.assign(parameter, parameters[name])
        self.optimizer.state.clear()
        for entry, value in sorted(optimizer.items()):  # ranks.assign needs one order on all ranks
            name, _, key = entry.rpartition(":")
            parameter = self._trained[name]
            target = torch.zeros_like(parameter) if value.dim() else torch.zeros_like(value)
            ranks.assign(target, value)
            self.optimizer.state[parameter][key] = target


def _forward(
    policy: Callable[..., tuple[Tensor, Tensor | None]], batch: MicroBatch, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    logprobs, entropy = policy(
        batch.input_ids, batch.rows, batch.columns, batch.token_ids, batch.temperature, with_entropy
    )
    return batch.padded(logprobs), None if entropy is None else batch.padded(entropy)
