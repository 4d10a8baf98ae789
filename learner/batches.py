"""Turns groups into tensors: samples with advantages, sorted by length, cut into micro-batches of bounded size.

Legend: B samples of a micro-batch, L its longest input, C its longest completion, T its completion tokens, flat.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from learner.advantages import Beliefs, Floats, Ints, advantages, rollout_weights
from learner.groups import Group
from learner.overlong import KEEP, Overlong
from stream.config import Objective
from stream.messages import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Right-padded sequences, and what the loss needs to know of their completions."""

    input_ids: Tensor  # [B, L] int64
    num_tokens: int
    """That the model reads, without padding."""
    rows: Tensor  # [T] int64: sequence of each completion token
    columns: Tensor  # [T] int64: position whose logits predict it
    token_ids: Tensor  # [T] int64
    temperature: Tensor  # [T] float32
    mask: Tensor  # [B, C] bool: where the completions have tokens, T in all
    behavior_logprobs: Tensor  # [B, C] float32
    policy_versions: Tensor  # [B, C] int64: weights that sampled each token
    advantages: Tensor  # [B] float32
    token_weights: Tensor  # [B] float32: the weight of each of a sample's tokens

    def padded(self, flat: Tensor) -> Tensor:
        """Values of the tokens, 0 in the padding; differentiable. [T] -> [B, C]"""
        return flat.new_zeros(self.mask.shape).masked_scatter(self.mask, flat)


@dataclass(frozen=True, slots=True)
class Sample:
    """One rollout in the loss."""

    verdict: Verdict
    advantage: float
    token_weight: float
    """Of each of its tokens."""

    @property
    def length(self) -> int:
        """Tokens of prompt and completion that the model reads: the last one is predicted, and predicts nothing."""
        trajectory = self.verdict.trajectory
        return max(int(trajectory.job.prompt_token_ids.size + trajectory.token_ids.size) - 1, 1)


def samples_of(groups: Sequence[Group], objective: Objective, overlong: Overlong = KEEP) -> list[Sample]:
    """The rollouts that are in the loss, group by group.

    All graded rollouts count in their group's mean, also those that are not in the loss.
    """
    return next(minibatches_of(groups, objective, overlong, 1))


def minibatches_of(
    groups: Sequence[Group], objective: Objective, overlong: Overlong, num_minibatches: int
) -> Iterator[list[Sample]]:
    """The rollouts of each optimizer step: advantages are over all groups together, weights over those of the step."""
    verdicts = [verdict for group in groups for verdict in group.graded]
    number = np.repeat(np.arange(len(groups)), [len(group.graded) for group in groups])
    values = np.zeros(0)
    if verdicts:
        rewards = np.array([overlong.reward(verdict) for verdict in verdicts], dtype=np.float64)
        beliefs = _beliefs(verdicts) if objective.advantage == "belief" else None
        values = advantages(rewards, number, objective.advantage, objective.advantage_clamp, beliefs=beliefs)
    for share in np.array_split(np.arange(len(groups)), num_minibatches):
        rows = np.flatnonzero(np.isin(number, share))
        yield _weighted([verdicts[row] for row in rows], number[rows], values[rows], objective, overlong)


def _beliefs(verdicts: Sequence[Verdict]) -> Beliefs:
    budgetings = [verdict.trajectory.job.budgeting for verdict in verdicts]
    a, b = (np.array([getattr(reason, part, 0.0) for reason in budgetings], dtype=np.float64) for part in "ab")
    return a, b


def _weighted(
    verdicts: Sequence[Verdict], group: Ints, values: Floats, objective: Objective, overlong: Overlong
) -> list[Sample]:
    if not verdicts:
        return []
    num_tokens = np.array([v.trajectory.token_ids.size * overlong.in_loss(v) for v in verdicts], dtype=np.int64)
    max_tokens = max(verdict.trajectory.job.sampling.max_tokens for verdict in verdicts)
    weights = rollout_weights(num_tokens, group, objective.weighting, objective.length_constant or max_tokens)
    samples = map(Sample, verdicts, values.tolist(), weights.tolist())
    return [sample for sample in samples if overlong.in_loss(sample.verdict)]


def micro_batches(samples: Sequence[Sample], max_tokens: int) -> Iterator[list[Sample]]:
    """Samples of similar length together, as many as fit `max_tokens` with padding; a longer one goes alone."""
    batch: list[Sample] = []
    for sample in sorted(samples, key=lambda sample: -sample.length):
        if batch and (len(batch) + 1) * batch[0].length > max_tokens:
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def collate(samples: Sequence[Sample], device: torch.device) -> MicroBatch:
    """Tensors of one micro-batch. Padding, with token 0, is on the right, so causal attention never sees it."""
    trajectories = [sample.verdict.trajectory for sample in samples]
    input_ids = np.zeros((len(samples), max(sample.length for sample in samples)), dtype=np.int64)
    columns = []
    for row, trajectory in enumerate(trajectories):
        prompt, completion = trajectory.job.prompt_token_ids, trajectory.token_ids
        inputs = np.concatenate([prompt, completion])[:-1]
        input_ids[row, : inputs.size] = inputs
        columns.append(np.arange(prompt.size - 1, prompt.size - 1 + completion.size))
    sizes = np.array([trajectory.token_ids.size for trajectory in trajectories])
    mask = np.arange(sizes.max()) < sizes[:, None]

    def flat(values: np.ndarray | Sequence[float], dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=dtype, device=device)

    def padded(arrays: Sequence[np.ndarray], dtype: torch.dtype) -> Tensor:
        filled = np.zeros(mask.shape, arrays[0].dtype)
        filled[mask] = np.concatenate(arrays)
        return torch.as_tensor(filled, dtype=dtype, device=device)

    versions = [
        np.repeat([s.policy_version for s in t.spans], [s.stop - s.start for s in t.spans]) for t in trajectories
    ]
    return MicroBatch(
        input_ids=torch.as_tensor(input_ids, device=device),
        num_tokens=sum(sample.length for sample in samples),
        rows=flat(np.repeat(np.arange(len(samples)), sizes), torch.int64),
        columns=flat(np.concatenate(columns), torch.int64),
        token_ids=flat(np.concatenate([t.token_ids for t in trajectories]), torch.int64),
        temperature=flat(np.repeat([t.job.sampling.temperature for t in trajectories], sizes), torch.float32),
        mask=torch.as_tensor(mask, device=device),
        behavior_logprobs=padded([t.behavior_logprobs for t in trajectories], torch.float32),
        policy_versions=padded(versions, torch.int64),
        advantages=flat([sample.advantage for sample in samples], torch.float32),
        token_weights=flat([sample.token_weight for sample in samples], torch.float32),
    )


def empty(batch: MicroBatch) -> MicroBatch:
    """The same sequences with no tokens in the loss: what a rank without work computes, so that all run in step."""
    return replace(
        batch,
        num_tokens=0,
        rows=batch.rows[:0],
        columns=batch.columns[:0],
        token_ids=batch.token_ids[:0],
        temperature=batch.temperature[:0],
        mask=torch.zeros_like(batch.mask),
    )
